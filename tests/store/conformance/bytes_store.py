"""The example store of CONTRIBUTING.md: the tables of one user in a dict of bytes.

Its blocks are optimistic, as Firestore's are: each works on the rows that were stored when it began, and is run again if
another block has stored since.
"""

from collections.abc import Mapping
from functools import cache
from threading import Lock

from pydantic import TypeAdapter

from services.store.tables.in_memory import CheckedBlock
from services.store.tables.protocol import MOST_BYTES

_DROPPED = 3  # of so many runs of a block one is dropped, so that the suite runs each verb twice


class BytesTables:
    """The `Tables` of one user, each row as JSON. Any thread may call `run`."""

    def __init__(self):
        self._stored = {}  # bytes by the name of their table and their key; replaced, not changed
        self._runs = 0  # of blocks that write
        self._lock = Lock()

    def run(self, work):
        while True:
            seen = self._stored
            block = CheckedBlock(lambda table, seen=seen: _Rows(table, seen))
            answer = work(block)
            if not block.writes:
                return answer
            stored = _after(seen, block.writes)
            with self._lock:
                self._runs += 1
                if self._stored is seen and self._runs % _DROPPED:
                    self._stored = stored
                    return answer


class _Rows(Mapping):
    """The rows of one table by key, each read from its bytes when it is asked for; in the order of their keys."""

    def __init__(self, table, stored):
        self._table, self._stored = table, stored

    def __getitem__(self, key):
        return _adapter(self._table.kind).validate_json(self._stored[self._table.name, key])

    def __iter__(self):
        return iter(sorted(key for name, key in self._stored if name == self._table.name))

    def __len__(self):
        return len(list(iter(self)))


@cache
def _adapter(kind):
    return TypeAdapter(kind)


def _after(stored, writes):
    """Return the bytes of all rows after *writes*. Raise RuntimeError for a row that is too large."""
    after = dict(stored)
    for table, key, row in writes:
        after.pop((table.name, key), None)
        if row is not None:
            encoded = _adapter(table.kind).dump_json(row, warnings=False)  # attacks store strings
            if len(encoded) > MOST_BYTES:
                raise RuntimeError(f"a row of {table.name} has {len(encoded)} bytes")
            after[table.name, key] = encoded
    return after
