"""Counts that are remembered, so that a message is measured once and not at every turn."""

from collections.abc import Callable

from services.memory.tokens import TokenCounter

_MOST = 100_000  # texts: some 20 MB


class CachedCounter:
    """Another counter's figures, by the text's length and hash. It holds no text.

    Strings keep their hash, so a message that stays in memory is looked up without reading it.
    """

    def __init__(self, counter: TokenCounter, most: int = _MOST) -> None:
        self._counter = counter
        self._most = most
        self._counts: dict[tuple[int, int], int] = {}
        self._bounds: dict[tuple[int, int], int] = {}

    def count(self, text: str) -> int:
        return self._known(self._counts, self._counter.count, text)

    def bound(self, text: str) -> int:
        return self._known(self._bounds, self._counter.bound, text)

    def _known(
        self, figures: dict[tuple[int, int], int], measure: Callable[[str], int], text: str
    ) -> int:
        key = len(text), hash(text)
        known = figures.get(key)
        if known is None:
            known = measure(text)
            if len(figures) >= self._most:  # seldom: to begin again is cheaper than to keep ages
                figures.clear()
            figures[key] = known
        return known
