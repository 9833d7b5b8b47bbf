"""What was used last, and no more of it: opened text and keys are kept for speed, not for as long as a tab is open."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """A cache of at most so many; whoever misses something makes it anew."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: OrderedDict[Key, Value] = OrderedDict()
        self._change = threading.Lock()

    def get(self, key: Key) -> Value | None:
        with self._change:
            if key in self._held:
                self._held.move_to_end(key)
            return self._held.get(key)

    def put(self, key: Key, value: Value) -> None:
        with self._change:
            self._held[key] = value
            self._held.move_to_end(key)
            if len(self._held) > self._most:
                self._held.popitem(last=False)

    def drop(self, key: Key) -> None:
        with self._change:
            self._held.pop(key, None)

    def drop_all(self, is_unwanted: Callable[[Value], bool]) -> None:
        """Drop every value that *is_unwanted*."""
        with self._change:
            for key in [key for key, value in self._held.items() if is_unwanted(value)]:
                del self._held[key]
