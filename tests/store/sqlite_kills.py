"""A process without threads that ends before each of SQLite's statements, and a check of the remaining file.

`python -m tests.store.sqlite_kills FOLDER` prints the number of statements; it fails if an answered write is lost, or if one is
stored in part.
"""

import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from services.errors import Misconfigured
from services.store.sqlite import SqlitePlace
from services.store.sqlite.place import MIGRATIONS
from tests.store.kills import BLOCKS, in_child, kill_at_each, look, write


def kills(folder, *, is_new):
    """Count the statements that make a store (*is_new*) or migrate an older one, and write to it."""

    def place(number, version=2):
        (folder / str(number)).mkdir(mode=0o700, parents=True, exist_ok=True)
        return SqlitePlace(folder / str(number) / "store.db", _migrations(folder, version))

    def act(number, point, answered):
        if not is_new:
            assert in_child(lambda: place(number, 1).open().close()) == 0
        connect = sqlite3.connect

        def traced(*arguments, **options):
            connection = connect(*arguments, **options)
            connection.set_trace_callback(point)
            return connection

        sqlite3.connect = traced
        with closing(place(number).open()) as tables:
            write(tables, range(1, BLOCKS + 1), answered)

    def look_at(number, answered):
        with closing(place(number).open()) as tables:
            look(tables, answered)
        with closing(sqlite3.connect(place(number).path)) as connection:
            assert connection.execute("pragma user_version").fetchone() == (2,)
            assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
            assert connection.execute("select count(*) from another").fetchone() == (0,)
        try:
            place(number, 1).exists()
        except Misconfigured:
            return
        raise AssertionError("an earlier version opens it")

    return kill_at_each(act, look_at)


def _migrations(folder, versions):
    """Return a folder with the product's first migration, and a made-up one of version 2."""
    made = folder / "migrations" / str(versions)
    made.mkdir(parents=True, exist_ok=True)
    texts = [MIGRATIONS.joinpath("0001_tables.sql").read_text(), "create table another (a text);"]
    for number, text in enumerate(texts[:versions], 1):
        (made / f"{number:04}_tables.sql").write_text(text)
    return made


if __name__ == "__main__":
    for is_new in (False, True):
        statements = kills(Path(sys.argv[1]) / str(is_new), is_new=is_new)
        sys.stdout.write(f"{statements}\n")
