"""Caches of this process: an LRU cache, and a cached read of one value."""

import threading
import time
from collections.abc import Callable, Mapping, Set
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Generic, TypeVar

from cachetools import LRUCache

from services.daemon_threads import in_thread
from services.errors import StoreUnavailable

Key = TypeVar("Key")
Value = TypeVar("Value")
READ_AHEAD_THREAD = "read-ahead"  # the name of a thread that prefetches a value
# seconds for which a cached value is used without another read, although another device may have changed it
_SECONDS = 60.0
_AHEAD_SECONDS = 5.0  # seconds for which a prefetched value may be used


class LruCache(Generic[Key, Value]):
    """An LRU cache of at most *most* values or, with *weigh*, of values whose total weight is at most *most*.

    Any thread may call any method; a mutable value needs its own lock.
    """

    def __init__(self, most: int, weigh: Callable[[Value], float] | None = None) -> None:
        self._values = LRUCache[Key, Value](most, weigh)
        self._lock = threading.Lock()

    def get(self, key: Key) -> Value | None:
        with self._lock:
            return self._values.get(key)

    def put(self, key: Key, value: Value) -> None:
        with self._lock:
            self._values[key] = value

    def get_all(
        self, keys: Set[Key], read: Callable[[Set[Key]], Mapping[Key, Value]]
    ) -> dict[Key, Value]:
        """Return the values of *keys*; call *read* for keys that are not cached."""
        found = {key: value for key in keys if (value := self.get(key)) is not None}
        if unknown := keys - found.keys():
            for key, value in read(unknown).items():
                self.put(key, value)
                found[key] = value
        return found

    def items(self) -> list[tuple[Key, Value]]:
        with self._lock:
            return list(self._values.items())

    def drop(self, key: Key) -> None:
        with self._lock:
            self._values.pop(key, None)

    def drop_all(self, is_unwanted: Callable[[Value], bool]) -> None:
        """Drop every value for which *is_unwanted* returns True."""
        with self._lock:
            for key in [key for key, value in self._values.items() if is_unwanted(value)]:
                del self._values[key]


@dataclass(frozen=True, slots=True)
class _Read(Generic[Value]):
    """A value that was read or is being read, and the time of the read."""

    value: Value
    began: int  # this read's number in the sequence of all reads and changes of the value
    at: float = field(default_factory=lambda: time.monotonic())


class CachedRead(Generic[Value]):
    """A cache of the value that *ask* returns: at most *seconds* old, or older while *ask* raises StoreUnavailable.

    Any thread may call any method. If several threads read at the same time, the result of the read that began last is
    cached. A read that began before a call of `amend` does not replace the amended value.
    """

    def __init__(self, ask: Callable[[], Value], seconds: float = _SECONDS) -> None:
        self._ask, self._seconds = ask, seconds
        self._lock, self._clock = threading.Lock(), count(1)
        self._outdated = self._amended = 0  # the numbers of the last calls of `outdate` and `amend`
        self._newest: _Read[Value] | None = None
        self._ahead: _Read[Future[Value]] | None = None

    @property
    def last(self) -> Value | None:
        """The value of the last read; None if nothing was read yet."""
        newest = self._newest
        return newest.value if newest else None

    def get(self) -> Value:
        """Return the value. Raise the errors of *ask*, but StoreUnavailable only if no value was ever read."""
        with self._lock:
            newest = self._newest
            if newest and self._is_fresh(newest, self._seconds):
                return newest.value
            ahead, self._ahead = self._ahead, None
            if ahead and not self._is_fresh(ahead, _AHEAD_SECONDS):
                ahead = None
        if ahead and ahead.value.exception() is None:
            return self._keep(_Read(ahead.value.result(), ahead.began))
        try:
            return self.read()
        except StoreUnavailable:
            if newest is None:
                raise
            return newest.value

    def read(self) -> Value:
        """Read the value again. Raise the errors of *ask*."""
        began = next(self._clock)
        return self._keep(_Read(self._ask(), began))

    def read_ahead(self, ask: Callable[[], Value] | None = None) -> None:
        """Begin to read the value in a thread, unless it is fresh or such a read began in the last few seconds.

        *ask*: a function to call for this read instead of the cache's own function.
        """
        with self._lock:
            if not (
                self._is_fresh(self._newest, self._seconds)
                or self._is_fresh(self._ahead, _AHEAD_SECONDS)
            ):
                began = next(self._clock)
                self._ahead = _Read(in_thread(READ_AHEAD_THREAD, ask or self._ask), began)

    def outdate(self) -> None:
        """Make the next `get` read the value again, because it may have changed."""
        with self._lock:
            self._outdated = next(self._clock)

    def confirm(self) -> None:
        """Mark the value as fresh, because it is known to equal the stored value."""
        with self._lock:
            if self._newest:
                self._newest = replace(self._newest, at=time.monotonic())

    def amend(self, change: Callable[[Value], Value]) -> None:
        """Replace the cached value by the result of *change*, until the value is read again."""
        with self._lock:
            if self._newest:
                self._newest = replace(self._newest, value=change(self._newest.value))
                self._amended = next(self._clock)

    def _keep(self, read: _Read[Value]) -> Value:
        with self._lock:
            if self._newest is None or read.began > max(self._newest.began, self._amended):
                self._newest = read
        return read.value

    def _is_fresh(self, read: _Read[Value] | _Read[Future[Value]] | None, seconds: float) -> bool:
        if read is None or read.began < self._outdated:
            return False
        return time.monotonic() - read.at < seconds
