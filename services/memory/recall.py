"""Ranking of earlier messages for a prompt: BM25 over messages with their surroundings. Pure, and in memory only.

Each message is scored as a virtual document: itself, and what stands around it, because an answer
seldom repeats the words of its question. A neighbour at most three messages away counts by its
distance in words, halved every 16 of them: two friends' short messages are read together, and a
reply of 500 words lends nothing. With n messages, of which df have the term:

    tf     = sum over neighbours of 2**(-distance / 16) * occurrences, and length likewise
    norm   = 1 - B + B * length / average length
    score  = sum over terms of log(1 + (n - df + 0.5) / (df + 0.5)) * tf * (K1 + 1) / (tf + K1 * norm)

(Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009). The first words
of a long message count twice; a prompt and its long reply have a fifth of each other's score. Four weights:
for a message that tells a time or a name, against a short question, for the speaker whom the query names
("you" is the assistant), for the user's words where replies are much longer. What each is worth stands in
docs/decisions/what-recall-finds.md.

A date or a range of days in the query is a term that the messages of those days have. From the eleventh
place on, the terms that the best twenty have in common count as well: the first places are for what was
asked, a long context is for what belongs to it.

The ranking depends on the messages alone, not on when or in which order they were added.
"""

import re
from array import array
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import compress, count
from math import fsum, log
from typing import Generic, NamedTuple, TypeVar

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
_EXCHANGE = 0.2  # at most: of the score of a prompt, that its reply has too, and the reverse
_LEAD = 40  # words that say what a message is about, if it has twice as many
_COMPOUND = 0.5  # of an occurrence: a part of a compound, or a compound that has it as a part
_LONG, _LEAST, _LONGEST = 9, 5, 60  # letters of a compound, of its parts; of either at most
_WHOLE, _PROPER = "\0", "\1"  # before a long word that is kept whole, and before a name
_ASKED = 50  # terms of a query
# places that only the query decides; from how many messages, how many terms are related to it, that at
# most this share of all messages have; and what they count
_FIRST, _BEST, _RELATED, _COMMON, _RELATION = 10, 20, 20, 0.1, 0.3

# about what the assistant said; the word after "you" is seldom what it was about: "did you recommend"
_ABOUT_REPLIES = re.compile(r"\b(?:your|you(?:['\u2019]\w+)?(?:\s+\w+)?)\b", re.IGNORECASE)
_ROLES = frozenset({Role.USER.value, Role.ASSISTANT.value})

