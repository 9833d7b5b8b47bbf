"""Extracts of long messages: the sentences that match a query best. No I/O."""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from itertools import accumulate, islice
from math import lcm

from services.domain.context import Extract
from services.memory.terms import stems

# the weight of a word stem, divided among the sentences that contain it; divisible by 1 to 40, so that shares are exact
_WEIGHT = lcm(*range(1, 41))
# minimum and maximum words of an extract, if its sentences allow that; halved if the room is below `_LITTLE` tokens
_LEAST, _MOST = 60, 120
_LITTLE = 400
# maximum sentences of a text that are searched; the longest texts have 5,000
_MOST_SENTENCES = 20_000

# matches text up to the end of a sentence or of a line
_SENTENCE = re.compile(
    r"\S.*?(?:[.!?\u2026][\"')\]*_]*(?=\s)|[\u3002\uff01\uff1f]|$)", re.MULTILINE
)
# matches a word: at most two characters of a script without spaces, or at most 20 of any other script
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
    """Find the run of consecutive sentences that contains the most of the query's stems *asked*; return its position.

    The extract does not overlap the earlier extracts *taken*. It has half the length if fewer than `_LITTLE` tokens are
    free for it (*room_tokens*). A stem counts less if more sentences contain it. If several runs have the highest score, return
    the last one: it begins with the matching sentences instead of ending with them. If no sentence contains one of the
    stems, return the beginning of *text*, or None if there are earlier extracts.
    """
    least, most = (_LEAST, _MOST) if room_tokens >= _LITTLE else (_LEAST // 2, _MOST // 2)
    spans = list(islice(_sentences(text), _MOST_SENTENCES))
    found = [stems(text[begin:end]).intersection(asked) for begin, end in spans]
    times = Counter(stem for matched in found for stem in matched)
    scores = [sum(_WEIGHT // times[stem] for stem in matched) for matched in found]
    sizes = [count_words(text[begin:end]) for begin, end in spans]
    for n, (begin, end) in enumerate(spans):
        if any(begin < its_end and its_begin < end for its_begin, its_end in taken):
            sizes[n] = most + 1

    sums = [0, *accumulate(scores)]
    best: tuple[int, int] | None = None
    best_score = 0
    for first, end, size in _longest_runs(sizes, most):
        if size < least and first and size + sizes[first - 1] <= most:
            continue  # the previous run contains this run
        score = sums[end] - sums[first]
        if best is None or score > best_score or score == best_score > 0:
            best, best_score = (first, end), score
    if best is None or (taken and not best_score):
        return None
    first, end = best
    if not best_score:
        ends = enumerate(accumulate(sizes[first:end]), first + 1)
        end = next((n for n, size in ends if size >= least), end)
    return spans[first][0], spans[end - 1][1]


def _longest_runs(sizes: Sequence[int], most: int) -> Iterator[tuple[int, int, int]]:
    """Yield, for each index, the longest run that begins there and has a sum of at most *most*, as (start, end, sum)."""
    end = total = 0
    for first, size in enumerate(sizes):
        while end < len(sizes) and total + sizes[end] <= most:
            total += sizes[end]
            end += 1
        if end > first:
            yield first, end, total
            total -= size
        else:
            end = first + 1


def _sentences(text: str) -> Iterator[Extract]:
    """Yield the position of each sentence in *text*; a sentence with too many words is split."""
    for sentence in _SENTENCE.finditer(text):
        words = _WORD.finditer(text, *sentence.span())
        while piece := list(islice(words, _MOST)):
            yield piece[0].start(), piece[-1].end()
