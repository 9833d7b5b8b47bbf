"""The operator's port: migrations, checks, roles, limits, passwords and copied rows, in plain values.

No member gets the root key, only the keys of server proofs, which are derived from it.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from services.domain import UserId
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


# the rows of a store over tables, by table name; each row with its user (None: a row of a shared table)
CopiedRows = Mapping[str, Sequence[tuple[UserId | None, object]]]


class Operator(Protocol):
    """The operator's calls. All members raise Misconfigured if the store does not answer."""

    def migrate(self, proof_keys: Mapping[int, bytes]) -> Sequence[str]:
        """Apply missing migrations, and make the store accept proofs by *proof_keys*; return the versions applied."""
        ...

    def check(
        self, proof_key: bytes | None, versions: Collection[int], problem: str
    ) -> dict[str, Finding]:
        """Return all findings by name, in the order of their table; change nothing.

        *versions*: the root keys' versions; *problem*: the reason why *proof_key* is None.
        """
        ...

    def grant_admin(self, email: EmailAddress) -> None:
        """Raise BadInput (no such account)."""

    def set_password(self, email: EmailAddress, password: str) -> None:
        """Set the password of an account, and end its sessions. Raise BadInput (no such account)."""

    def set_caps(self, email: EmailAddress | None, changes: Mapping[str, int | None]) -> UserCaps:
        """Change limits of an account, or (None) of new ones; return all limits. Raise BadInput (no such account)."""
        ...

    def load(
        self,
        proof_keys: Mapping[int, bytes],
        make: Callable[[datetime], CopiedRows],
        passwords: Mapping[str, str],
    ) -> None:
        """Store the rows that *make* returns for the store's time, with their ids, all or none.

        *passwords*: users' passwords by address. Raise BadInput if accounts exist.
        """
