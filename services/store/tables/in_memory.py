"""Tables in the memory of this process, for temporary chats and tests."""

import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from operator import attrgetter
from typing import Any

from services.domain import UserId
from services.store.tables.adapters import CheckedBlock
from services.store.tables.protocol import (
    Answer,
    Block,
    Range,
    Row,
    Selection,
    Table,
)

Rows = dict[str, dict[str, Any]]  # the rows, keyed by the table's name and then by the row's key


class InMemoryTables:
    """Implements `Tables` for one user. Any thread may run a transaction (a block); a lock makes each transaction atomic."""

    def __init__(
        self,
        shared: Rows | None = None,
        lock: AbstractContextManager[bool] | None = None,
        *,
        has_user: bool = True,
    ) -> None:
        """*shared*: the rows of the shared tables, which *lock* guards; None: create new ones.

        *has_user*: False if only the shared tables exist.
        """
        self._rows: Rows = {}
        self._has_user = has_user
        self._shared = {} if shared is None else shared
        self._lock = lock or threading.RLock()

    def run(self, work: Callable[[Block], Answer], *, is_lasting: bool = True) -> Answer:
        with self._lock:
            block = InMemoryBlock(self._of)
            answer = work(block)
            # all tables are looked up first, because that may fail, and then no row may be stored
            writes = [(self._of(table), key, row) for table, key, row in block.writes]
            for rows, key, row in writes:
                if row is None:
                    rows.pop(key, None)
                else:
                    rows[key] = row
            return answer

    def clear(self) -> None:
        """Drop all rows of the user."""
        with self._lock:
            self._rows.clear()

    def _of(self, table: Table[Any]) -> dict[str, Any]:
        if not table.is_shared and not self._has_user:
            raise LookupError(f"{table.name} belongs to users")
        return (self._shared if table.is_shared else self._rows).setdefault(table.name, {})


class InMemoryStore:
    """Implements `AllTables` for a deployment; one lock makes all blocks atomic. Any thread may call any member."""

    def __init__(self) -> None:
        self._shared: Rows = {}
        self._lock = threading.RLock()
        self._tables: dict[UserId | None, InMemoryTables] = {}

    def of(self, user_id: UserId | None) -> InMemoryTables:
        with self._lock:
            if user_id not in self._tables:
                has_user = user_id is not None
                self._tables[user_id] = InMemoryTables(self._shared, self._lock, has_user=has_user)
            return self._tables[user_id]

    def owners(
        self,
        table: Table[Row],
        where: Mapping[str, object] | None = None,
        within: Range | None = None,
    ) -> list[UserId]:
        with self._lock:
            return [
                user_id
                for user_id, tables in self._tables.items()
                if user_id
                and tables.run(lambda block: block.select(table, where or {}, within, limit=1))
            ]

    def close(self) -> None: ...


class InMemoryBlock(CheckedBlock):
    """A `Block` over rows in memory."""

    def __init__(self, rows_of: Callable[[Table[Any]], Mapping[str, Any]]) -> None:
        super().__init__()
        self._rows_of = rows_of

    def get(self, table: Table[Row], key: object) -> Row | None:
        self.check_reading()
        return self._rows_of(table).get(str(key))

    def find(self, selection: Selection[Row]) -> list[Row]:
        return selected(self._rows_of(selection.table).values(), selection)


def selected(rows: Iterable[Row], selection: Selection[Row]) -> list[Row]:
    """Return the rows of a *selection*, of all *rows* of its table."""
    found = list(rows)
    if selection.within:
        found = _within(selection.within, found)
    for name, value in selection.where.items():
        found = [row for row in found if getattr(row, name) == value]
    if selection.order and selection.order[0][0] == "-":
        found.reverse()  # in descending order, the most recently stored of equal rows comes first
    return in_order(found, selection.order)[: selection.limit]


def in_order(rows: Iterable[Row], order: tuple[str, ...]) -> list[Row]:
    """Return *rows* sorted by the fields *order*, as `Block.select` describes; equal rows keep their order."""
    found = list(rows)
    for name in reversed(order):
        value_of = attrgetter(name.lstrip("-"))
        valued = [row for row in found if value_of(row) is not None]
        others = [row for row in found if value_of(row) is None]
        found = [*sorted(valued, key=value_of, reverse=name[0] == "-"), *others]
    return found


def _within(within: Range, rows: Iterable[Row]) -> list[Row]:
    """Return the *rows* within a range, without a Python call for each row: a conversation may have thousands of rows."""
    value_of, above, up_to = attrgetter(within.field), within.above, within.up_to
    return [
        row
        for row in rows
        if (value := value_of(row)) is not None
        and (above is None or value > above)
        and (up_to is None or value <= up_to)
    ]
