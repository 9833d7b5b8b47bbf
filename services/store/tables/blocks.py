"""Verbs of a store as atomic blocks over its tables."""

from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar, cast

from services.domain.turns import Reservation
from services.rules import Refusal
from services.store.refusals import error_of
from services.store.tables.protocol import Answer, Block, Row, Table, Tables

Parameters = ParamSpec("Parameters")


class OverTables(Protocol):
    """An object whose verbs run over tables."""

    @property
    def tables(self) -> Tables: ...


Self = TypeVar("Self", bound=OverTables)


def accepted(verb: str, answer: Answer | Refusal, wanted: Reservation | None = None) -> Answer:
    """Return the *answer* of a verb. Raise the error of its refusal; *wanted*: by the refused turn."""
    if isinstance(answer, Refusal):
        raise error_of(verb, answer, wanted)
    return answer


def atomic(
    method: Callable[Concatenate[Self, Block, Parameters], Answer | Refusal],
) -> Callable[Concatenate[Self, Parameters], Answer]:
    """Make a verb of *method*, which it runs in one block. The verb raises the error of a refusal, whose writes are stored."""

    @wraps(method)
    def verb(self: Self, *args: Parameters.args, **named: Parameters.kwargs) -> Answer:
        work = once_read(method, self, *args, **named)
        return accepted(method.__name__, self.tables.run(work))

    return verb


def once_read(
    method: Callable[..., Answer], self: object, *args: object, **named: object
) -> Callable[[Block], Answer]:
    """Return the block of a call. Iterators among its arguments are read once, because a block may run twice."""
    read = [list(cast(Iterator[object], one)) if isinstance(one, Iterator) else one for one in args]
    return lambda block: method(self, block, *read, **named)


def found(block: Block, table: Table[Row], keys: Iterable[object]) -> list[Row]:
    """Return the rows of *keys* that exist."""
    rows = [block.get(table, key) for key in keys]
    return [row for row in rows if row is not None]


def delete_all(block: Block, table: Table[Row], rows: Iterable[Row]) -> None:
    for row in rows:
        block.delete(table, table.key(row))
