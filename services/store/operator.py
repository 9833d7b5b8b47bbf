"""The operator's port: migrations, checks, roles, limits, passwords and the demo, in plain values.

No member gets the root key, only the keys of server proofs, which are derived from it.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from services.domain import AccountRole, UserId
from services.domain.addresses import EmailAddress


class Mark(StrEnum):
    """The severity of a finding."""

    OK = "ok"
    NOTE = "note"
    FAIL = "FAIL"
    UNKNOWN = "?"


Finding = tuple[Mark, str]


@dataclass(frozen=True, slots=True)
class UserCaps:
    """The limits of one account or of new ones, in micro-dollars and tokens."""

    daily_cap_micro: int
    monthly_cap_micro: int
    daily_cap_tokens: int | None  # None: no cap


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """Invented people and their use, as rows of the store."""

    # the people and their addresses; the first may sign in
    people: Sequence[tuple[UserId, str, AccountRole]] = field(repr=False)
    password: str = field(repr=False)  # the password of the first
    since: datetime  # the time at which their accounts began
    rows: Mapping[str, Sequence[tuple[object, ...]]] = field(repr=False)  # the rows of each table
    suspended: Sequence[UserId]
    short_of_budget: UserId


class Operator(Protocol):
    """The operator's calls. All members raise Misconfigured if the store does not answer."""

    def migrate(self, proof_keys: Mapping[int, bytes]) -> Sequence[str]:
        """Bring the store up to date, and let it accept proofs by *proof_keys*; return the versions applied."""
        ...

    def check(
        self, proof_key: bytes | None, versions: Collection[int], problem: str
    ) -> dict[str, Finding]:
        """Return all findings by name, in the order of their table; change nothing.

        *versions*: those of the root keys; *problem*: the reason why there is no *proof_key*.
        """
        ...

    def grant_admin(self, email: EmailAddress) -> None:
        """Raise BadInput (no such account)."""

    def set_password(self, email: EmailAddress, password: str) -> None:
        """Set the password of an account, and end its sessions. Raise BadInput (no such account)."""

    def set_caps(self, email: EmailAddress | None, changes: Mapping[str, int | None]) -> UserCaps:
        """Change limits of an account, or of new ones, and return all. Raise BadInput (no such account)."""
        ...

    def load_demo(self, proof_keys: Mapping[int, bytes], make: Callable[[datetime], Demo]) -> None:
        """Store the rows that *make* returns for the store's time, all or none. Raise BadInput if accounts exist."""
