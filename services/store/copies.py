"""The port for copying one store to another; rows are copied as the dataclasses of services/store/tables."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

from services.domain import ConversationId, UserId
from services.errors import BadInput

Row = TypeVar("Row")


class CopiedTable(Protocol[Row]):
    """A table of services/store/tables, as a protocol for stores that do not import that package."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> type[Row]: ...
    @property
    def key(self) -> Callable[[Row], object]: ...


class CopySource(Protocol):
    """A store to copy from, while nothing writes to it. All members may raise Misconfigured or StoreUnavailable."""

    def has_open_turns(self) -> bool: ...

    def user_ids(self) -> list[UserId]:
        """Return the sorted ids of all users who have rows, including deleted users."""
        ...

    def rows(
        self,
        table: CopiedTable[Row],
        user_id: UserId | None,
        conversation_id: ConversationId | None = None,
    ) -> list[Row]:
        """Return the rows of *table*, shared or not, that belong to *user_id*; None: the rows that belong to no user.

        *conversation_id*: return only the rows of this conversation; the table must have this field.
        """
        ...


class CopyTarget(CopySource, Protocol):
    """A store that rows are copied into."""

    @property
    def numbered(self) -> Sequence[str]:
        """The names of the tables whose row ids must be numbers in this store."""
        ...

    def order(self, *, is_ended: bool) -> Sequence[str]:
        """Return the names of a user's tables that this store has, in the order in which their rows are written.

        *is_ended*: the user's account was deleted and its rows were destroyed.
        """
        ...

    def kept(self, table: CopiedTable[Row], rows: list[Row]) -> list[Row]:
        """Return *rows* of another store in the form in which this store's method `rows` returns them after the copy."""
        ...

    def number(self, table: str, ids: Sequence[str]) -> None:
        """Choose the numbers that replace *ids*, the ids of all rows to be copied into *table*, one of `numbered`.

        The same *ids* always get the same numbers, so that an interrupted copy can be continued.
        """

    def at_once(self) -> AbstractContextManager[object]:
        """Return a context manager; all writes inside it are one transaction, unless this store limits the size of transactions."""
        ...

    def put(self, table: CopiedTable[Row], user_id: UserId | None, rows: Sequence[Row]) -> None:
        """Store new rows. In a shared table of a single row, such as the settings, the row may exist already."""


def lacking(table: CopiedTable[Row], wanted: Iterable[Row], stored: Iterable[Row]) -> list[Row]:
    """Return the *wanted* rows that are not *stored*. Raise BadInput if *stored* has a row that is not *wanted*."""
    others = {str(table.key(row)): row for row in stored}
    found = [(row, others.pop(str(table.key(row)), None)) for row in wanted]
    if others or any(other not in (None, row) for row, other in found):
        raise other_data()
    return [row for row, other in found if other is None]


def other_data() -> BadInput:
    return BadInput(
        "The target holds other data: name a new store, or the one of a copy that was cut short."
    )


def chat_missing(conversation_id: ConversationId) -> BadInput:
    return BadInput(f"The chat {conversation_id} is missing, but not all of its rows: delete them.")
