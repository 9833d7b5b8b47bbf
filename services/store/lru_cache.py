"""A thread-safe LRU cache."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from cachetools import LRUCache

Key = TypeVar("Key")
Value = TypeVar("Value")


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
