"""Search in earlier messages: an inverted index in memory, ranked by BM25 (ranking.py). No I/O.

The first words of a long message count twice. A query for a long word also finds its parts, and compounds that contain
it. A date or date range in a query counts as a term of the messages of those days. From the eleventh result on, terms
that the best twenty messages have in common count, too (pseudo-relevance feedback): the first ten results answer the
question, and a long context also has room for related messages.
"""

from array import array
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from itertools import compress, count

import numpy as np
from numpy.typing import NDArray

from services.domain import ConversationId, MessageId
from services.memory.ranking import ABOUT_REPLIES, ROLES, Columns, Floats, Numbers, spread
from services.memory.terms import base, has_time, is_question, names, stem, words

_NAMES = 5  # maximum number of names that are indexed for a message
_SHORT = 15  # a question of at most this many words counts as short, and so as uninformative
_LEAD = 40  # number of words at the start of a long message that count twice, because they name its subject
_COMPOUND = 0.5  # the weight of a match between a compound word and one of its parts, whichever of them is in the query
# minimum letters of an indexed compound, and of its parts; maximum letters of a query word that is compared with compounds
_LONG, _LEAST, _LONGEST = 9, 5, 60
_LINKS = ("", "s", "n", "en", "es")  # letters that link the parts of a compound
_WHOLE, _PROPER = "\0", "\1"  # prefixes of the terms of whole long words, and of names
_MAX_TERMS = 50  # maximum terms of a query
# maximum words of a query for which compounds are looked up among all long words
_MAX_COMPOUNDS = 100
_FIRST = 10  # results ranked by the query alone; later results are ranked by related terms, too
# related terms are taken from this many of the best messages; at most this many related terms are used
_BEST, _RELATED = 20, 20
_COMMON = 0.1  # the largest share of all messages in which a related term may occur
_RELATION = 0.3  # the weight of the related terms in a message's score

# maps a stem to the word in the query, and to the word's index terms with their weights
_Query = dict[str, tuple[str, dict[str, float]]]


@dataclass(frozen=True, slots=True)
class Passage:
    """A message in the form that the index accepts."""

    id: MessageId
    conversation_id: ConversationId
    seq: int  # unique within its conversation
    speaker: str
    body: str = field(repr=False)
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Hit:
    """A search result."""

    id: MessageId
    score: float  # higher is better; comparable only within one search
    # the words of the query that the message has; empty if only a neighbour, a date or related terms matched
    matched: tuple[str, ...] = field(repr=False)


