"""What was read a moment ago: not asked for again at once, and shown for longer while the database is away."""

import time
from collections.abc import Callable
from typing import Generic, TypeVar

from services.errors import StoreUnavailable

Value = TypeVar("Value")
_SECONDS = 60.0  # after which another device may have changed it


class CachedRead(Generic[Value]):
    """A value that *ask* reads, as of so many seconds ago at most, or of longer while nobody can say."""

    def __init__(self, ask: Callable[[], Value], seconds: float = _SECONDS) -> None:
        self._ask, self._seconds = ask, seconds
        # when it was read, after how many changes, and what it was
        self._held: tuple[float, int, Value] | None = None
        self._changes = 0

    @property
    def last(self) -> Value | None:
        """The value as it was last read, however long ago."""
        return self._held[2] if self._held else None

    def get(self) -> Value:
        """The value. Raise what *ask* does; StoreUnavailable only if there is nothing else to say."""
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
        """The value as it is now. Raise what *ask* does."""
        changes = self._changes  # one more while it is read, and it is old
        value = self._ask()
        self._held = time.monotonic(), changes, value
        return value

    def put(self, value: Value) -> None:
        """It is *value* now."""
        self._held = time.monotonic(), self._changes, value

    def outdate(self) -> None:
        """It was changed, or may have been: the next who asks has it read."""
        self._changes += 1

    def amend(self, change: Callable[[Value], Value]) -> None:
        """Until it is read again, it is what *change* makes of it: what is destroyed is shown to nobody."""
        if self._held:
            self._held = *self._held[:2], change(self._held[2])
