"""The file of an SQLite store: checks before the app starts, and the store's creation, opening, migration and backup."""

import os
import re
import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from urllib.parse import quote

from services.errors import Misconfigured, StoreBlocked
from services.store.file_lock import FileLock
from services.store.folders import check_new, name_new, sync
from services.store.operator import Finding, Mark
from services.store.sqlite.store import SqliteBlock, SqliteStore, error_of
from services.store.tables.protocol import StoreCheck

MIGRATIONS = Path(__file__).parents[3] / "db" / "sqlite"
_APPLICATION = 0x64617962  # "dayb", the application id in the header of each store
_OLDEST_SQLITE = (3, 37, 0)  # the first version with STRICT tables
# the first version in which no commit is lost if a checkpoint and a write coincide
_FIRST_SAFE_SQLITE = (3, 51, 3)
_CHECKPOINT = "pragma wal_checkpoint(truncate)"  # moves changes from the log to the database file


@dataclass(frozen=True, slots=True)
class SqlitePlace:
    """Implements `StorePlace` for an SQLite file."""

    path: Path
    migrations: Path = MIGRATIONS
    wait_seconds: float = 5.0  # the longest wait for a lock that another process has
    may_migrate: bool = True  # false: an existing store of an earlier version is refused

    @property
    def kind(self) -> str:
        return "SQLite"

    def exists(self, *, may_be_made: bool = True) -> bool:
        if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
            raise Misconfigured(
                f"Python's SQLite is {sqlite3.sqlite_version}: use a Python with 3.37 or newer."
            )
        if not os.path.lexists(self.path):
            if may_be_made:
                check_new(self.path)
            # do not make a new store beside an old log, which SQLite would apply to the new store
            if self._has_log():
                raise Misconfigured(
                    f"{self.path} is gone, but {self.path.name}-wal beside it has changes of it: put the file back, or, "
                    "for a new store, remove that too."
                )
            return False
        if not self.path.is_file():
            raise Misconfigured(f"{self.path} is no file: name a file in DAYBOOK_STORE.")
        if not os.access(self.path, os.R_OK | os.W_OK) or not os.access(self.path.parent, os.W_OK):
            raise Misconfigured(f"{self.path} cannot be written: make it and its folder writable.")
        self._check_version(self._version())
        return True

    def open(self, *, is_app: bool = True, check: StoreCheck | None = None) -> SqliteStore:
        # resolve links: SQLite puts its log beside the real file
        real = Path(os.path.realpath(self.path))
        if real != self.path:
            return replace(self, path=real).open(is_app=is_app, check=check)
        locks = list[FileLock]()
        try:
            self.exists()  # before the locks, which are files beside the store
            locks = [FileLock(Path(f"{self.path}-{name}")) for name in ("lock", "app")]
            if is_app and not locks[1].try_lock():
                raise Misconfigured(
                    f"Another Daybook is using {self.path}: stop it, or name another file in DAYBOOK_STORE."
                )
            with locks[0].locked(self.wait_seconds):
                if not self.exists():
                    self._make()
                elif check:
                    self._read(check)
                connection = self._connected(locks[1], is_app=is_app)
            # after the lock is free: the store's checkpoints have the same lock, which would be freed in the midst of one
            return SqliteStore(self.path, connection, self.wait_seconds, *locks)
        except BaseException as error:
            for lock in locks:
                lock.close()
            if isinstance(error, StoreBlocked):
                raise Misconfigured(error.public) from None
            if isinstance(error, OSError | sqlite3.Error):
                raise self._unusable(error) from None
            raise

    def backup(self, target: Path) -> None:
        """Copy the store to *target*, even while the app writes. Raise Misconfigured if *target* exists, or if the copy fails."""
        draft = target.with_name(f"{target.name}.daybook-draft")
        try:
            if os.path.lexists(target):
                raise Misconfigured(f"{target} exists: name a new file.")
            if not target.parent.is_dir():
                raise Misconfigured(f"There is no folder {target.parent}: make it.")
            with _removed(draft):  # also removes a draft left by a killed backup
                os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
                with closing(self._connect()) as connection:
                    connection.execute("vacuum into ?", [str(draft)])
                with closing(sqlite3.connect(draft)) as copy:
                    if copy.execute("pragma integrity_check").fetchall() != [("ok",)]:
                        raise Misconfigured(
                            f"{self.path} is damaged: the backup would be, too. Put an older one back."
                        )
                    # delete the sessions: one that ends after the backup must not be valid again in a restored store
                    copy.execute("pragma secure_delete = on")
                    copy.execute("delete from sessions")
                    copy.commit()
                sync(draft)
                name_new(draft, target)
        except sqlite3.Error as error:
            # a write error is about *target*, because only the draft beside it is written
            code = getattr(error, "sqlite_errorcode", 0)
            if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE):
                raise Misconfigured(error_of(str(target), error).public) from None
            raise self._unusable(error) from None
        except OSError as error:
            raise Misconfigured(f"{target} cannot be written: {error.strerror}.") from None

    def check(self) -> dict[str, Finding]:
        try:
            with closing(self._connect()) as connection:
                found = connection.execute("pragma quick_check(1)").fetchall()
        except sqlite3.Error as error:
            raise self._unusable(error) from None
        is_whole = found == [("ok",)]
        file = f"{self.path} is whole" if is_whole else f"{self.path} is damaged: put a backup back"
        warning = lost_commits_warning()
        version = Mark.NOTE if warning else Mark.OK, warning or sqlite3.sqlite_version
        return {"file": (Mark.OK if is_whole else Mark.FAIL, file), "SQLite": version}

    def _files(self) -> list[Path]:
        return sorted(self.migrations.glob("[0-9]*.sql"))

    def _version(self) -> int:
        """Return the format version in the file's header. Raise Misconfigured if the file is damaged, or is not a store."""
        # with `immutable`, SQLite changes nothing, takes no lock, and makes no file beside the store
        try:
            with closing(
                sqlite3.connect(f"file:{quote(str(self.path))}?immutable=1", uri=True)
            ) as file:
                [application] = file.execute("pragma application_id").fetchone()
                [version] = file.execute("pragma user_version").fetchone()
                tables = file.execute("select count(*) from sqlite_schema").fetchone()
        except sqlite3.Error:
            raise Misconfigured(
                f"{self.path} is damaged, or no Daybook store: put a backup back, or name another file."
            ) from None
        if application != _APPLICATION or not version or not tables:
            raise Misconfigured(f"{self.path} is no Daybook store: name another file.")
        return version

    def _connect(self) -> sqlite3.Connection:
        uri = f"file:{quote(str(self.path))}?mode=rw"
        connection = sqlite3.connect(
            uri,
            uri=True,
            timeout=self.wait_seconds,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=512,
        )
        for pragma in (
            "foreign_keys = on",
            "secure_delete = on",
            "wal_autocheckpoint = 0",
            "fullfsync = on",
            "checkpoint_fullfsync = on",
            "synchronous = full",
        ):
            connection.execute(f"pragma {pragma}")
        return connection

    def _make(self) -> None:
        """Make the store under a temporary name, then rename it, so that the path never leads to an incomplete store."""
        draft = replace(self, path=self.path.with_name(f"{self.path.name}-draft"))
        with _removed(draft.path):
            os.close(os.open(draft.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            with closing(draft._connect()) as connection:
                self._keep_log(connection)
                draft._migrate(connection, 0)
                connection.execute(_CHECKPOINT)
            sync(draft.path)
            draft.path.rename(self.path)
        sync(self.path.parent)

    def _has_log(self) -> bool:
        log = Path(f"{self.path}-wal")
        # os.path, because Path.exists raises an error if the name is too long for the disk
        return os.path.exists(log) and log.stat().st_size > 0

    def _read(self, check: StoreCheck) -> None:
        """Call *check* with the existing store, of any version, without a change to the file or its log."""
        # when the last connection closes, SQLite writes the log to the file, unless the connection is read-only
        mode = "mode=ro" if self._has_log() else "immutable=1"
        with closing(
            sqlite3.connect(f"file:{quote(str(self.path))}?{mode}", uri=True)
        ) as connection:
            check(SqliteBlock(connection, None))

    def _connected(self, app_lock: FileLock, *, is_app: bool) -> sqlite3.Connection:
        """Connect to the existing store; if its version is old, copy the file in the same folder, and then migrate the store."""
        connection = self._connect()
        try:
            self._keep_log(connection)
            [version] = connection.execute("pragma user_version").fetchone()
            # check again, because `exists` read the version without the changes in the log
            self._check_version(version)
            if version < len(self._files()):
                if not self.may_migrate:
                    raise Misconfigured(
                        f"{self.path} was written by an earlier version of Daybook: start this version with it once first."
                    )
                if not is_app and not app_lock.try_lock():
                    raise Misconfigured(
                        f"Daybook is using {self.path}: stop it, so that the file is brought up to date."
                    )
                copy = self._copy_name(version)
                self.backup(copy)
                try:
                    self._migrate(connection, version)
                except BaseException:
                    copy.unlink()
                    raise
                connection.execute(_CHECKPOINT)  # if this fails, the copy is still needed
            return connection
        except BaseException:
            connection.close()
            raise

    def _keep_log(self, connection: sqlite3.Connection) -> None:
        if connection.execute("pragma journal_mode = wal").fetchone() != ("wal",):
            raise Misconfigured(
                f"The disk of {self.path} cannot keep a write-ahead log: use a local one."
            )

    def _check_version(self, version: int) -> None:
        if version > len(self._files()):
            raise Misconfigured(
                f"{self.path} was written by a later version of Daybook: start that version."
            )

    def _copy_name(self, version: int) -> Path:
        """Return an unused path for a copy of the store at format version *version*."""
        names = (f"{self.path.name}-version-{version}-{number}" for number in count(1))
        return next(
            self.path.with_name(name)
            for name in names
            if not os.path.lexists(self.path.with_name(name))
        )

    def _migrate(self, connection: sqlite3.Connection, version: int) -> None:
        """Apply the migrations after *version* atomically. Until the next checkpoint, the changes are only in the log."""
        files = self._files()
        changes = "".join(file.read_text("utf-8") for file in files[version:])
        try:
            connection.executescript(
                f"begin immediate; {changes} pragma application_id = {_APPLICATION}; "
                f"pragma user_version = {len(files)}; commit;"
            )
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("rollback")
            raise

    def _unusable(self, error: OSError | sqlite3.Error) -> Misconfigured:
        found = error_of(str(self.path), error) if isinstance(error, sqlite3.Error) else None
        if isinstance(found, StoreBlocked):
            return Misconfigured(found.public)
        reason = getattr(error, "strerror", None) or re.sub(r"[^\w ]", "", str(error))
        return Misconfigured(f"{self.path} cannot be used: {reason}.")


def lost_commits_warning() -> str | None:
    """Return a warning if this version of SQLite may lose commits when programs other than Daybook write to the store."""
    if sqlite3.sqlite_version_info >= _FIRST_SAFE_SQLITE:
        return None
    return (
        f"SQLite {sqlite3.sqlite_version} can lose commits where another program writes to the file: "
        "let only Daybook and its commands open it"
    )


@contextmanager
def _removed(path: Path) -> Generator[None]:
    """Remove the draft at *path*, and SQLite's files beside it, before and after the `with` block."""
    names = [path, *(Path(f"{path}-{end}") for end in ("wal", "shm", "journal"))]
    try:
        for name in names:
            name.unlink(missing_ok=True)
        yield
    finally:
        for name in names:
            with suppress(FileNotFoundError):
                name.unlink()
