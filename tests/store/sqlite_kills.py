"""A process without threads that ends before each of SQLite's statements, and looks at what it left.

`python -m tests.store.sqlite_kills FOLDER` prints how many statements there were; it fails if an answered write is lost, or one is
there in part.
"""

import os
import sqlite3
import sys
import traceback
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from uuid import UUID

from services.errors import Misconfigured
from services.store.sqlite import SqlitePlace
from services.store.sqlite.place import MIGRATIONS
from services.store.tables.schema import NONCES, SETTINGS, Nonce, Settings

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
BLOCKS = 4


def kill_at_each(folder, *, is_new):
    """Count the statements that make a store (*is_new*), or bring an older one up to date, and write to it."""
    code, number = 9, 0
    while code:
        assert code == 9, f"failed at statement {number}"
        number += 1
        place = SqlitePlace(folder / str(number) / "store.db", _migrations(folder, 1))
        if not is_new:
            assert _in_child(lambda place=place: _write(place, 0)) == 0
        later = SqlitePlace(place.path, _migrations(folder, 2))
        answers, write_end = os.pipe()
        code = _in_child(lambda: _killed_at(number, later, write_end))  # noqa: B023 (runs at once)
        os.close(write_end)
        answered = os.read(answers, 1000)
        os.close(answers)
        assert _in_child(lambda: _look(later, len(answered))) == 0, f"lost at statement {number}"  # noqa: B023
    return number - 1


def _in_child(act):
    """Return the exit code of a forked process that does *act*."""
    if (pid := os.fork()) == 0:
        try:
            act()
            os._exit(0)
        finally:
            traceback.print_exc()
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _killed_at(number, place, answers):
    """Bring the store up to date and write, but end before the statement of that *number*."""
    seen, connect = count(1), sqlite3.connect

    def traced(*arguments, **options):
        connection = connect(*arguments, **options)
        connection.set_trace_callback(lambda _: next(seen) == number and os._exit(9))
        return connection

    sqlite3.connect = traced
    _write(place, BLOCKS, lambda: os.write(answers, b"."))


def _write(place, blocks, answered=lambda: None):
    """Write a pair of rows in each block; delete one and change another in the last."""
    tables = place.open()
    shared = tables.of(None)
    for number in range(1, blocks + 1):

        def pair(block, number=number):
            block.put(NONCES, Nonce(UUID(int=number), NOON))
            block.put(SETTINGS, Settings(retention_days=number))
            if number == blocks:
                block.delete(NONCES, UUID(int=1))

        shared.run(pair, is_lasting=number % 2 == 0)
        answered()
    tables.close()


def _look(place, answered):
    """Raise AssertionError if not all *answered* blocks are there, or one in part."""
    tables = place.open()
    nonces, settings = tables.of(None).run(
        lambda block: (block.select(NONCES), block.get(SETTINGS, "settings"))
    )
    blocks = settings.retention_days if settings else 0
    ids = set(range(1, blocks + 1)) - ({1} if blocks == BLOCKS else set())
    assert answered <= blocks <= answered + 1
    assert {one.id.int for one in nonces} == ids
    tables.close()
    connection = sqlite3.connect(place.path)
    assert connection.execute("pragma user_version").fetchone() == (2,)
    assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
    assert connection.execute("select count(*) from another").fetchone() == (0,)
    connection.close()
    try:
        SqlitePlace(place.path, place.migrations.parent / "1").exists()
    except Misconfigured:
        return
    raise AssertionError("an earlier version opens it")


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
        statements = kill_at_each(Path(sys.argv[1]) / str(is_new), is_new=is_new)
        sys.stdout.write(f"{statements}\n")
