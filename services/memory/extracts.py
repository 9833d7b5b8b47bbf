"""Extracts of long messages: the sentences that match a query best. Pure."""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from math import fsum

from services.domain.context import Extract
from services.memory.terms import stems

# words of an extract, where the sentences allow it; half of them in little room
_LEAST, _MOST = 60, 120
_LITTLE = 400  # tokens

# up to the end of a sentence or of a line
_SENTENCE = re.compile(
    r"\S.*?(?:[.!?\u2026][\"')\]*_]*(?=\s)|[\u3002\uff01\uff1f]|$)", re.MULTILINE
)
# two signs of a script without spaces count as a word, and so do 20 letters of anything else
_WORD = re.compile(
    r"[\u0e00-\u109f\u1780-\u17ff\u2e80-\ua4cf]{1,2}|[^\s\u0e00-\u109f\u1780-\u17ff\u2e80-\ua4cf]{1,20}"
)


def is_long(text: str) -> bool:
    """Return True if *text* has more words than an extract may have."""
    return len(text) > _MOST and count_words(text) > _MOST


def count_words(text: str) -> int:
    return len(_WORD.findall(text))


def find_extract(
    text: str, asked: Collection[str], taken: Sequence[Extract] = (), room_tokens: int = _LITTLE
) -> Extract | None:
    """Return the consecutive sentences, outside of *taken*, that have most of the stems *asked*.

    A stem counts less, the more sentences have it. Of equals the last is returned, which begins with the subject
    instead of ending with it; the first where no sentence has any stem. Return None if some of the text is taken and
    the rest has none of the stems. The extract is shorter where *room_tokens* are few.
    """
    least, most = (_LEAST, _MOST) if room_tokens >= _LITTLE else (_LEAST // 2, _MOST // 2)
    spans = list(_sentences(text))
    found = [stems(text[begin:end]).intersection(asked) for begin, end in spans]
    times = Counter(stem for its in found for stem in its)
    scores = [fsum(1 / times[stem] for stem in its) for its in found]
    sizes = [count_words(text[begin:end]) for begin, end in spans]
    for n, (begin, end) in enumerate(spans):
        if any(begin < its_end and its_begin < end for its_begin, its_end in taken):
            sizes[n] = most + 1

    def is_full(size: int, beside: int) -> bool:
        return not 0 <= beside < len(sizes) or size + sizes[beside] > most

    best: tuple[float, Extract] | None = None
    for first in range(len(spans)):
        size, score = 0, 0.0
        for last in range(first, len(spans)):
            size += sizes[last]
            if size > most:
                break
            score += scores[last]
            is_whole = size >= least or (is_full(size, first - 1) and is_full(size, last + 1))
            if is_whole and (best is None or score > best[0] or score == best[0] > 0):
                best = score, (spans[first][0], spans[last][1])
    return best[1] if best and (best[0] or not taken) else None


def _sentences(text: str) -> Iterator[Extract]:
    """Yield the place of each sentence, of one with too many words in pieces."""
    for sentence in _SENTENCE.finditer(text):
        words = list(_WORD.finditer(text, *sentence.span()))
        for n in range(0, len(words), _MOST):
            piece = words[n : n + _MOST]
            yield piece[0].start(), piece[-1].end()
