"""The rules for money, turns, messages, documents and accounts, as pure functions for all stores except Supabase.

For Supabase, the same rules are in SQL (db/migrations); a property test checks that both agree. The current time is an
argument. A refusal has the same reason as in SQL, and is returned, not raised, because the store must still commit
earlier changes of the same call, such as lapsed turns.
"""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Part = TypeVar("Part", bound="DataclassInstance")


def part_of(kind: type[Part], /, *rows: object, **others: object) -> Part:
    """Return an instance of *kind*. Each field is taken from *others*, else from the last of *rows* that has the field."""
    names = [each.name for each in fields(kind)]
    known = {name: getattr(row, name) for row in rows for name in names if hasattr(row, name)}
    return kind(**known | others)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A refusal: its reason, named as in SQL, and numbers that explain the refusal to the user."""

    reason: str
    room: int | None = None  # micro-dollars that the user's own caps leave
    room_of_tokens: int = 0  # tokens that the user's own cap leaves
    per_minute: int = 0  # messages that the user may send in a minute
    wait_seconds: int = 0  # seconds until the next minute, or the end of a throttle's window


NOT_FOUND = Refusal(reason="not_found")
STALE = Refusal(reason="stale")
ADDRESS_TAKEN = Refusal(reason="address_taken")
BUSY = Refusal(reason="busy")
TOO_MANY = Refusal(reason="too_many")
NO_SPACE = Refusal(reason="no_space")
ACCOUNT_FULL = Refusal(reason="account_full")
