"""Processes without threads that end at one point of their work on a store, and the rows that remain."""

import os
import traceback
from itertools import count
from uuid import UUID

from services.store.tables.schema import NONCES, SETTINGS, Nonce, Settings
from tests.runs import IS_WHOLE
from tests.store.on_disk import NOON

BLOCKS = 4
_ENDED = 9  # the exit code of a process that has reached its point
_EVERY = 1 if IS_WHOLE else 3  # points of which one is tried


class Point:
    """Ends the process when it passes this for the *number*-th time."""

    def __init__(self, number):
        self._number, self._seen = number, count(1)

    def __call__(self, *_):
        if next(self._seen) == self._number:
            os._exit(_ENDED)


def kill_at_each(act, look):
    """Count the points of *act*, which a child runs up to each third point, in the long run to each; *look* fails if a write is lost.

    Both get the number of the point. *act* also gets the point, and a function to call when a block is answered; *look* gets the
    number of answers.
    """
    code, number = _ENDED, 1 - _EVERY
    while code == _ENDED:
        number += _EVERY
        answers, end = os.pipe()
        point = Point(number)
        code = in_child(lambda: act(number, point, lambda: os.write(end, b".")))  # noqa: B023 (runs at once)
        os.close(end)
        answered = len(os.read(answers, 1000))
        os.close(answers)
        assert code in (0, _ENDED), f"failed at point {number}"
        assert in_child(lambda: look(number, answered)) == 0, f"lost at point {number}"  # noqa: B023
    return number - _EVERY


def in_child(act):
    """Return the exit code of a forked process that runs *act*."""
    if (pid := os.fork()) == 0:
        try:
            act()
            os._exit(0)
        finally:
            traceback.print_exc()
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def write(tables, numbers, answered=lambda: None):
    """Write a pair of rows in each block; delete one and change another in the last."""
    for number in numbers:

        def pair(block, number=number):
            block.put(NONCES, Nonce(UUID(int=number), NOON))
            block.put(SETTINGS, Settings(retention_days=number))
            if number == BLOCKS:
                block.delete(NONCES, UUID(int=1))

        tables.of(None).run(pair, is_lasting=number % 2 == 0)
        answered()


def look(tables, answered, first=0):
    """Raise AssertionError unless all *answered* blocks after the *first* ones are stored, and none in part."""
    nonces, settings = tables.of(None).run(
        lambda block: (block.select(NONCES), block.get(SETTINGS, "settings"))
    )
    blocks = settings.retention_days if settings else 0
    ids = set(range(1, blocks + 1)) - ({1} if blocks == BLOCKS else set())
    assert first + answered <= blocks <= first + answered + 1
    assert {one.id.int for one in nonces} == ids
