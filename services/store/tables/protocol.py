"""The protocol of tables: rows are frozen dataclasses, read and written in atomic blocks.

It fits Firestore: a block reads before it writes and may be run twice; a selection compares declared fields only.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from services.domain import UserId

Row = TypeVar("Row")
Answer = TypeVar("Answer")
MOST_WRITES = 400  # of a block
MOST_BYTES = 900_000  # of a row
_ALL: Mapping[str, object] = {}


@dataclass(frozen=True, slots=True)
class Table(Generic[Row]):
    """A table of rows of one dataclass."""

    name: str
    kind: type[Row]
    key: Callable[[Row], object] = field(repr=False)  # its `str` names the row
    fields: frozenset[str] = field(
        default=frozenset(), repr=False
    )  # fields that a selection may compare or order by
    is_shared: bool = False  # true: one table for the deployment; false: one for each user


@dataclass(frozen=True, slots=True)
class Range:
    """The values of a field that are above one bound and up to the other; None: no bound. None is in no range."""

    field: str
    above: object = None
    up_to: object = None


class Block(Protocol):
    """The reads and writes of one atomic block: no read after a write, at most `MOST_WRITES` writes."""

    def get(self, table: Table[Row], key: object) -> Row | None: ...
    def put(self, table: Table[Row], row: Row) -> None: ...
    def delete(self, table: Table[Row], key: object) -> None: ...

    def select(
        self,
        table: Table[Row],
        where: Mapping[str, object] = _ALL,
        within: Range | None = None,
        order: tuple[str, ...] = (),
        limit: int | None = None,
    ) -> list[Row]:
        """The rows whose fields equal *where*, at most two fields in their *order*; "-field": descending, None last."""
        ...


class Tables(Protocol):
    """The tables of one user, and the shared ones. Any thread may call `run`."""

    def run(self, work: Callable[[Block], Answer]) -> Answer:
        """Run *work*, perhaps twice, and store its writes, all or (where it raises) none. Raise StoreUnavailable."""
        ...


class AllTables(Protocol):
    """The tables of a deployment. Any thread may call any member. All raise StoreUnavailable."""

    def of(self, user_id: UserId | None) -> Tables:
        """The tables of one user, and the shared ones; None: the shared ones alone."""
        ...

    def owners(
        self, table: Table[Row], where: Mapping[str, object] = _ALL, within: Range | None = None
    ) -> list[UserId]:
        """The users who have matching rows in *table*, for the sweep."""
        ...
