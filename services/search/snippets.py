"""The part of a message that shows why it was found."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import takewhile

from services.search.words import placed_words

_BEFORE = 40  # characters of a snippet before the first found word
_LENGTH = 200  # characters

Range = tuple[int, int]  # begin and end, in characters of the text


@dataclass(frozen=True, slots=True)
class Wanted:
    """The parts of a query: for each word of a part its forms, and whether the last of these words may go on."""

    parts: tuple[tuple[tuple[frozenset[str], ...], bool], ...] = field(repr=False)

    def ranges(self, text: str) -> Iterator[Range]:
        """Yield where *text* has a part of the query, in the order of their ends."""
        most = max((len(words) for words, _ in self.parts), default=0)
        last = deque[tuple[str, int, int]](maxlen=most)
        for placed in placed_words(text):
            last.append(placed)
            for words, is_begun in self.parts:
                if len(words) <= len(last):
                    said = [*last][-len(words) :]
                    if _is_said(words, [word for word, _, _ in said], is_begun=is_begun):
                        yield said[0][1], said[-1][2]


def _is_said(words: tuple[frozenset[str], ...], said: list[str], *, is_begun: bool) -> bool:
    *first, final = zip(words, said, strict=True)
    return all(word in forms for forms, word in first) and (
        final[1] in final[0] or (is_begun and final[1].startswith(tuple(final[0])))
    )


@dataclass(frozen=True, slots=True)
class Snippet:
    """A part of a text on one line, and where it has what was searched."""

    text: str = field(repr=False)
    ranges: tuple[Range, ...]
    is_begun: bool  # False: the text begins earlier
    is_ended: bool  # False: the text goes on


def snippet(text: str, wanted: Wanted) -> Snippet:
    """Return the part of *text* about the first place that has what is *wanted*, or its beginning."""
    found = wanted.ranges(text)
    first = next(found, None)
    begin = _word_begin(text, max(0, first[0] - _BEFORE)) if first else 0
    end = begin + _LENGTH
    marked = [first, *takewhile(lambda place: place[1] <= end, found)] if first else []
    part = text[begin:end]
    return Snippet(
        "".join(" " if character.isspace() else character for character in part),
        tuple(_joined((a - begin, min(b, end) - begin) for a, b in marked)),
        is_begun=not text[:begin].strip(),
        is_ended=not text[end:].strip(),
    )


def _word_begin(text: str, at: int) -> int:
    """Return *at*, or the begin of the next word if *at* is within a word."""
    if not at or text[at - 1].isspace():
        return at
    return next((place + 1 for place in range(at, at + _BEFORE) if text[place].isspace()), at)


def _joined(ranges: Iterator[Range]) -> Iterator[Range]:
    """Yield *ranges* in order, those that overlap as one."""
    begin = end = -1
    for first, last in sorted(ranges):
        if first > end:
            if end > 0:
                yield begin, end
            begin = first
        end = max(end, last)
    if end > 0:
        yield begin, end
