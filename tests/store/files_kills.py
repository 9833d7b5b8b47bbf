"""A process without threads that ends before each operation on the files of a store, and a check of the remaining files.

`python -m tests.store.files_kills FOLDER` prints the number of operations; it fails if an answered write is lost, or if one is
stored in part.
"""

import os
import sys
from contextlib import closing
from pathlib import Path

from services.store.files import FilesPlace
from services.store.files import place as places
from services.store.files import store as stores
from tests.store.faulty_disk import FaultyDisk
from tests.store.kills import BLOCKS, in_child, kill_at_each, look, write

NEVER = 10**9  # seconds


def kills(folder, left):
    """Count the operations that open a store and write to it; *left*: the number of blocks in the journal of a killed process."""

    def place(number):
        (folder / str(number) / "home").mkdir(mode=0o700, parents=True, exist_ok=True)
        return FilesPlace(folder / str(number) / "home" / "store")

    def leave(number):
        write(place(number).open(), range(1, left + 1))
        os._exit(0)  # the documents of this store lack blocks of its journal

    def act(number, point, answered):
        if left:
            assert in_child(lambda: leave(number)) == 0
        places.Disk = lambda path: FaultyDisk(path, point)
        for blocks in (range(left + 1, 3), range(3, BLOCKS), [BLOCKS]):
            with closing(place(number).open()) as tables:
                write(tables, blocks, answered)

    def look_at(number, answered):
        with closing(place(number).open()) as tables:
            look(tables, answered, left)
        assert not (place(number).path / "appends.json").exists()
        assert [mark.name for mark, _ in place(number).check().values()] == ["OK"]

    return kill_at_each(act, look_at)


if __name__ == "__main__":
    stores._SECONDS = NEVER
    for left in (0, 1):
        operations = kills(Path(sys.argv[1]) / str(left), left)
        sys.stdout.write(f"{operations}\n")
