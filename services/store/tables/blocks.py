"""Helpers for the methods of a store over tables, each of which runs as one atomic block (transaction)."""

from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar, cast

from services.domain.turns import Reservation
from services.rules import Refusal
from services.store.refusals import error_of
from services.store.tables.protocol import Answer, Block, Row, Table, Tables

Parameters = ParamSpec("Parameters")


class OverTables(Protocol):
    """An object whose methods read and write tables."""

    @property
    def tables(self) -> Tables: ...


Self = TypeVar("Self", bound=OverTables)


def accepted(verb: str, answer: Answer | Refusal, wanted: Reservation | None = None) -> Answer:
    """Return *answer*; if it is a refusal of the call *verb*, raise its error. *wanted*: a turn's requested reservation."""
    if isinstance(answer, Refusal):
        raise error_of(verb, answer, wanted)
    return answer


def atomic(
    method: Callable[Concatenate[Self, Block, Parameters], Answer | Refusal],
) -> Callable[Concatenate[Self, Parameters], Answer]:
    """Make *method* run in one atomic block. If it returns a refusal, store its writes and raise the refusal's error."""

    @wraps(method)
    def verb(self: Self, *args: Parameters.args, **named: Parameters.kwargs) -> Answer:
        work = once_read(method, self, *args, **named)
        return accepted(method.__name__, self.tables.run(work))

    return verb


def once_read(
    method: Callable[..., Answer], self: object, *args: object, **named: object
) -> Callable[[Block], Answer]:
    """Return a function that calls *method* with a block.

    A block may run twice, so iterators among the arguments are converted to lists.
    """
    given, chosen = (
        [_listed(one) for one in args],
        {key: _listed(one) for key, one in named.items()},
    )
    return lambda block: method(self, block, *given, **chosen)


def _listed(one: object) -> object:
    return list(cast(Iterator[object], one)) if isinstance(one, Iterator) else one


def run_until_answered(tables: Tables, work: Callable[[Block], Answer | None]) -> Answer:
    """Run *work* in one block after another, until it returns an answer: None means that it has more to do."""
    while (answer := tables.run(work)) is None:
        pass
    return answer


def found(block: Block, table: Table[Row], keys: Iterable[object]) -> list[Row]:
    """Return the rows with *keys*; skip keys without a row."""
    return block.get_all(table, keys)


def delete_all(block: Block, table: Table[Row], rows: Iterable[Row]) -> None:
    for row in rows:
        block.delete(table, table.key(row))
