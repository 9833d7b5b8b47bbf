"""The example store of CONTRIBUTING.md: the tables of a deployment in a dict of bytes.

Its blocks are optimistic, like Firestore's: a block works on the rows that were stored when it began, and is run again if
another block has stored rows since.
"""

from collections.abc import Mapping
from functools import cache, partial
from threading import Lock

from pydantic import TypeAdapter

from services.store.tables.in_memory import InMemoryBlock
from services.store.tables.protocol import MOST_ROW_BYTES

_MOST_OF_BLOCK = 10 * 2**20  # maximum bytes that one block stores and deletes, as in Firestore
_DROPPED = 3  # one run in this many is dropped, so that the suite runs each verb twice


class BytesStore:
    """The `AllTables` of a deployment, each row as JSON. Any thread may call any member."""

    def __init__(self):
        # bytes by owner (None: shared tables) and table, then by key; replaced as a whole, never changed
        self._stored = {}
        self._runs = 0  # the number of runs that wrote
        self._lock = Lock()

    def of(self, user_id):
        return BytesTables(self, user_id)

    def close(self):
        pass

    def owners(self, table, where=None, within=None):
        found = partial(InMemoryBlock.select, table=table, where=where, within=within, limit=1)
        owners = {owner for owner, name in self._stored if owner and name == table.name}
        return [owner for owner in owners if self.of(owner).run(found)]

    def run(self, owner, work, *, is_lasting=True):
        """Run *work* over the tables of *owner* and the shared ones."""
        while True:
            seen = self._stored
            block = InMemoryBlock(lambda table, seen=seen: _Rows(table, owner, seen))
            answer = work(block)
            if not block.writes:
                return answer
            stored = _after(seen, owner, block.writes)
            with self._lock:
                self._runs += 1
                if self._stored is seen and self._runs % _DROPPED:
                    self._stored = stored
                    return answer


class BytesTables:
    """The `Tables` of one user in *store*. Any thread may call `run`."""

    def __init__(self, store, user_id):
        self.run = partial(store.run, user_id)


class _Rows(Mapping):
    """The rows of one table by key, in the order of their keys; each is decoded when it is read."""

    def __init__(self, table, owner, stored):
        self._table = table
        self._stored = stored.get(_place(table, owner), {})

    def __getitem__(self, key):
        return _adapter(self._table.kind).validate_json(self._stored[key])

    def __iter__(self):
        return iter(sorted(self._stored))

    def __len__(self):
        return len(self._stored)


def _place(table, owner):
    """Return the place of the rows of *table*. Raise LookupError for a table of users without an *owner*."""
    if table.is_shared:
        return None, table.name
    if owner is None:
        raise LookupError(f"{table.name} belongs to users")
    return owner, table.name


@cache
def _adapter(kind):
    return TypeAdapter(kind)


def _after(stored, owner, writes):
    """Return the bytes of all rows after *writes*. Raise RuntimeError for a row that is too large, or too many bytes."""
    after, total = dict(stored), 0
    for table, key, row in writes:
        place = _place(table, owner)
        rows = after[place] = dict(after.get(place, {}))
        total += len(rows.pop(key, b""))
        if row is not None:
            # without warnings, because attacks store strings in other fields
            encoded = _adapter(table.kind).dump_json(row, warnings=False)
            if len(encoded) > MOST_ROW_BYTES:
                raise RuntimeError(f"a row of {table.name} has {len(encoded)} bytes")
            rows[key] = encoded
            total += len(encoded)
    if total > _MOST_OF_BLOCK:
        raise RuntimeError(f"a block stores and deletes {total} bytes")
    return after
