"""Ranking of earlier messages for a prompt: BM25 over messages with their surroundings. Pure, and in memory only.

Each message is scored as a virtual document: itself, and what stands around it, because an answer
seldom repeats the words of its question. A neighbour at most three messages away counts by its
distance in words, halved every 16 of them: two friends' short messages are read together, and a
reply of 500 words lends nothing. With n messages, of which df have the term:

    tf     = sum over neighbours of 2**(-distance / 16) * occurrences, and length likewise
    norm   = 1 - B + B * length / average length
    score  = sum over terms of log(1 + (n - df + 0.5) / (df + 0.5)) * tf * (K1 + 1) / (tf + K1 * norm)

(Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009). To this come
four weights: for a message that tells a time or a name, against a short question, for the speaker whom
the query names, and for the user's own words where the assistant's replies are much longer and the
query does not ask what the assistant said. docs/decisions/what-recall-finds.md says what each is worth.

A date or a range of days in the query is a term that the messages of those days have. From the eleventh
place on, the terms that the best twenty have in common count as well: the first places are for what was
asked, a long context is for what belongs to it.

The ranking depends on the messages alone, not on when or in which order they were added.
"""

import re
from array import array
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import compress
from math import fsum, log

import numpy as np
from numpy.typing import NDArray

from services.domain import ConversationId, MessageId, Role
from services.memory.dates import named_days
from services.memory.terms import base, has_time, is_question, names, stem, words

_K1, _B = 1.2, 0.9
_PAUSE_SECONDS = 6 * 3600  # longer than a meal or a meeting and shorter than a night
_REACH = 3  # messages on either side that lend terms
_HALF = 16  # words of distance that halve what is lent
_LEAST_SHARE = 0.05  # less is nothing
_TO_ANSWER = 2  # times as much: what a question lends to the message after it
_PARTICULAR = 1.0  # for a time, and for a name that is not a speaker's
_NAMES = 5  # of a message, that are looked at
_ASKING, _SHORT = 0.8, 15  # a message that ends with a question, and has at most so many words
_NAMED = 1.5  # a message of the speaker whom the query names
_USER = 2  # at most: a message of the user, whose replies are longer
_COMPOUND = 0.5  # of an occurrence: a part of a compound, or a compound that has it as a part
_LONG, _LEAST = 9, 5  # letters of a compound, and of its parts
_WHOLE = "\0"  # before a long word that is kept whole
_ASKED = 50  # terms of a query
# places that only the query decides; from how many messages, how many terms are related to it, that at
# most this share of all messages have; and what they count
_FIRST, _BEST, _RELATED, _COMMON, _RELATION = 10, 20, 20, 0.1, 0.3

# about what the assistant said
_ABOUT_REPLIES = re.compile(
    r"\b(?:(?:did|do|have|had|were|was|could|can|that|as|what) you\b|your (?!self)|according to you"
    r"|you (?:said|say|told|tell|suggest|recommend|g[ai]ve|propose|list|mention|explain|advise|wrote|draft|made))",
    re.IGNORECASE,
)
_ROLES = frozenset({Role.USER.value, Role.ASSISTANT.value})

_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Passage:
    """One message as recall sees it."""

    id: MessageId
    conversation_id: ConversationId
    seq: int  # unique within its conversation
    speaker: str
    body: str = field(repr=False)
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Hit:
    """A message that was found."""

    id: MessageId
    score: float  # higher is better; compares within one search only
    matched: tuple[str, ...] = field(repr=False)  # words of the query; none: found beside a hit


