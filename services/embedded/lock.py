"""One app on one data folder."""

import contextlib
import os
import threading
from pathlib import Path

from services.errors import Misconfigured


class Lock:
    """The data folder's lock, held for as long as its descriptor is open in any process.

    The supervisor inherits it: where an app was killed, the folder stays locked until its stack has stopped.
    """

    def __init__(self, data: Path) -> None:
        """Raise Misconfigured where another app is alive on *data*."""
        self._data = data
        self.descriptor = os.open(_file(data), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._take()
        except Misconfigured:
            self.close()
            raise

    def wait(self, ending: threading.Event) -> None:
        """Return once the lock is ours, or *ending* is set. Raise Misconfigured where another app was faster."""
        while not self._take():
            if ending.wait(0.05):
                return

    def close(self) -> None:
        os.close(self.descriptor)

    def _take(self) -> bool:
        if not _locked(self.descriptor):
            if _holder_lives(self.descriptor):
                raise Misconfigured(
                    f"Another Daybook is using {self._data}: "
                    "stop it, or set DAYBOOK_DATA_DIR to another folder."
                )
            return False
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, f"{os.getpid()}\n".encode(), 0)
        return True


def is_locked(data: Path) -> bool:
    """Whether an app, or what is left of one, is on *data*."""
    try:
        descriptor = os.open(_file(data), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not _locked(descriptor)
    finally:
        os.close(descriptor)


def _file(data: Path) -> Path:
    return data / "lock"


def _locked(descriptor: int) -> bool:
    import fcntl  # not on Windows, where only a hosted backend works

    with contextlib.suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _holder_lives(descriptor: int) -> bool:
    pid = os.pread(descriptor, 20, 0).strip()
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True
