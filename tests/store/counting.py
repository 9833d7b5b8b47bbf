"""A number in a row of a user, and another process that adds to it.

`python -m tests.store.counting ADDRESS USER TIMES` opens a store as a command does, writes "ready", and waits for a line.
"""

import sys
import time
from contextlib import closing
from pathlib import Path
from uuid import UUID

from services.domain import UserId
from services.store.sqlite import SqlitePlace
from services.store.tables.schema import COUNTS, Counts


def add_one(block):
    """Add 1 to the number, and return it; other threads and processes get a chance to run meanwhile."""
    counts = block.get(COUNTS, "counts") or Counts()
    time.sleep(0.001)
    block.put(COUNTS, counts.plus(facts=1))
    return counts.facts + 1


def place_at(address):
    """Return the place at `sqlite:PATH` or `firestore:HOST/PROJECT`."""
    kind, _, rest = address.partition(":")
    if kind == "sqlite":
        return SqlitePlace(Path(rest))
    from tests.firestore import FirestorePlace, connect_to

    host, project = rest.split("/")
    return FirestorePlace(project, connect=connect_to(host))


if __name__ == "__main__":
    address, user, times = sys.argv[1:]
    with closing(place_at(address).open(is_app=False)) as store:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
        for _ in range(int(times)):
            store.of(UserId(UUID(user))).run(add_one)
