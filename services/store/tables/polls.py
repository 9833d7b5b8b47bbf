"""Polls by open tabs, for a store that only one app process uses.

The result of a poll is reused until this process changes data that polls read. An operator's command may also change
data while the app runs, so a result is reused for at most a minute.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from services.caches import LruCache
from services.domain import UserId
from services.domain.revisions import OpenPlace, Revisions
from services.errors import StoreBlocked
from services.store.tables import schema
from services.store.tables.protocol import (
    AllTables,
    Answer,
    Block,
    Range,
    Row,
    SetsPace,
    StoredWrite,
    Table,
    Tables,
    rows_of_all,
)
from services.store.tables.rows import TablesRows

_OLDEST = timedelta(seconds=60)
_PLACES = 16  # maximum number of cached results of one session: one for each place (an open page)
_NO_TESTS: Mapping[str, object] = {}


class Changes:
    """Counts, for each user, the blocks (transactions) in which this process changed data that polls read.

    Any thread may call any member.
    """

    def __init__(self) -> None:
        self._counts, self._lock = Counter[UserId | None](), threading.Lock()
        self.is_blocked = False  # True: a block has raised StoreBlocked since the last sweep began

    def seen(self, user_id: UserId) -> tuple[int, int]:
        """Return the number of changes to the user's tables, and the number of changes to the shared tables.

        While both numbers stay the same, this process has changed no data that the user's polls read.
        """
        return self._counts[user_id], self._counts[None]

    def note(self, user_id: UserId | None, writes: Iterable[StoredWrite]) -> None:
        """Count a block that made these *writes* to a user's tables, if it changed data that polls read."""
        changed = {
            None if table.is_shared else user_id
            for table, _, row in writes
            if not table.is_shared or _is_polled(table, row)
        }
        with self._lock:
            self._counts.update(changed)


def _is_polled(table: Table[object], row: object) -> bool:
    """Return True if a write to a shared table may change polls: to accounts or models, or a session's deletion (no *row*)."""
    return table in (schema.ACCOUNTS, schema.MODELS) or (table == schema.SESSIONS and row is None)


@dataclass(frozen=True, slots=True)
class NotedTables:
    """Implements `Tables` for one user; counts each block in `changes`, even a failed one: its writes may be stored."""

    tables: Tables
    user_id: UserId | None
    changes: Changes

    def run(self, work: Callable[[Block], Answer], *, is_lasting: bool = True) -> Answer:
        last: Block | None = None

        def kept(block: Block) -> Answer:
            nonlocal last
            last = block
            return work(block)

        try:
            return self.tables.run(kept, is_lasting=is_lasting)
        except StoreBlocked:
            self.changes.is_blocked = True
            raise
        finally:
            if last is not None:
                self.changes.note(self.user_id, last.writes)


@dataclass(frozen=True, slots=True)
class NotedStore:
    """Implements `AllTables` for a deployment, and counts the changes by this process."""

    store: AllTables
    changes: Changes = field(default_factory=Changes)

    def of(self, user_id: UserId | None) -> NotedTables:
        return NotedTables(self.store.of(user_id), user_id, self.changes)

    def owners(
        self,
        table: Table[Row],
        where: Mapping[str, object] = _NO_TESTS,
        within: Range | None = None,
    ) -> list[UserId]:
        return self.store.owners(table, where, within)

    def rows_of_all(self, table: Table[Row], within: Range | None) -> dict[UserId, list[Row]]:
        return rows_of_all(self.store, table, within)

    def close(self) -> None:
        self.store.close()


@dataclass(frozen=True, slots=True)
class _Polled:
    """A poll's result and time, and the change counts (`Changes.seen`) before the poll."""

    revisions: Revisions
    at: datetime
    seen: tuple[int, int]


class PolledRows(TablesRows):
    """The rows of one session. A poll reuses the last result for a minute, unless this process has changed data."""

    def __init__(
        self,
        store: NotedStore,
        user_id: UserId,
        tables: Tables,
        now: Callable[[], datetime],
        most_bytes: int | None = None,
    ) -> None:
        super().__init__(user_id, tables, now, most_bytes)
        if isinstance(store.store, SetsPace):
            self.pace = store.store.pace
        self._changes, self._polled = store.changes, LruCache[OpenPlace, _Polled](_PLACES)

    def poll(self, place: OpenPlace) -> Revisions:
        last, now, seen = self._polled.get(place), self.now(), self._changes.seen(self.user_id)
        if last and last.seen == seen and timedelta() <= now - last.at < _OLDEST:
            return last.revisions
        revisions = super().poll(place)
        self._polled.put(place, _Polled(revisions, now, seen))
        return revisions
