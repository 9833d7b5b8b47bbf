"""A cached read: fresh for some seconds, and stale while the database is unreachable."""

import time
from collections.abc import Callable
from typing import Generic, TypeVar

from services.errors import StoreUnavailable

Value = TypeVar("Value")
_SECONDS = 60.0  # after which another device may have changed it


class CachedRead(Generic[Value]):
    """A value that *ask* reads: at most *seconds* old, or older while *ask* raises StoreUnavailable."""

    def __init__(self, ask: Callable[[], Value], seconds: float = _SECONDS) -> None:
        self._ask, self._seconds = ask, seconds
        self._held: tuple[float, int, Value] | None = None  # time of reading, changes before, value
        self._changes = 0

    @property
    def last(self) -> Value | None:
        """The value as it was last read."""
        return self._held[2] if self._held else None

    def get(self) -> Value:
        """The value. Raise the errors of *ask*; StoreUnavailable only if none was ever read."""
        held = self._held
        if held and held[1] == self._changes and time.monotonic() - held[0] < self._seconds:
            return held[2]
        try:
            return self.read()
        except StoreUnavailable:
            if held is None:
                raise
            return held[2]

    def read(self) -> Value:
        """Read the value. Raise the errors of *ask*."""
        changes = self._changes  # a change during the read makes it stale
        value = self._ask()
        self._held = time.monotonic(), changes, value
        return value

    def outdate(self) -> None:
        """Have the next `get` read the value, which was changed or may have been."""
        self._changes += 1

    def amend(self, change: Callable[[Value], Value]) -> None:
        """Apply *change* to the value until it is read again."""
        if self._held:
            self._held = *self._held[:2], change(self._held[2])