class RecallIndex:
    """An inverted index of one user's messages. Only one thread at a time may use it."""

    def __init__(self) -> None:
        # each index has its own cache, because the cache contains words of one user
        self._terms_of = cache(_index_terms)
        # maps a term to the row number of each occurrence
        self._postings: dict[str, array[int]] = {}
        self._rows: dict[MessageId, int] = {}
        self._ids: list[MessageId] = []  # the message id of each row
        self._terms: list[tuple[str, ...]] = []  # the terms of each row
        # the fields of `Numbers`, one row after another
        self._numbers = array("d")
        self._free: list[int] = []  # the rows of removed messages, which later messages reuse
        # a number for each conversation, because the array `_numbers` cannot hold ids
        self._conversations = defaultdict[ConversationId, int](count().__next__)
        self._speakers = defaultdict[str, int](count().__next__)
        self._columns: Columns | None = None  # the columns of all messages; None: out of date
        # `_long`: the searchable long words, one per line; `_new_long`: long words that are not in `_long` yet
        self._long, self._new_long = "\n", list[str]()

    def add(self, passages: Iterable[Passage]) -> None:
        """Index *passages*; each replaces an earlier passage with the same id."""
        new = {passage.id: passage for passage in passages}
        self.remove(new.keys() & self._rows.keys())
        for passage in new.values():
            row = self._rows[passage.id] = self._free.pop() if self._free else len(self._ids)
            body = list(words(passage.body))
            about = words("" if passage.speaker in ROLES else passage.speaker)
            lead = body[:_LEAD] if len(body) > 2 * _LEAD else ()
            named = names(passage.body, _NAMES)
            terms = [term for word in (*body, *about, *lead) for term in self._terms_of(word)]
            terms += [_PROPER + name for name in named]
            for term in terms:
                if (postings := self._postings.get(term)) is None:
                    postings = self._postings[term] = array("i")
                    self._new_long += [term[1:]] if term[0] == _WHOLE else []
                postings.append(row)
            # the slice replaces a free row, or adds a row at the end
            self._ids[row : row + 1] = [passage.id]
            self._terms[row : row + 1] = [tuple(dict.fromkeys(terms))]
            numbers = Numbers[float](
                conversation=self._conversations[passage.conversation_id],
                seq=passage.seq,
                speaker=self._speakers[passage.speaker],
                seconds=passage.created_at.timestamp(),
                day=passage.created_at.toordinal(),
                length=len(body),
                times=has_time(passage.body),
                names=len(named),
                is_question=is_question(passage.body) and len(body) <= _SHORT,
            )
            self._numbers[row * len(numbers) : (row + 1) * len(numbers)] = array("d", numbers)
            self._columns = None

    def remove(self, ids: Collection[MessageId]) -> None:
        """Remove the messages *ids*, and the words that only these contain. Unknown ids are ignored."""
        gone = [self._rows.pop(message_id) for message_id in ids if message_id in self._rows]
        if not gone:
            return
        is_gone = np.isin(np.arange(len(self._ids)), gone)
        for term in {term for row in gone for term in self._terms[row]}:
            rows = np.frombuffer(self._postings.pop(term), np.intc)
            if len(left := rows[~is_gone[rows]]):
                self._postings[term] = array("i", left.tobytes())
        for row in gone:
            self._terms[row] = ()
        self._free += gone
        self._terms_of.cache_clear()
        self._columns, self._long = None, "\n"
        self._new_long = [term[1:] for term in self._postings if term[0] == _WHOLE]

    def search(self, query: str, limit: int = 50) -> tuple[Hit, ...]:
        """Return at most *limit* messages, best first; among equal scores, the newest first."""
        columns = self._columns = self._columns or self._read()
        # "you" and the word after it are searched only if no other word of the query is indexed
        asked = self._parse(ABOUT_REPLIES.sub(" ", query)) or self._parse(query)
        scores = np.zeros(len(columns.ids))
        has_word: list[NDArray[np.bool_]] = []
        for _, terms in asked.values():
            own = np.zeros(len(scores))
            for term, weight in terms.items():
                own += weight * columns.count(self._postings[term])
            has_word.append(own > 0)
            scores += columns.bm25(own)
        for days in columns.named_days(query):
            scores += columns.bm25(days)
        weights = columns.weights(query)
        scores = (spread(scores, columns.exchanged) + columns.particulars * (scores > 0)) * weights
        best = columns.best(scores, min(limit, _FIRST))
        if limit > len(best) == _FIRST:
            wider = scores + _RELATION * weights * self._related(columns, scores, asked)
            # keeps the first results first, in the same order
            wider[best] = scores[best] + wider.max()
            scores, best = wider, columns.best(wider, limit)
        named = [word for word, _ in asked.values()]
        has = np.array([column[best] for column in has_word]).reshape(len(named), len(best)).T
        return tuple(
            Hit(columns.ids[place], score, tuple(compress(named, own)))
            for place, score, own in zip(best, scores[best].tolist(), has.tolist(), strict=True)
        )

    def _parse(self, query: str) -> _Query:
        """Return the words of *query* that are indexed; for a long query, only the rarest, which discriminate best."""
        asked: _Query = {}
        for n, word in enumerate(dict.fromkeys(words(query))):
            if (term := stem(word)) not in asked:
                terms = {term: 1.0} if term in self._postings else {}
                if n < _MAX_COMPOUNDS:
                    terms |= dict.fromkeys(self._compounds(word), _COMPOUND)
                if terms:
                    asked[term] = word, terms
        if len(asked) > _MAX_TERMS:
            times = {term: sum(len(self._postings[t]) for t in asked[term][1]) for term in asked}
            rarest = sorted(asked, key=lambda term: (times[term], term))[:_MAX_TERMS]
            return {term: asked[term] for term in rarest}
        return asked

    def _read(self) -> Columns:
        """Build the columns of all messages, and make the new long words searchable."""
        self._long += "".join(f"{word}\n" for word in self._new_long)
        self._new_long.clear()
        rows = np.fromiter(self._rows.values(), np.intp, len(self._rows))
        numbers = Numbers(*np.array(self._numbers).reshape(-1, len(Numbers._fields)).T)
        present = set(numbers.speaker[rows].tolist())
        speakers = {name: number for name, number in self._speakers.items() if number in present}
        for name in {word for speaker in speakers for word in words(speaker)}:
            numbers.names[self._postings.get(_PROPER + name, [])] -= 1
        return Columns(self._ids, rows, numbers, speakers)

    def _related(self, columns: Columns, scores: Floats, asked: Collection[str]) -> Floats:
        """Score all messages by the rare terms of the best messages (pseudo-relevance feedback)."""
        weights: defaultdict[str, float] = defaultdict(float)
        for place in columns.best(scores, _BEST):
            for term in self._terms[columns.rows[place]]:
                times = len(self._postings[term])
                if 1 < times <= _COMMON * len(scores) and term[0] > _PROPER and term not in asked:
                    weights[term] += float(scores[place]) * columns.idf(times)
        chosen = sorted(weights, key=lambda term: (-weights[term], term))[:_RELATED]
        related = np.zeros(len(scores))
        for term in chosen:
            rows = np.frombuffer(self._postings[term], np.intc)
            places, times = np.unique(columns.places[rows], return_counts=True)
            share = weights[term] / weights[chosen[0]]
            related[places] += share * columns.bm25(times.astype(float), places)
        return spread(related, columns.lent)

    def _compounds(self, word: str) -> Iterator[str]:
        """Yield the terms of the parts of a compound *word*, and of the compounds that have it as a part."""
        part = base(word)
        if word[0].isdigit() or not _LEAST <= len(part) <= _LONGEST:
            return
        for cut in range(_LEAST, len(part) - _LEAST + 1):
            first, second = self._part(part[:cut]), stem(part[cut:])
            if first and second in self._postings:
                yield first
                yield second
        at = self._long.find(part)
        while at >= 0:
            end = self._long.find("\n", at)
            whole = self._long[self._long.rfind("\n", 0, at) + 1 : end]
            before, _, after = whole.partition(part)
            if (not after and self._part(before)) or (
                not before and self._part(after, is_last=True)
            ):
                yield _WHOLE + whole
            at = self._long.find(part, end)

    def _part(self, text: str, is_last: bool = False) -> str | None:
        """Return the indexed term for *text*, a part of a compound, ignoring linking letters; None if there is no such term."""
        without = text.removeprefix if is_last else text.removesuffix
        terms = (stem(one) for one in map(without, _LINKS) if len(one) >= _LEAST)
        return next((term for term in terms if term in self._postings), None)


def _index_terms(word: str) -> tuple[str, ...]:
    """Return the stem of *word* and, for a long word, also its base form, by which compounds are found."""
    whole = [_WHOLE + base(word)] if len(word) >= _LONG else []
    return (stem(word), *whole)
