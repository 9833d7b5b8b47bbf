"""Code shared by the stores over tables: the tables of one user, and a base class for atomic blocks."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from services.domain import UserId
from services.store.tables.protocol import (
    MOST_WRITES,
    Answer,
    Block,
    Range,
    Row,
    Selection,
    StoredWrite,
    Table,
)


class RunsBlocks(Protocol):
    """A store that runs atomic blocks (transactions) for any user."""

    def run(
        self, user_id: UserId | None, work: Callable[[Block], Answer], *, is_lasting: bool
    ) -> Answer:
        """Run *work* over a user's tables and the shared tables, as `Tables.run` does."""
        ...


@dataclass(frozen=True, slots=True)
class UserTables:
    """Implements `Tables` for one user; if *user_id* is None, only the shared tables exist."""

    store: RunsBlocks
    user_id: UserId | None

    def run(self, work: Callable[[Block], Answer], *, is_lasting: bool = True) -> Answer:
        return self.store.run(self.user_id, work, is_lasting=is_lasting)


class CheckedBlock(Block):
    """Base class of blocks: collects writes, and raises RuntimeError for a use that the protocol `Block` forbids."""

    def __init__(self) -> None:
        self.writes: list[StoredWrite] = []

    def put(self, table: Table[Row], row: Row) -> None:
        self._write(table, table.key(row), row)

    def delete(self, table: Table[Row], key: object) -> None:
        self._write(table, key, None)

    def select(
        self,
        table: Table[Row],
        where: Mapping[str, object] | None = None,
        within: Range | None = None,
        order: tuple[str, ...] = (),
        limit: int | None = None,
    ) -> list[Row]:
        self.check_reading()
        return self.find(Selection(table, where or {}, within, order, limit))

    @abstractmethod
    def find(self, selection: Selection[Row]) -> list[Row]:
        """Return the selected rows, as `select` does."""

    def check_reading(self) -> None:
        if self.writes:
            raise RuntimeError("a block reads before it writes")

    def _write(self, table: Table[Row], key: object, row: object) -> None:
        self.writes.append((table, str(key), row))
        if len(self.writes) > MOST_WRITES:
            raise RuntimeError(f"a block writes more than {MOST_WRITES} rows")