class RecallIndex:
    """An inverted index of one person's messages. For one thread at a time."""

    def __init__(self) -> None:
        # not shared: these hold words that one person wrote
        self._terms: dict[str, tuple[str, ...]] = {}  # by word
        self._postings: dict[str, array[int]] = {}  # by term, a row for each occurrence
        self._rows: dict[MessageId, int] = {}
        self._messages: list[_Message | None] = []  # by row
        self._free: list[int] = []  # rows of messages that were removed
        self._conversations: dict[ConversationId, int] = {}  # their numbers
        self._columns: _Columns | None = None  # of the messages as they now are
        self._long = ""  # long words, one in a line

    def add(self, passages: Iterable[Passage]) -> None:
        """Index *passages*, each in place of an earlier one with its id."""
        new = {passage.id: passage for passage in passages}
        self.remove(new.keys() & self._rows.keys())
        for passage in new.values():
            row = self._free.pop() if self._free else len(self._messages)
            if row == len(self._messages):
                self._messages.append(None)
            body = list(words(passage.body))
            about = words("" if passage.speaker in _ROLES else passage.speaker)
            terms = dict.fromkeys(
                term for word in (*body, *about) for term in self._post(word, row)
            )
            self._rows[passage.id] = row
            conversation = self._conversations.setdefault(
                passage.conversation_id, len(self._conversations)
            )
            self._messages[row] = _read(passage, conversation, row, len(body), tuple(terms))
            self._columns = None

    def remove(self, ids: Collection[MessageId]) -> None:
        """Forget these messages, and the words that no other has. Ids that are not known do no harm."""
        gone = [self._rows.pop(message_id) for message_id in ids if message_id in self._rows]
        if not gone:
            return
        is_gone = np.zeros(len(self._messages), bool)
        is_gone[gone] = True
        terms = {term for row in gone if (its := self._messages[row]) for term in its.terms}
        for term in terms:
            rows = np.frombuffer(self._postings.pop(term), np.intc)
            if len(left := rows[~is_gone[rows]]):
                self._postings[term] = array("i", left.tobytes())
        for row in gone:
            self._messages[row] = None
        self._free += gone
        self._terms.clear()
        self._columns, self._long = None, ""

    def search(self, query: str, limit: int = 50) -> tuple[Hit, ...]:
        """At most *limit* messages, the best first; of equals the newest first."""
        if self._columns is None:
            self._columns = _Columns([message for message in self._messages if message])
            self._long = "\n".join(
                ["", *(key[1:] for key in self._postings if key[0] == _WHOLE), ""]
            )
        columns = self._columns
        asked: dict[str, tuple[str, dict[str, float]]] = {}  # by stem: a word, and terms by weight
        for word in words(query):
            terms = {its: 1.0 for its in [stem(word)] if its in self._postings}
            terms |= dict.fromkeys(self._compounds(word), _COMPOUND)
            if terms:
                asked.setdefault(stem(word), (word, terms))
        if len(asked) > _ASKED:  # a pasted text: what is rare in the messages tells them apart
            rarest = sorted(asked, key=lambda its: (self._times(asked[its][1]), its))[:_ASKED]
            asked = {its: asked[its] for its in rarest}

        scores = np.zeros(len(columns.messages))
        has_word: list[NDArray[np.bool_]] = []
        for _, terms in asked.values():
            own = np.zeros(len(scores))
            for term, weight in terms.items():
                own += weight * self._occurrences(columns, term)
            has_word.append(own > 0)
            scores += columns.bm25(own)
        for days in columns.named_days(query):
            scores += columns.bm25(days)
        weights = columns.weights(query)
        scores = (scores + columns.particulars * (scores > 0)) * weights
        best = columns.best(scores, min(limit, _FIRST))
        if limit > len(best) == _FIRST:
            wider = scores + _RELATION * weights * self._related(columns, scores, asked)
            wider[best] = scores[best] + wider.max()  # before the others, in their own order
            scores, best = wider, columns.best(wider, limit)
        named = [word for word, _ in asked.values()]
        has = np.array([column[best] for column in has_word]).reshape(len(named), len(best)).T
        return tuple(
            Hit(columns.messages[place].id, score, tuple(compress(named, own)))
            for place, score, own in zip(best, scores[best].tolist(), has.tolist(), strict=True)
        )

    def _post(self, word: str, row: int) -> tuple[str, ...]:
        """Post the terms of *word*, and return them."""
        terms = self._terms.get(word)
        if terms is None:
            whole = [_WHOLE + base(word)] if len(word) >= _LONG else []
            terms = self._terms[word] = (stem(word), *whole)
        for term in terms:
            if (postings := self._postings.get(term)) is None:
                postings = self._postings[term] = array("i")
            postings.append(row)
        return terms

    def _related(self, columns: "_Columns", scores: _Floats, asked: Collection[str]) -> _Floats:
        """Scores for terms that the best messages have and few others (pseudo-relevance feedback)."""
        weights: defaultdict[str, float] = defaultdict(float)
        for place in columns.best(scores, _BEST):
            for term in columns.messages[place].terms:
                times = len(self._postings[term])
                if 1 < times <= _COMMON * len(scores) and term[0] != _WHOLE and term not in asked:
                    weights[term] += float(scores[place]) * columns.idf(times)
        chosen = sorted(weights, key=lambda term: (-weights[term], term))[:_RELATED]
        related = np.zeros(len(scores))
        for term in chosen:
            share = weights[term] / weights[chosen[0]]
            related += share * columns.bm25(self._occurrences(columns, term), lends=False)
        return columns.around(related)

    def _occurrences(self, columns: "_Columns", term: str) -> _Floats:
        """Count *term* in each message, by place."""
        places = columns.places[np.frombuffer(self._postings[term], np.intc)]
        return np.bincount(places, minlength=len(columns.messages)).astype(float)

    def _times(self, terms: Iterable[str]) -> int:
        return sum(len(self._postings[term]) for term in terms)

    def _compounds(self, word: str) -> Iterator[str]:
        """Terms of the words that *word* is made of, and of those made of it and of another word."""
        part = base(word)
        if word[0].isdigit() or len(part) < _LEAST:
            return
        for cut in range(_LEAST, len(part) - _LEAST + 1):
            first, second = self._linked(part[:cut]), stem(part[cut:])
            if first and second in self._postings:
                yield first
                yield second
        at = self._long.find(part)
        while at >= 0:
            begin, end = self._long.rfind("\n", 0, at) + 1, self._long.find("\n", at)
            whole, before, after = (
                self._long[begin:end],
                self._long[begin:at],
                self._long[at + len(part) : end],
            )
            if (not after and self._linked(before)) or (
                not before and self._linked(after, is_last=True)
            ):
                yield _WHOLE + whole
            at = self._long.find(part, end)

    def _linked(self, part: str, is_last: bool = False) -> str | None:
        """The term of *part*, which may have a linking s or n at the joint, if it is a word of the index."""
        parts = [part] + [
            (part.removeprefix(link) if is_last else part.removesuffix(link))
            for link in ("s", "n", "en", "es")
        ]
        return next(
            (stem(one) for one in parts if len(one) >= _LEAST and stem(one) in self._postings), None
        )


