"""Caches of this process: values by key, the least recently used dropped; and one value, read again or ahead."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

from cachetools import LRUCache

from services.errors import StoreUnavailable
from services.threads import in_thread

Key = TypeVar("Key")
Value = TypeVar("Value")
_SECONDS = 60.0  # after which another device may have changed it
_AHEAD_SECONDS = 5.0  # after which a value that was read ahead is read again


class LruCache(Generic[Key, Value]):
    """An LRU cache of at most *most* values, or of values that *weigh* that much together, with a lock."""

    def __init__(self, most: int, weigh: Callable[[Value], float] | None = None) -> None:
        self._held = LRUCache[Key, Value](most, weigh)
        self._lock = threading.Lock()

    def get(self, key: Key) -> Value | None:
        with self._lock:
            return self._held.get(key)

    def put(self, key: Key, value: Value) -> None:
        with self._lock:
            self._held[key] = value

    def items(self) -> list[tuple[Key, Value]]:
        with self._lock:
            return list(self._held.items())

    def drop(self, key: Key) -> None:
        with self._lock:
            self._held.pop(key, None)

    def drop_all(self, is_unwanted: Callable[[Value], bool]) -> None:
        """Drop every value that *is_unwanted*."""
        with self._lock:
            for key in [key for key, value in self._held.items() if is_unwanted(value)]:
                del self._held[key]


class ReadAhead(Generic[Value]):
    """A read that can be begun before its value is asked for."""

    def __init__(self, read: Callable[[], Value]) -> None:
        self._read = read
        self.changes = 0  # of the value
        # time, changes before, value
        self._begun: tuple[float, int, Future[Value]] | None = None

    def begin(self) -> None:
        """Begin to read in a thread, unless that was done a moment ago."""
        if not self._is_good(self._begun):
            changes = self.changes
            self._begun = time.monotonic(), changes, in_thread("read-ahead", self._read)

    def outdate(self) -> None:
        """Have the next `get` read the value, which was changed or may have been."""
        self.changes += 1

    def get(self) -> Value:
        """The value that was begun to be read, once and while fresh; else read it. Raise the errors of the read."""
        return self.read()[1]

    def read(self) -> tuple[int, Value]:
        """The changes before the value was read, and the value as of `get`."""
        begun, self._begun = self._begun, None
        if begun and self._is_good(begun) and begun[2].exception() is None:
            return begun[1], begun[2].result()
        return self.read_now()

    def read_now(self) -> tuple[int, Value]:
        """The changes before the value was read, and the value as it is now."""
        changes = self.changes  # a change during the read makes the value stale
        return changes, self._read()

    def _is_good(self, begun: tuple[float, int, Future[Value]] | None) -> bool:
        if begun is None or begun[1] != self.changes:
            return False
        return time.monotonic() - begun[0] < _AHEAD_SECONDS


class CachedRead(Generic[Value]):
    """A value that *ask* reads: at most *seconds* old, or older while *ask* raises StoreUnavailable."""

    def __init__(self, ask: Callable[[], Value], seconds: float = _SECONDS) -> None:
        self._ahead, self._seconds = ReadAhead(ask), seconds
        self._held: tuple[float, int, Value] | None = None  # time of reading, changes before, value

    @property
    def last(self) -> Value | None:
        """The value as it was last read."""
        return self._held[2] if self._held else None

    def get(self) -> Value:
        """The value. Raise the errors of *ask*; StoreUnavailable only if none was ever read."""
        held = self._held
        if held and self._is_fresh:
            return held[2]
        try:
            return self._hold(*self._ahead.read())
        except StoreUnavailable:
            if held is None:
                raise
            return held[2]

    def read(self) -> Value:
        """Read the value as it is now. Raise the errors of *ask*."""
        return self._hold(*self._ahead.read_now())

    def read_ahead(self) -> None:
        """Begin to read the value in a thread, unless it is fresh."""
        if not self._is_fresh:
            self._ahead.begin()

    def outdate(self) -> None:
        """Have the next `get` read the value, which was changed or may have been."""
        self._ahead.outdate()

    def amend(self, change: Callable[[Value], Value]) -> None:
        """Apply *change* to the value until it is read again."""
        if self._held:
            self._held = *self._held[:2], change(self._held[2])

    @property
    def _is_fresh(self) -> bool:
        if self._held is None or self._held[1] != self._ahead.changes:
            return False
        return time.monotonic() - self._held[0] < self._seconds

    def _hold(self, changes: int, value: Value) -> Value:
        self._held = time.monotonic(), changes, value
        return value
