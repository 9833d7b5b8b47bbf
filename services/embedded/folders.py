"""Where the embedded stack keeps what, and the checks that need no waiting."""

import importlib.util
import os
import shutil
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from services.errors import Misconfigured, says_disk_full

APP = "daybook"
ROOM = 32_000_000  # bytes that must stay free: Postgres asks for 16 MB at a time, and dies without
_LONGEST_SOCKET = 100  # bytes of folder + "/.s.PGSQL.5432": 107 on Linux, 103 on macOS


@dataclass(frozen=True, slots=True, kw_only=True)
class Folders:
    """Data, keys, and what can be fetched again: three places, so that a copy of one is no more."""

    data: Path
    keys: Path
    cache: Path

    @property
    def logs(self) -> Path:
        return self.data / "logs"

    @property
    def database(self) -> Path:
        return self.data / "postgres"


def chosen(data: Path | None, keys: Path | None) -> Folders:
    """The folders a deployment asks for, or the platform's own."""
    return Folders(
        data=_absolute(data, platformdirs.user_data_path(APP)),
        keys=_absolute(keys, platformdirs.user_config_path(APP) / "keys"),
        cache=platformdirs.user_cache_path(APP),
    )


def make(folders: Folders) -> None:
    """Create what is missing, closed to others. Raise Misconfigured for a place that cannot serve."""
    if folders.keys.is_relative_to(folders.data):
        raise Misconfigured(
            "The keys would lie inside the data folder, and every copy of it would open itself: "
            "set DAYBOOK_KEY_DIR to a folder elsewhere."
        )
    for folder in (folders.data, folders.keys, folders.cache, folders.logs):
        _make_private(folder)


def is_full(folder: Path, room: int = ROOM) -> bool:
    """Whether the disk of *folder* has less than *room* bytes left for us."""
    return shutil.disk_usage(folder).free < room


def full(folder: Path) -> Misconfigured:
    """What to say where the disk of *folder* is too full to start."""
    return Misconfigured(f"The disk is full: free some space for {folder} and start again.")


def wheel(package: str) -> Path:
    """The folder of an installed package, found without importing it. Raise Misconfigured if it is missing."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise Misconfigured(
            f"The embedded backend needs the package {package}: start with `uv run`, "
            "or set SUPABASE_URL to a hosted project and OPENAI_BASE_URL to a model."
        )
    return Path(found.origin).parent


def free_port() -> int:
    """A port of the loopback interface that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def socket_folder(database: Path) -> Path:
    """Where Postgres may put its socket: beside the data, or, where that cannot be, somewhere short.

    Always the same folder for the same database, and never one that somebody else made.
    """
    beside = database.parent / "run"
    fits = len(os.fsencode(beside)) <= _LONGEST_SOCKET - len("/.s.PGSQL.5432")
    if fits and not set(str(beside)) & set(',"'):  # libpq and Postgres take these for a list
        return beside
    data = database.parent.stat()
    short = Path(tempfile.gettempdir()) / f"{APP}-{os.getuid()}-{data.st_dev:x}-{data.st_ino:x}"
    short.mkdir(mode=0o700, exist_ok=True)
    found = short.lstat()
    if short.is_symlink() or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise Misconfigured(
            f"{short} belongs to somebody else: remove it, or use a shorter DAYBOOK_DATA_DIR."
        )
    return short / "run"


def _absolute(wished: Path | None, otherwise: Path) -> Path:
    return wished.expanduser().resolve() if wished else otherwise


def _make_private(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:  # its own: others may start at this moment
            file.write(b"1")
    except OSError as error:
        if says_disk_full(error):
            raise full(folder) from error
        raise Misconfigured(f"{folder} cannot be written: {error.strerror}.") from error
