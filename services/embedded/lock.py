"""One app on one data folder, and where its API answers, for a second process of the same deployment."""

import contextlib
import json
import os
import threading
from pathlib import Path

from services.embedded.keys import write_private
from services.embedded.plan import Endpoints
from services.errors import Misconfigured

_ADDRESS = "address.json"


class Lock:
    """The data folder's lock, held for as long as its descriptor is open in any process.

    The supervisor inherits it: where an app was killed, the folder stays locked until its stack has stopped.
    """

    def __init__(self, data: Path) -> None:
        """Raise Misconfigured where another app is alive on *data*."""
        self._data = data
        self.descriptor = os.open(data / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
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


def write_address(data: Path, url: str, key: str) -> None:
    """Tell `running_address` where the API over *data* answers, and its publishable *key*."""
    write_private(data / _ADDRESS, json.dumps({"supabase_url": url, "publishable_key": key}))


def running_address(data: Path) -> Endpoints:
    """Where the API of the app over *data* answers. Raise Misconfigured if none is running."""
    with contextlib.suppress(FileNotFoundError), (data / "lock").open("r+") as lock:
        if not _locked(lock.fileno()):
            return Endpoints(**json.loads((data / _ADDRESS).read_text()))
    raise Misconfigured(f"No Daybook is running on {data}: start it first.")


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
        pass
    return True
