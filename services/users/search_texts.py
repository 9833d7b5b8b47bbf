"""Sealed search texts: copies of messages in pieces, from which a search fills its index at once.

A search makes them for the conversations that have none, one after the other, and for those that changed since. Ten short ones
in a row become one.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from services.domain import Listed, SearchText
from services.store.port import Corpus

_MERGED = 10  # texts at the end of a conversation that become one
_SHORT = 20_000  # characters of a text that is merged with others


def missing(texts: Sequence[SearchText], seqs: range) -> Iterator[range]:
    """Yield the ranges of *seqs* that none of *texts*, which are in order, has."""
    begin = seqs.start
    for text in texts:
        if begin < text.seqs.start:
            yield range(begin, min(text.seqs.start, seqs.stop))
        begin = max(begin, text.seqs.stop)
    if begin < seqs.stop:
        yield range(begin, seqs.stop)


def complete(corpus: Corpus, listed: Listed) -> None:
    """Store texts of the messages of a conversation that have none.

    May raise SignedOut, StoreUnavailable, AccountFull; Stale or NotFound (messages were deleted meanwhile).
    """
    texts = corpus.search_texts([listed.id]).get(listed.id, ())
    for seqs in missing(texts, range(1, listed.last_seq + 1)):
        replaced = _mergeable(texts) if seqs.stop > listed.last_seq else ()
        begin = replaced[0].seqs.start if replaced else seqs.start
        wanted = range(begin, seqs.stop)
        found = [
            message
            for read in corpus.messages({listed.id: wanted})
            for message in read.get(listed.id, ())
        ]
        corpus.put_search_texts(listed, wanted, found, [text.seqs.start for text in replaced])


def _mergeable(texts: Sequence[SearchText]) -> Sequence[SearchText]:
    """Return the last of *texts* if they are as many as are merged with the next one, short and in a row, else none."""
    last = texts[1 - _MERGED :]
    is_row = all(text.seqs.stop == other.seqs.start for text, other in pairwise(last))
    is_due = len(last) == _MERGED - 1 and is_row and all(map(_is_short, last))
    return last if is_due else ()


def _is_short(text: SearchText) -> bool:
    return sum(len(message.body) for message in text.messages) < _SHORT
