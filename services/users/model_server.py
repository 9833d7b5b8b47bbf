"""The admins' actions on the model endpoint, as this process uses it."""

from collections.abc import Callable
from dataclasses import dataclass, field

from services.domain import AccountRole
from services.domain.accounts import Account
from services.domain.health import ConnectionTest, FailedCall
from services.errors import AdminsOnly, UnreadableInput
from services.llm import Models


@dataclass(frozen=True, slots=True)
class ModelServer:
    """Says whether the endpoint answers, tests the connection, and forgets limits that refusals have lowered.

    `test` and `forget_refusals` raise AdminsOnly for users who are not admins; only admins' pages show the rest. The
    role is the account's, as read at most a few seconds ago. Any thread may call any method.
    """

    models: Models = field(repr=False)
    account: Callable[[], Account] = field(repr=False)

    @property
    def outage(self) -> str:
        """A sentence for admins, in Markdown, while the endpoint does not answer; else empty."""
        connection = self.models.connection
        return connection.endpoint.outage if connection else ""

    @property
    def is_on_this_machine(self) -> bool:
        """True for an endpoint at a loopback address; False for the local model, too."""
        connection = self.models.connection
        return connection is not None and connection.endpoint.is_on_this_machine

    @property
    def failures(self) -> list[FailedCall]:
        """The last 50 failed calls of this process, the latest first."""
        return self.models.failures.latest()

    def test(self) -> ConnectionTest:
        """Test the connection, at most every five seconds; until then, return the last result.

        Raise UnreadableInput for the local model, for which no page offers a test.
        """
        self._check_role()
        if self.models.connection is None:
            raise UnreadableInput
        return self.models.connection.test()

    def forget_refusals(self, name: str) -> None:
        """Use the known limits of the model *name* again, in this process, until its endpoint refuses a request again."""
        self._check_role()
        self.models.forget_refusals(name)

    def _check_role(self) -> None:
        if self.account().role is not AccountRole.ADMIN:
            raise AdminsOnly
