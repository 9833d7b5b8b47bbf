"""The rules of money, turns, messages and documents: pure functions, for every store but Supabase's.

SQL states them once more (db/migrations); a property test holds both to one meaning. Time is an argument. A refusal is a
returned value with SQL's reason: a store commits what came before it, such as lapsed turns.
"""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Part = TypeVar("Part", bound="DataclassInstance")


def part_of(kind: type[Part], /, *rows: object, **others: object) -> Part:
    """Return a dataclass of *kind*: *others*, and the fields of the same names that *rows* have, the last one first."""
    names = [each.name for each in fields(kind)]
    known = {name: getattr(row, name) for row in rows for name in names if hasattr(row, name)}
    return kind(**known | others)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A refusal: its reason in SQL, with the figures that belong to a turn's."""

    reason: str
    room: int | None = None  # micro-dollars that the user's own caps leave
    room_of_tokens: int = 0
    per_minute: int = 0  # messages
    wait_seconds: int = 0  # seconds until the next minute


NOT_FOUND = Refusal(reason="not_found")
STALE = Refusal(reason="stale")
BUSY = Refusal(reason="busy")
TOO_MANY = Refusal(reason="too_many")
NO_SPACE = Refusal(reason="no_space")
ACCOUNT_FULL = Refusal(reason="account_full")
