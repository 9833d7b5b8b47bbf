"""Many rows: an answer holds so many of them, and an address so many ids."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

PAGE = 1000  # rows that are asked for at once
LEAST = 100  # rows that every answer has room for (ServerCalls.check_rows)
IDS = LEAST  # in one address, which has its bounds: no answer about them is cut

Row = TypeVar("Row")
Id = TypeVar("Id")


def every_row(read: Callable[[Row | None, int], Sequence[Row]]) -> list[Row]:
    """All that *read* finds: after a row, None at first, and at most so many at once.

    The API cuts an answer that is too long for it without a word, and its bound may change at any time: only
    an answer that is shorter than any bound is known to be the last.
    """
    rows: list[Row] = []
    while True:
        page = read(rows[-1] if rows else None, PAGE)
        rows += page
        if len(page) < min(PAGE, LEAST):
            return rows


def by_address(ids: Iterable[Id]) -> Iterator[list[Id]]:
    """*ids*, so many at a time as one address holds."""
    every = list(ids)
    for start in range(0, len(every), IDS):
        yield every[start : start + IDS]
