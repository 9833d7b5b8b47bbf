"""The part of a message that shows why it was found."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, pairwise

from services.search.words import placed_words

_BEFORE = 40  # characters of a snippet before the first found word
_LENGTH = 200  # characters

Range = tuple[int, int]  # begin and end, in characters of the text


@dataclass(frozen=True, slots=True)
class Wanted:
    """The parts of a query: for each word of a part its forms, and whether the last of these words may go on."""

    parts: tuple[tuple[tuple[frozenset[str], ...], bool], ...] = field(repr=False)

    def is_in(self, text: str) -> bool:
        """Return True if *text* has every part."""
        return all(next(Wanted((part,)).ranges(text), None) for part in self.parts)

    def ranges(self, text: str) -> Iterator[Range]:
        """Yield where *text* has a part of the query, in the order of their ends."""
        most = max((len(words) for words, _ in self.parts), default=0)
        parts = [(words, tuple(words[-1]) if is_begun else ()) for words, is_begun in self.parts]
        last = deque[tuple[str, int, int]](maxlen=most)
        for placed in placed_words(text):
            word, _, end = placed
            last.append(placed)
            for words, beginnings in parts:
                if not (word in words[-1] or word.startswith(beginnings)):
                    continue
                said = [*last][-len(words) :]
                before = zip(words[:-1], said[:-1], strict=False)
                if len(said) == len(words) and all(other[0] in forms for forms, other in before):
                    yield said[0][1], end


@dataclass(frozen=True, slots=True)
class Snippet:
    """A part of a text on one line, and where it has what was searched."""

    text: str = field(repr=False)
    ranges: tuple[Range, ...]
    is_begun: bool  # False: the text begins earlier
    is_ended: bool  # False: the text goes on

    def segments(self) -> list[str]:
        """Return the text in pieces, by turns plain and found, the first one plain; an ellipsis stands for what is left out."""
        ends = [0, *chain.from_iterable(self.ranges), len(self.text)]
        pieces = [self.text[begin:end] for begin, end in pairwise(ends)]
        pieces[0] = pieces[0] if self.is_begun else f"… {pieces[0]}"
        return pieces if self.is_ended else [*pieces[:-1], f"{pieces[-1].rstrip()} …"]


def snippet(text: str, wanted: Wanted) -> Snippet:
    """Return the part of *text* about the first place that has what is *wanted*, or its beginning."""
    first = next(wanted.ranges(text), None)
    begin = _word_begin(text, max(0, first[0] - _BEFORE)) if first else 0
    end = begin + _LENGTH
    part = text[begin:end]
    return Snippet(
        "".join(" " if character.isspace() else character for character in part),
        tuple(_joined(wanted.ranges(part))),
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
