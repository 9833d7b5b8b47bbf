"""The tables in an SQLite file: one connection, on which blocks and checkpoints take turns.

SQLite before 3.51.3 may lose a commit if a checkpoint and a write coincide on two connections. Therefore the processes of
the app and of the operator also take turns, with a lock file beside the database.
"""

import errno
import os
import sqlite3
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID

from services.daemon_threads import in_thread
from services.domain import UserId
from services.errors import StoreBlocked, StoreUnavailable
from services.events import log_event
from services.store.file_lock import FileLock
from services.store.sqlite import statements
from services.store.sqlite.statements import OWNER, Statement, text_of
from services.store.tables.adapters import CheckedBlock, UserTables
from services.store.tables.protocol import Answer, Block, Range, Row, Selection, Table
from services.store.tables.row_texts import read_row

_CHECKPOINT_SECONDS = 1.0  # seconds between two checkpoints
# seconds that a checkpoint waits for the lock of another process: all blocks wait meanwhile
_LOCK_SECONDS = 0.1
_LARGEST_WAL = 8_000_000  # bytes; a larger write-ahead log is written to the database file
# errors for writes that the disk refuses, for example because a quota is reached, or the system made the disk read-only
_REFUSED_WRITES = (sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE)
_NORMAL, _FULL = 1, 2  # values of PRAGMA synchronous


class SqliteStore:
    """Implements `AllTables` over one SQLite file. Any thread may call any member."""

    def __init__(
        self, path: Path, connection: sqlite3.Connection, wait_seconds: float, *locks: FileLock
    ) -> None:
        """*connection*: an open connection, which only this store uses; the first of *locks* guards writes.

        *wait_seconds*: the longest wait for a lock that another thread or process has.
        """
        self._path, self._connection, self._locks = path, connection, locks
        self._log, self._wait_seconds = Path(f"{path}-wal"), wait_seconds
        self._files, self._lock = (_identity(path), _identity(self._log)), threading.RLock()
        self._synchronous = 0  # level of PRAGMA synchronous; 0: unknown
        # true: the thread that has the lock runs several blocks in one transaction
        self._is_joined = False
        self._due, self._is_closed = threading.Event(), False
        # true: the log may contain deleted rows; initially true, because a process may have been killed before its checkpoint
        self._has_destroyed = True
        self._due.set()
        in_thread("checkpoints", self._keep_checkpointing)

    def of(self, user_id: UserId | None) -> UserTables:
        return UserTables(self, user_id)

    def owners(
        self,
        table: Table[Row],
        where: Mapping[str, object] | None = None,
        within: Range | None = None,
    ) -> list[UserId]:
        columns = f"distinct {OWNER}"
        statement = statements.select(Selection(table, where or {}, within), None, columns)
        with self._turn(), self._errors():
            rows = self._connection.execute(statement.sql, statement.values).fetchall()
        return [UserId(UUID(text_of(row))) for row in rows]

    def run(
        self, user_id: UserId | None, work: Callable[[Block], Answer], *, is_lasting: bool
    ) -> Answer:
        """Run *work* over a user's tables and the shared tables, in one transaction."""
        with self._turn(), self._errors():
            if self._is_joined:
                return self._answer(SqliteBlock(self._connection, user_id), work)
            with self._begun(_FULL if is_lasting else _NORMAL):
                block = SqliteBlock(self._connection, user_id)
                answer = self._answer(block, work)
                has_deleted = any(row is None for _, _, row in block.writes)
                if block.writes:
                    self._has_destroyed = self._has_destroyed or has_deleted
                    self._commit()
            if has_deleted or (block.writes and self._is_log_large()):
                self._due.set()
            return answer

    @contextmanager
    def joined(self) -> Generator[None]:
        with self._turn(), self._errors(), self._begun(_FULL):
            self._is_joined = True
            try:
                yield
            finally:
                self._is_joined = False
            self._has_destroyed = True  # the joined blocks may have deleted rows
            self._commit()
            self._due.set()

    @contextmanager
    def _begun(self, synchronous: int) -> Generator[None]:
        """Begin a transaction; at the end of the context, roll it back unless it was committed."""
        with self._locks[0].locked(self._wait_seconds):
            if self._connection.in_transaction:  # the rollback of the previous transaction failed
                self._connection.execute("rollback")
            self._set_synchronous(synchronous)
            self._connection.execute("begin immediate")
            try:
                yield
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("rollback")

    def _answer(self, block: "SqliteBlock", work: Callable[[Block], Answer]) -> Answer:
        answer = work(block)
        block.store_writes()
        return answer

    def _commit(self) -> None:
        self._check_file()
        self._connection.execute("commit")
        self._check_file()

    def close(self) -> None:
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            self._due.set()
            with suppress(StoreBlocked), self._locks[0].locked(self._wait_seconds):
                # when the last connection closes, SQLite writes the log to the database file
                self._connection.close()
            self._connection.close()
            for lock in self._locks:
                lock.close()

    @contextmanager
    def _turn(self) -> Generator[None]:
        """Reserve the connection for the calling thread.

        Raise StoreUnavailable if the wait is too long, or the store is closed.
        """
        if not self._lock.acquire(timeout=self._wait_seconds):
            raise StoreUnavailable("busy")
        try:
            if self._is_closed:
                raise StoreUnavailable("closed")
            yield
        finally:
            self._lock.release()

    def _set_synchronous(self, level: int) -> None:
        if level != self._synchronous:
            self._connection.execute(f"pragma synchronous = {level}")
            self._synchronous = level

    def _check_file(self) -> None:
        """Raise StoreBlocked if the paths of the database and its log no longer lead to the open files: writes would be lost."""
        if (_identity(self._path), _identity(self._log)) != self._files:
            raise StoreBlocked(
                f"The database {self._path.name} was moved, removed or replaced: put it back, or restart Daybook."
            )

    def _is_log_large(self) -> bool:
        try:
            return os.stat(self._log).st_size > _LARGEST_WAL
        except OSError:
            return False

    def _keep_checkpointing(self) -> None:
        """Run a checkpoint whenever one is due; after deletions, also truncate the log, because it contains the deleted rows."""
        pause = threading.Event()
        while True:
            self._due.wait()
            self._due.clear()
            with self._lock:
                if self._is_closed:
                    return
                try:
                    with self._errors(), self._locks[0].locked(_LOCK_SECONDS):
                        self._has_destroyed = self._checkpoint() and self._has_destroyed
                except StoreUnavailable:
                    log_event("checkpoint.missed")
                if self._has_destroyed:
                    self._due.set()
            pause.wait(_CHECKPOINT_SECONDS)

    def _checkpoint(self) -> bool:
        """Write the log to the database file; return True if a reader still uses a part of the log."""
        self._set_synchronous(_FULL)
        self._check_file()
        mode = "truncate" if self._has_destroyed else "passive"
        # do not wait for readers, because a backup may read for a long time
        self._connection.execute("pragma busy_timeout = 0")
        try:
            [is_busy, *_] = self._connection.execute(f"pragma wal_checkpoint({mode})").fetchone()
            return bool(is_busy)
        finally:
            self._connection.execute(f"pragma busy_timeout = {round(self._wait_seconds * 1000)}")

    @contextmanager
    def _errors(self) -> Generator[None]:
        """Turn SQLite's errors into StoreUnavailable, or into StoreBlocked, whose sentence tells an operator what to repair."""
        try:
            yield
        except (sqlite3.ProgrammingError, sqlite3.IntegrityError):
            raise
        except sqlite3.DatabaseError as error:
            raise error_of(self._path.name, error) from None


