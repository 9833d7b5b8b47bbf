"""File locks between processes; the kernel releases a process's locks when the process ends."""

import fcntl
import os
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from services.errors import StoreBlocked

_PAUSE_SECONDS = 0.005


class FileLock:
    """A lock that one process holds at a time. It does not exclude the threads of that process from one another."""

    def __init__(self, path: Path) -> None:
        """Open or create the file at *path*. Raise OSError."""
        self._path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def try_lock(self) -> bool:
        with suppress(BlockingIOError):
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        return False

    @contextmanager
    def locked(self, seconds: float) -> Generator[None]:
        """Hold the lock during a `with` block. Raise StoreBlocked if another process does not release it within *seconds*."""
        deadline = time.monotonic() + seconds
        while not self.try_lock():
            if time.monotonic() > deadline:
                raise StoreBlocked(f"Another process has locked {self._path.name}: stop it.")
            time.sleep(_PAUSE_SECONDS)
        try:
            yield
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        os.close(self._descriptor)