@dataclass(frozen=True, slots=True)
class _Message:
    """What is kept of a passage beside its terms."""

    id: MessageId
    conversation: int
    seq: int
    created_at: datetime
    speaker: str = field(repr=False)
    row: int
    length: int  # in words
    terms: tuple[str, ...] = field(repr=False)
    has_time: bool
    names: frozenset[str] = field(repr=False)
    is_question: bool  # and a short one: a long reply tells, though it end with "Shall I go on?"


class _Columns:
    """All messages as columns, conversation by conversation in the order of `seq`."""

    def __init__(self, messages: list[_Message]) -> None:
        def column(value: Callable[[_Message], float]) -> _Floats:
            return np.fromiter(map(value, messages), float, len(messages))

        order = np.lexsort((column(lambda m: m.seq), column(lambda m: m.conversation)))
        self.messages = messages = [messages[place] for place in order]
        self.places = np.zeros(max((m.row for m in messages), default=0) + 1, np.int64)  # by row
        self.places[[m.row for m in messages]] = range(len(messages))
        self._is_question = column(lambda m: m.is_question) > 0
        speakers = [message.speaker for message in messages]
        self._speakers = {
            speaker: np.flatnonzero(np.array([its == speaker for its in speakers]))
            for speaker in dict.fromkeys(speakers)
        }
        called = {word for speaker in self._speakers for word in words(speaker)}
        self.particulars = _PARTICULAR * column(lambda m: m.has_time + (not m.names <= called))

        self._days = column(lambda m: m.created_at.toordinal())
        lengths = column(lambda m: m.length)
        self._lent = list(
            self._shares(
                lengths,
                column(lambda m: m.conversation),
                column(lambda m: m.created_at.timestamp()),
            )
        )
        answers = np.where(self._is_question[:-1], _TO_ANSWER, 1)
        self._to_later = [
            share * answers if k == 0 else share for k, share in enumerate(self._lent)
        ]
        self._user = self._user_weight(lengths)
        around = self.around(lengths, self._lent)
        # fsum: the mean does not depend on the order of conversations
        self._norm = 1 - _B + _B * around * (len(messages) / max(1.0, fsum(around)))

    def bm25(self, occurrences: _Floats, lends: bool = True) -> _Floats:
        """The score of each message for a term that occurs so many times in each."""
        tf = self.around(occurrences) if lends else occurrences
        idf = self.idf(int(np.count_nonzero(occurrences)))
        return idf * (_K1 + 1) * tf / (tf + _K1 * self._norm)

    def idf(self, df: int) -> float:
        """Inverse document frequency of a term found in *df* messages."""
        return log(1 + (len(self.messages) - df + 0.5) / (df + 0.5))

    def named_days(self, query: str) -> Iterator[_Floats]:
        """For each range of days that *query* names: 1 for its messages."""
        years = range(0)
        if self.messages:
            first, last = (date.fromordinal(int(f(self._days))) for f in (np.min, np.max))
            years = range(first.year, last.year + 1)
        for begin, end in named_days(query, years):
            within = (self._days >= begin.toordinal()) & (self._days <= end.toordinal())
            yield within.astype(float)

    def weights(self, query: str) -> _Floats:
        """Return the factor of each message's score."""
        weights = np.where(self._is_question, _ASKING, 1.0)
        if self._speakers.keys() <= _ROLES:
            if not _ABOUT_REPLIES.search(query):
                weights[self._speakers.get(Role.USER.value, [])] *= self._user
            return weights
        asked = set(words(query))
        named = [
            places for name, places in self._speakers.items() if not asked.isdisjoint(words(name))
        ]
        if len(named) == 1:
            weights[named[0]] *= _NAMED
        return weights

    def best(self, scores: _Floats, limit: int) -> list[int]:
        """The places of at most *limit* messages that have a score, the best first."""
        found = np.flatnonzero(scores > 0)
        if 0 < limit < len(found):
            found = found[scores[found] >= np.partition(scores[found], -limit)[-limit]]

        def order(place: int) -> tuple[float, datetime, int, MessageId]:
            message = self.messages[place]
            return float(scores[place]), message.created_at, message.seq, message.id

        return sorted(found.tolist(), key=order, reverse=True)[: max(0, limit)]

    def _shares(
        self, lengths: _Floats, conversations: _Floats, times: _Floats
    ) -> Iterator[_Floats]:
        """By distance in messages: what each message and the later one lend each other."""
        middles = np.cumsum(lengths) - lengths / 2
        is_break = (np.diff(conversations) != 0) | (np.abs(np.diff(times)) > _PAUSE_SECONDS)
        stretches = np.concatenate([[0], np.cumsum(is_break)])
        for k in range(1, _REACH + 1):
            together = stretches[k:] == stretches[:-k]
            share = 0.5 ** ((middles[k:] - middles[:-k]) / _HALF)
            yield share * (together & (share > _LEAST_SHARE))

    def around(self, values: _Floats, to_later: Sequence[_Floats] | None = None) -> _Floats:
        """*values* with what neighbours lend: more from a question to its answer, unless *to_later* says how much."""
        to_later = self._to_later if to_later is None else to_later
        total = values.copy()
        for k, (earlier, later) in enumerate(zip(self._lent, to_later, strict=True), 1):
            total[k:] += later * values[:-k]
            total[:-k] += earlier * values[k:]
        return total

    def _user_weight(self, lengths: _Floats) -> float:
        """From 1, where replies are at most twice as long as prompts, to `_USER`."""
        prompts, replies = (
            float(lengths[self._speakers[role.value]].mean())
            if role.value in self._speakers
            else 1.0
            for role in (Role.USER, Role.ASSISTANT)
        )
        return min(_USER, max(1.0, replies / max(1.0, 2 * prompts)))


def _read(
    passage: Passage, conversation: int, row: int, length: int, terms: tuple[str, ...]
) -> _Message:
    return _Message(
        id=passage.id,
        conversation=conversation,
        seq=passage.seq,
        created_at=passage.created_at,
        speaker=passage.speaker,
        row=row,
        length=length,
        terms=terms,
        has_time=has_time(passage.body),
        names=names(passage.body, _NAMES),
        is_question=is_question(passage.body) and length <= _SHORT,
    )