_Floats = NDArray[np.float64]
_Number = TypeVar("_Number", float, _Floats)


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
        self._messages: list[_Message] = []  # by row
        self._numbers = array("d")  # of all rows, each as in `_Numbers`
        self._free: list[int] = []  # rows of messages that were removed
        self._conversations = defaultdict[ConversationId, int](count().__next__)  # their numbers
        self._speakers = defaultdict[str, int](count().__next__)
        self._columns: _Columns | None = None  # of the messages as they now are
        self._long, self._new_long = "\n", list[str]()  # long words, one in a line

    def add(self, passages: Iterable[Passage]) -> None:
        """Index *passages*, each in place of an earlier one with its id."""
        new = {passage.id: passage for passage in passages}
        self.remove(new.keys() & self._rows.keys())
        for passage in new.values():
            row = self._rows[passage.id] = self._free.pop() if self._free else len(self._messages)
            body = list(words(passage.body))
            about = words("" if passage.speaker in _ROLES else passage.speaker)
            lead = body[:_LEAD] if len(body) > 2 * _LEAD else ()
            named = names(passage.body, _NAMES)
            terms = [term for word in (*body, *about, *lead) for term in self._terms_of(word)]
            terms += [_PROPER + name for name in named]
            for term in terms:
                if (postings := self._postings.get(term)) is None:
                    postings = self._postings[term] = array("i")
                    self._new_long += [term[1:]] if term[0] == _WHOLE else []
                postings.append(row)
            # a row is replaced, or the next one is made
            self._messages[row : row + 1] = [_Message(passage.id, tuple(dict.fromkeys(terms)))]
            numbers = _Numbers[float](
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
        """Forget these messages, and the words that no other has. Ids that are not known do no harm."""
        gone = [self._rows.pop(message_id) for message_id in ids if message_id in self._rows]
        if not gone:
            return
        is_gone = np.isin(np.arange(len(self._messages)), gone)
        for term in {term for row in gone for term in self._messages[row].terms}:
            rows = np.frombuffer(self._postings.pop(term), np.intc)
            if len(left := rows[~is_gone[rows]]):
                self._postings[term] = array("i", left.tobytes())
        for row in gone:
            self._messages[row] = _Message(self._messages[row].id, ())
        self._free += gone
        self._terms.clear()
        self._columns, self._long = None, "\n"
        self._new_long = [term[1:] for term in self._postings if term[0] == _WHOLE]

    def search(self, query: str, limit: int = 50) -> tuple[Hit, ...]:
        """At most *limit* messages, the best first; of equals the newest first."""
        columns = self._columns = self._columns or self._read()
        asked: dict[str, tuple[str, dict[str, float]]] = {}  # by stem: a word, and terms by weight
        for word in words(_ABOUT_REPLIES.sub(" ", query)):
            if (its := stem(word)) in asked:
                continue
            terms = {its: 1.0} if its in self._postings else {}
            terms |= dict.fromkeys(self._compounds(word), _COMPOUND)
            if terms:
                asked[its] = word, terms
        if len(asked) > _ASKED:  # a pasted text: what is rare in the messages tells them apart
            times = {its: sum(len(self._postings[t]) for t in asked[its][1]) for its in asked}
            rarest = sorted(asked, key=lambda its: (times[its], its))[:_ASKED]
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
        scores = (_around(scores, columns.exchanged) + columns.particulars * (scores > 0)) * weights
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

    def _terms_of(self, word: str) -> tuple[str, ...]:
        if (terms := self._terms.get(word)) is None:
            whole = [_WHOLE + base(word)] if len(word) >= _LONG else []
            terms = self._terms[word] = (stem(word), *whole)
        return terms

    def _read(self) -> "_Columns":
        """Return the columns of the messages, and make their long words ready."""
        self._long += "".join(f"{word}\n" for word in self._new_long)
        self._new_long.clear()
        rows = np.fromiter(self._rows.values(), np.intp, len(self._rows))
        numbers = _Numbers(*np.array(self._numbers).reshape(-1, len(_Numbers._fields)).T)
        present = set(numbers.speaker[rows].tolist())
        speakers = {name: number for name, number in self._speakers.items() if number in present}
        for name in {word for speaker in speakers for word in words(speaker)}:
            numbers.names[self._postings.get(_PROPER + name, [])] -= 1
        return _Columns(self._messages, rows, numbers, speakers)

    def _related(self, columns: "_Columns", scores: _Floats, asked: Collection[str]) -> _Floats:
        """Scores for terms that the best messages have and few others (pseudo-relevance feedback)."""
        weights: defaultdict[str, float] = defaultdict(float)
        for place in columns.best(scores, _BEST):
            for term in columns.messages[place].terms:
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
        return _around(related, columns.lent)

    def _occurrences(self, columns: "_Columns", term: str) -> _Floats:
        """Count *term* in each message, by place."""
        places = columns.places[np.frombuffer(self._postings[term], np.intc)]
        return np.bincount(places, minlength=len(columns.messages)).astype(float)

    def _compounds(self, word: str) -> Iterator[str]:
        """Terms of the words that *word* is made of, and of those made of it and of another word."""
        part = base(word)
        if word[0].isdigit() or not _LEAST <= len(part) <= _LONGEST:
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
    """What the index has of a message."""

    id: MessageId
    terms: tuple[str, ...] = field(repr=False)


class _Numbers(NamedTuple, Generic[_Number]):
    """What is kept of a message beside its terms: numbers, or columns of them."""

    conversation: _Number
    seq: _Number
    speaker: _Number
    seconds: _Number
    day: _Number
    length: _Number  # in words
    times: _Number
    names: _Number  # that no speaker has
    is_question: _Number  # and a short one: a long reply tells, though it end with "Shall I go on?"


class _Columns:
    """All messages as columns, conversation by conversation in the order of `seq`."""

    def __init__(
        self,
        messages: Sequence[_Message],
        rows: NDArray[np.intp],
        numbers: _Numbers[_Floats],
        speakers: Mapping[str, int],
    ) -> None:
        order: NDArray[np.intp] = np.lexsort((numbers.seq[rows], numbers.conversation[rows]))
        in_order: list[int] = rows[order].tolist()
        self.messages = [messages[row] for row in in_order]
        self.places = np.zeros(len(messages), np.intp)  # by row
        self.places[rows[order]] = np.arange(len(rows))
        self._numbers = numbers = _Numbers(*(column[rows[order]] for column in numbers))
        self._speakers = {
            speaker: np.flatnonzero(numbers.speaker == number)
            for speaker, number in speakers.items()
        }
        self.particulars = _PARTICULAR * (numbers.times + (numbers.names > 0))
        self.lent = [(share, share) for share in self._shares()]
        around = _around(numbers.length, self.lent)
        answers = np.where(numbers.is_question[:-1], _TO_ANSWER, 1)
        self.lent[0] = self.lent[0][0], self.lent[0][1] * answers
        self._user = self._user_weight()
        is_user, is_reply = (
            numbers.speaker == speakers.get(role.value) for role in (Role.USER, Role.ASSISTANT)
        )
        is_turn = is_user[:-1] & is_reply[1:] & (np.diff(numbers.conversation) == 0)
        self.exchanged = [(_EXCHANGE * (self._user - 1) / (_USER - 1) * is_turn,) * 2]
        # fsum: the mean does not depend on the order of conversations
        self._norm = 1 - _B + _B * around * (len(rows) / max(1.0, fsum(around)))

    def bm25(self, occurrences: _Floats, places: NDArray[np.intp] | None = None) -> _Floats:
        """The score of each message for a term that occurs so many times in each; at *places*, without neighbours."""
        tf = _around(occurrences, self.lent) if places is None else occurrences
        norm = self._norm if places is None else self._norm[places]
        return self.idf(int(np.count_nonzero(occurrences))) * (_K1 + 1) * tf / (tf + _K1 * norm)

    def idf(self, df: int) -> float:
        """Inverse document frequency of a term found in *df* messages."""
        return log(1 + (len(self.messages) - df + 0.5) / (df + 0.5))

    def named_days(self, query: str) -> Iterator[_Floats]:
        """For each range of days that *query* names: 1 for its messages."""
        if not len(days := self._numbers.day):
            return
        first, last = (date.fromordinal(int(day)) for day in (days.min(), days.max()))
        for begin, end in named_days(query, range(first.year, last.year + 1)):
            within = (days >= begin.toordinal()) & (days <= end.toordinal())
            yield within.astype(float)

    def weights(self, query: str) -> _Floats:
        """Return the factor of each message's score."""
        weights = np.where(self._numbers.is_question, _ASKING, 1.0)
        if self._speakers.keys() <= _ROLES:
            if _ABOUT_REPLIES.search(query):
                weights[self._speakers.get(Role.ASSISTANT.value, [])] *= _NAMED
            else:
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
        numbers = self._numbers
        keys = (scores[found], numbers.seconds[found], numbers.seq[found])
        ids = (self.messages[place].id for place in found.tolist())
        order = zip(*(key.tolist() for key in keys), ids, found.tolist(), strict=True)
        return [place for *_, place in sorted(order, reverse=True)[: max(0, limit)]]

    def _shares(self) -> Iterator[_Floats]:
        """By distance in messages: what each message and the later one lend each other."""
        numbers = self._numbers
        middles = np.cumsum(numbers.length) - numbers.length / 2
        is_other = np.diff(numbers.conversation) != 0
        is_break = is_other | (np.abs(np.diff(numbers.seconds)) > _PAUSE_SECONDS)
        stretches = np.concatenate([[0], np.cumsum(is_break)])
        for k in range(1, _REACH + 1):
            together = stretches[k:] == stretches[:-k]
            share = 0.5 ** ((middles[k:] - middles[:-k]) / _HALF)
            yield share * (together & (share > _LEAST_SHARE))

    def _user_weight(self) -> float:
        """From 1, where replies are at most twice as long as prompts, to `_USER`."""
        prompts, replies = (
            float(self._numbers.length[self._speakers[role.value]].mean())
            if role.value in self._speakers
            else 1.0
            for role in (Role.USER, Role.ASSISTANT)
        )
        return min(_USER, max(1.0, replies / max(1.0, 2 * prompts)))


def _around(values: _Floats, lent: Iterable[tuple[_Floats, _Floats]]) -> _Floats:
    """*values* with what neighbours lend, by distance: to the earlier message, and to the later."""
    total = values.copy()
    for k, (to_earlier, to_later) in enumerate(lent, 1):
        total[k:] += to_later * values[:-k]
        total[:-k] += to_earlier * values[k:]
    return total
