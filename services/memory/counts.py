"""Counts that are remembered, so that a message is measured once and not at every turn."""

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
        key = len(text), hash(text)
        known = self._counts.get(key)
        return self._learn(self._counts, key, self._counter.count(text)) if known is None else known

    def bound(self, text: str) -> int:
        key = len(text), hash(text)
        known = self._bounds.get(key)
        return self._learn(self._bounds, key, self._counter.bound(text)) if known is None else known

    def _learn(self, figures: dict[tuple[int, int], int], key: tuple[int, int], figure: int) -> int:
        if len(figures) >= self._most:  # seldom: to begin again is cheaper than to keep ages
            figures.clear()
        figures[key] = figure
        return figure
