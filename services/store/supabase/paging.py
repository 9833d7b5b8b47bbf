"""Reads of many rows: page by page, and in batches of ids."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

PAGE = 1000  # rows that are asked for at once
LEAST = 100  # rows that every answer has room for (ServerCalls.check_rows), so also the ids of one address

Row = TypeVar("Row")
Id = TypeVar("Id")


def every_row(read: Callable[[Row | None, int], Sequence[Row]]) -> list[Row]:
    """All rows; *read* gets the last row so far, None at first, and a limit, and returns the next page.

    The API cuts long answers without a word, and its bound may change at any time: only
    an answer that is shorter than any bound is known to be the last.
    """
    rows: list[Row] = []
    while True:
        page = read(rows[-1] if rows else None, PAGE)
        rows += page
        if len(page) < min(PAGE, LEAST):
            return rows


def batches(ids: Iterable[Id]) -> Iterator[list[Id]]:
    """*ids*, as many at a time as one address may hold."""
    every = list(ids)
    for start in range(0, len(every), LEAST):
        yield every[start : start + LEAST]
