"""The admins' actions on the model endpoint, as this process uses it."""

from collections.abc import Callable
from dataclasses import dataclass, field

from services.domain import AccountRole
from services.domain.accounts import Account
from services.errors import AdminsOnly
from services.llm import Models


@dataclass(frozen=True, slots=True)
class ModelServer:
    """Forgets the limits that a refusal has lowered. For users who are not admins, each call raises AdminsOnly.

    The role is the account's, as read at most a few seconds ago. Any thread may call any method.
    """

    models: Models = field(repr=False)
    account: Callable[[], Account] = field(repr=False)

    def forget_refusals(self, name: str) -> None:
        """Use the known limits of the model *name* again, in this process, until its endpoint refuses a request again."""
        self._check_role()
        self.models.forget_refusals(name)

    def _check_role(self) -> None:
        if self.account().role is not AccountRole.ADMIN:
            raise AdminsOnly
