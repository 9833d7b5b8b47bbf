"""The protocol of tables: rows are frozen dataclasses, read and written in atomic blocks.

The protocol fits Firestore: a block (transaction) reads before it writes, and may be run twice; a selection compares
declared fields only.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from services.domain import UserId
from services.domain.turns import Pace
from services.store.operator import Finding

Row = TypeVar("Row")
Answer = TypeVar("Answer")
MOST_WRITES = 400  # maximum writes of one block
MOST_ROW_BYTES = 900_000  # bytes of a row as JSON that every store takes
_ALL: Mapping[str, object] = {}


@dataclass(frozen=True, slots=True)
class Table(Generic[Row]):
    """A table whose rows are objects of one dataclass."""

    name: str
    kind: type[Row]
    # returns a row's key, whose `str` identifies the row in the table
    key: Callable[[Row], object] = field(repr=False)
    # fields that a selection may compare or order by
    fields: frozenset[str] = field(default=frozenset(), repr=False)
    is_shared: bool = False  # True: one table for the deployment; False: one for each user


@dataclass(frozen=True, slots=True)
class Range:
    """The values of *field* that are greater than *above* and at most *up_to* (None: no bound). No range includes None."""

    field: str
    above: object = None
    up_to: object = None


@dataclass(frozen=True, slots=True)
class Selection(Generic[Row]):
    """The arguments of `Block.select`."""

    table: Table[Row]
    where: Mapping[str, object] = field(repr=False)
    within: Range | None = None
    order: tuple[str, ...] = field(default=(), repr=False)
    limit: int | None = None

    def __post_init__(self) -> None:
        """Raise LookupError for a field that is not declared, or an order of more than two fields."""
        ranged = [self.within.field] if self.within else []
        compared = {*self.where, *(name.lstrip("-") for name in self.order), *ranged}
        if missing := compared - self.table.fields or len(self.order) > 2:
            raise LookupError(f"{self.table.name} is not selected by {missing}")


# a table, a key, and the row to store under the key; None instead of a row: delete the stored row
StoredWrite = tuple[Table[Any], str, object]


class Block(Protocol):
    """The reads and writes of one atomic block (transaction): no read after a write, at most `MOST_WRITES` writes."""

    writes: list[StoredWrite]  # the writes of the block so far

    def get(self, table: Table[Row], key: object) -> Row | None: ...
    def get_all(self, table: Table[Row], keys: Iterable[object]) -> list[Row]:
        """Return the rows with *keys*; skip keys without a row."""
        return [row for key in keys if (row := self.get(table, key)) is not None]

    def put(self, table: Table[Row], row: Row) -> None:
        """Store *row* in place of the row with its key, if there is one.

        A store may refuse a row of more than `MOST_ROW_BYTES`: the block then raises RuntimeError and stores nothing.
        """
        ...

    def delete(self, table: Table[Row], key: object) -> None:
        """Delete the row with *key*, if there is one."""
        ...

    def select(
        self,
        table: Table[Row],
        where: Mapping[str, object] = _ALL,
        within: Range | None = None,
        order: tuple[str, ...] = (),
        limit: int | None = None,
    ) -> list[Row]:
        """Return rows whose fields equal *where*, sorted by the fields *order* (at most two); "-field": descending.

        None sorts last. Rows that are equal in all fields of *order* have the same order at each call; a row keeps its place
        when a row with the same declared fields replaces it, and a descending field reverses the order.
        """
        ...


# reads shared tables of an existing store before anything in it changes; raises an error to refuse the store
StoreCheck = Callable[[Block], object]


class Tables(Protocol):
    """The tables of one user and the shared tables. Any thread may call `run`."""

    def run(self, work: Callable[[Block], Answer], *, is_lasting: bool = True) -> Answer:
        """Run *work*, perhaps twice, and store all its writes, or none if it raises. May raise StoreUnavailable.

        If *is_lasting* is False, a power cut may lose the writes: all of them or none.
        """
        ...


class AllTables(Protocol):
    """The tables of a deployment. Any thread may call any member. All members may raise StoreUnavailable."""

    def of(self, user_id: UserId | None) -> Tables:
        """Return the tables of one user with the shared tables; None: only the shared tables."""
        ...

    def owners(
        self, table: Table[Row], where: Mapping[str, object] = _ALL, within: Range | None = None
    ) -> list[UserId]:
        """Return the users who have matching rows in *table*, such as rows that are due for the sweep.

        The result may include users whose rows are damaged.
        """
        ...

    def close(self) -> None:
        """Free the store's files, connections and locks. No member is called afterwards."""


@runtime_checkable
class JoinsBlocks(Protocol):
    """A store that can run several blocks as one transaction, because its transactions may have any size."""

    def joined(self) -> AbstractContextManager[None]:
        """Return a context manager that makes the blocks of this thread one transaction; other threads wait for its end."""
        ...


@runtime_checkable
class ReadsAll(Protocol):
    """A store that reads the rows of all users faster than in a block (transaction) for each user."""

    def rows_of_all(self, table: Table[Row], within: Range | None) -> dict[UserId, list[Row]]:
        """Return the rows in *within*, keyed by user; not all are of the same moment."""
        ...


@runtime_checkable
class SetsPace(Protocol):
    """A store with a pace of its own for live turns, such as a store that bills each write."""

    @property
    def pace(self) -> Pace: ...


def rows_of_all(
    tables: AllTables, table: Table[Row], within: Range | None = None
) -> dict[UserId, list[Row]]:
    """Return the rows of all users in *within*, keyed by user."""
    if isinstance(tables, ReadsAll):
        return tables.rows_of_all(table, within)
    owners = tables.owners(table, within=within)
    return {
        one: tables.of(one).run(lambda block: block.select(table, {}, within)) for one in owners
    }


class StorePlace(Protocol):
    """The place that `DAYBOOK_STORE` names, where a deployment's store exists or will be made."""

    @property
    def kind(self) -> str:
        """The name of this kind of store, as shown on screen, such as "SQLite"."""
        ...

    def exists(self, *, may_be_made: bool = True) -> bool:
        """Return True if there is a store at the place; change nothing.

        Raise Misconfigured if the store is damaged or of a later version, or if the place contains other data or cannot
        be used; if *may_be_made*, also if there is no store and none can be made there.
        """
        ...

    def open(self, *, is_app: bool = True, check: StoreCheck | None = None) -> AllTables:
        """Open the store, and migrate it if it is of an earlier version; create a new store if there is none.

        *is_app*: True for the one process that serves the app, False for an operator's command. Raise Misconfigured if
        the store cannot be opened, and the errors of *check*, which is not called for a new store.
        """
        ...

    def check(self) -> dict[str, Finding]:
        """Check the store at this place; return findings for the operator, keyed by the check's name. Raise Misconfigured."""
        ...

    def backup(self, target: Path) -> None:
        """Copy the store to the new file *target*, even while the app writes.

        Raise Misconfigured, or BadInput with a sentence on how to make a backup of this kind of store instead.
        """
        ...