class SqliteBlock(CheckedBlock):
    """A `Block` in an SQLite transaction; it buffers its writes, and `store_writes` executes them."""

    def __init__(self, connection: sqlite3.Connection, user_id: UserId | None) -> None:
        super().__init__()
        self._connection, self._owner = connection, None if user_id is None else str(user_id)

    def get(self, table: Table[Row], key: object) -> Row | None:
        found = self._read(statements.get(table, self._of(table), str(key)))
        return _row_of(table, found[0]) if found else None

    def find(self, selection: Selection[Row]) -> list[Row]:
        statement = statements.select(selection, self._of(selection.table))
        return [_row_of(selection.table, row) for row in self._read(statement)]

    def store_writes(self) -> None:
        for table, key, row in self.writes:
            owner = self._of(table)
            if row is None:
                statement = statements.delete(table, owner, key)
            else:
                statement = statements.put(table, owner, key, row)
            self._connection.execute(statement.sql, statement.values)

    def _of(self, table: Table[Any]) -> str | None:
        if not table.is_shared and self._owner is None:
            raise LookupError(f"{table.name} belongs to users")
        return None if table.is_shared else self._owner

    def _read(self, statement: Statement) -> list[tuple[object, ...]]:
        self.check_reading()
        return self._connection.execute(statement.sql, statement.values).fetchall()


def _row_of(table: Table[Row], found: tuple[object, ...]) -> Row:
    """Return the row that was *found*. Raise DatabaseError if the disk has damaged it: SQLite has no checksums."""
    with suppress(ValueError):
        return read_row(table, text_of(found))
    # raised outside of the `with` block, so that the ValueError, whose message repeats the row, is not chained
    damage = sqlite3.DatabaseError()
    damage.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    raise damage


def _identity(path: Path) -> tuple[int, int] | None:
    """Return the device and the inode of the file at *path*; None if there is no such file."""
    try:
        found = os.stat(path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ESTALE):
            return None
        raise StoreUnavailable from None
    return found.st_dev, found.st_ino


def error_of(name: str, error: sqlite3.Error) -> StoreUnavailable:
    """Return the StoreUnavailable for SQLite's *error* about the file *name*, or a StoreBlocked, which says how to repair it."""
    whole = getattr(error, "sqlite_errorcode", 0)
    match whole & 0xFF:
        case sqlite3.SQLITE_READONLY:
            return StoreBlocked(f"{name} cannot be written: make it and its folder writable.")
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StoreBlocked(f"Another program has locked {name}: close it there.")
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return StoreBlocked(f"{name} is damaged: stop Daybook and put a backup back.")
        case sqlite3.SQLITE_FULL:
            return StoreBlocked(f"The disk of {name} is full: free some space.")
        case _ if whole in _REFUSED_WRITES:
            return StoreBlocked(
                f"The disk of {name} takes no more data: free some space, or make it writable."
            )
        case _:
            return StoreUnavailable(type(error).__name__, whole)
