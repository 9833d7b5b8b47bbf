"""Caches of this process: values by key, the least recently used dropped; and one value, read again or ahead."""

import threading
import time
from collections.abc import Callable, Mapping, Set
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

    def get_all(
        self, keys: Set[Key], read: Callable[[Set[Key]], Mapping[Key, Value]]
    ) -> dict[Key, Value]:
        """The values of *keys*: those that are not held are *read* first."""
        found = {key: value for key in keys if (value := self.get(key)) is not None}
        if unknown := keys - found.keys():
            for key, value in read(unknown).items():
                self.put(key, value)
                found[key] = value
        return found

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


class CachedRead(Generic[Value]):
    """A value that *ask* reads: at most *seconds* old, or older while *ask* raises StoreUnavailable."""

    def __init__(self, ask: Callable[[], Value], seconds: float = _SECONDS) -> None:
        self._ask, self._seconds = ask, seconds
        self._changes = 0  # of the value: one during a read makes it stale
        # time of reading, changes before, value
        self._held: tuple[float, int, Value] | None = None
        self._begun: tuple[float, int, Future[Value]] | None = None

    @property
    def last(self) -> Value | None:
        """The value as it was last read."""
        return self._held[2] if self._held else None

    def get(self) -> Value:
        """The value. Raise the errors of *ask*; StoreUnavailable only if none was ever read."""
        held = self._held
        if held and self._is_fresh(held, self._seconds):
            return held[2]
        begun, self._begun = self._begun, None
        if begun and self._is_fresh(begun, _AHEAD_SECONDS) and begun[2].exception() is None:
            self._held = time.monotonic(), begun[1], begun[2].result()
            return self._held[2]
        try:
            return self.read()
        except StoreUnavailable:
            if held is None:
                raise
            return held[2]

    def read(self) -> Value:
        """Read the value as it is now. Raise the errors of *ask*."""
        changes, value = self._changes, self._ask()
        self._held = time.monotonic(), changes, value
        return value

    def read_ahead(self) -> None:
        """Begin to read the value in a thread, unless it is fresh or that was done a moment ago."""
        if not (
            self._is_fresh(self._held, self._seconds) or self._is_fresh(self._begun, _AHEAD_SECONDS)
        ):
            changes = self._changes
            self._begun = time.monotonic(), changes, in_thread("read-ahead", self._ask)

    def outdate(self) -> None:
        """Have the next `get` read the value, which was changed or may have been."""
        self._changes += 1

    def confirm(self) -> None:
        """Take the value for fresh: it was found to be the stored one."""
        if self._held:
            self._held = time.monotonic(), *self._held[1:]

    def amend(self, change: Callable[[Value], Value]) -> None:
        """Apply *change* to the value until it is read again."""
        if self._held:
            self._held = *self._held[:2], change(self._held[2])

    def _is_fresh(self, read: tuple[float, int, object] | None, seconds: float) -> bool:
        if read is None or read[1] != self._changes:
            return False
        return time.monotonic() - read[0] < seconds
