"""BM25 ranking of messages together with their neighbours, in numpy columns. Nothing is stored.

Each message is scored as a virtual document of the message and its neighbours, because an answer seldom repeats the
words of its question. A neighbour at most three messages away has a weight that halves with every 16 words of
distance: short messages between two friends are scored together, but a reply of 500 words adds nothing to its neighbours.
With n messages, of which df contain the term:

    tf     = sum over neighbours of 2**(-distance / 16) * occurrences, and length likewise
    norm   = 1 - B + B * length / average length
    score  = sum over terms of log(1 + (n - df + 0.5) / (df + 0.5)) * tf * (K1 + 1) / (tf + K1 * norm)

(Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009). A prompt and its long reply
get a fifth of each other's score. Weights raise the score of messages that contain a time or a name, of messages by a
speaker whom the query names ("you" is the assistant), and of the user's messages if replies are much longer. Another
weight lowers the score of short questions.
The effect of the weights on recall is in docs/decisions/what-recall-finds.md.

The ranking depends on the messages alone, not on the time or the order in which they were added.
"""

import re
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from itertools import islice
from math import fsum, log
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from services.domain import MessageId, Role
from services.memory.dates import named_days
from services.memory.terms import words

_K1, _B = 1.2, 0.9
# messages with a longer pause between them share no terms; this is longer than a meeting, and shorter than a night
_PAUSE_SECONDS = 6 * 3600
_NEIGHBOURS = 3  # a message also gets a share of the terms of this many messages on either side
# distance between two messages, in words, at which the shares that they exchange are halved
_HALF = 16
_LEAST_SHARE = 0.05  # a smaller share is ignored
# factor for the share that a short question gives to the next message, its likely answer
_TO_ANSWER = 2
# the score added to a message that contains a time, and again if it contains a name that is not a speaker's
_PARTICULAR = 1.0
_ASKING = 0.8  # the weight of a short question, which contains little information
_NAMED = 1.5  # the weight of a message by the speaker that the query names
_MOST_DAYS = 50  # maximum date ranges in a query
# the highest weight of the user's messages; it is reached if replies are four times as long as prompts
_USER = 2
_EXCHANGE = 0.2  # the highest share of their scores that a prompt and its reply give to each other

# matches words which show that a query is about the assistant's messages; includes the word after "you", as in
# "did you recommend", because that word is seldom the subject of the query
ABOUT_REPLIES = re.compile(r"\b(?:your|you(?:['\u2019]\w+)?(?:\s+\w+)?)\b", re.IGNORECASE)
ROLES = frozenset({Role.USER.value, Role.ASSISTANT.value})

Floats = NDArray[np.float64]
_Number = TypeVar("_Number", float, Floats)
# for each distance in messages, two columns: the shares given to earlier messages, and the shares given to later ones
_Shares = list[tuple[Floats, Floats]]


class Numbers(NamedTuple, Generic[_Number]):
    """The numeric fields of one message, or the same fields of all messages as columns."""

    conversation: _Number
    seq: _Number
    speaker: _Number
    seconds: _Number
    day: _Number
    length: _Number  # the number of words
    times: _Number
    names: _Number  # the number of names that are not a speaker's
    # true only for short questions: a long reply is informative, even if it ends with "Shall I go on?"
    is_question: _Number


class Columns:
    """All messages as columns, grouped by conversation and ordered by `seq`."""

    def __init__(
        self,
        ids: Sequence[MessageId],
        rows: NDArray[np.intp],
        numbers: Numbers[Floats],
        speakers: Mapping[str, int],
    ) -> None:
        rows = rows[np.lexsort((numbers.seq[rows], numbers.conversation[rows]))]
        self.rows: list[int] = rows.tolist()
        self.ids = [ids[row] for row in self.rows]
        # maps the number of a row to the index of its message in the sorted columns
        self.places = np.zeros(len(ids), np.intp)
        self.places[rows] = np.arange(len(rows))
        self._numbers = numbers = Numbers(*(column[rows] for column in numbers))
        self._speakers = {
            speaker: np.flatnonzero(numbers.speaker == number)
            for speaker, number in speakers.items()
        }
        self.particulars = _PARTICULAR * (numbers.times + (numbers.names > 0))
        self.lent: _Shares = [(share, share) for share in self._shares()]
        around = spread(numbers.length, self.lent)
        answers = np.where(numbers.is_question[:-1], _TO_ANSWER, 1)
        self.lent[0] = self.lent[0][0], self.lent[0][1] * answers
        self._user = self._user_weight()
        is_user, is_reply = (
            numbers.speaker == speakers.get(role.value) for role in (Role.USER, Role.ASSISTANT)
        )
        is_turn = is_user[:-1] & is_reply[1:] & (np.diff(numbers.conversation) == 0)
        self.exchanged: _Shares = [(_EXCHANGE * (self._user - 1) / (_USER - 1) * is_turn,) * 2]
        # `fsum` is exact, so the mean does not depend on the order of conversations
        self._norm = 1 - _B + _B * around * (len(rows) / max(1.0, fsum(around)))

    def count(self, postings: "array[int]") -> Floats:
        """Count how often each message's row number occurs in *postings*."""
        places = self.places[np.frombuffer(postings, np.intc)]
        return np.bincount(places, minlength=len(self.ids)).astype(float)

    def bm25(self, occurrences: Floats, places: NDArray[np.intp] | None = None) -> Floats:
        """Return the scores for a term's *occurrences*.

        Without *places*, score all messages together with their neighbours; otherwise score only the messages at *places*, without
        neighbours.
        """
        tf = spread(occurrences, self.lent) if places is None else occurrences
        norm = self._norm if places is None else self._norm[places]
        return self.idf(int(np.count_nonzero(occurrences))) * (_K1 + 1) * tf / (tf + _K1 * norm)

    def idf(self, df: int) -> float:
        """Inverse document frequency of a term found in *df* messages."""
        return log(1 + (len(self.ids) - df + 0.5) / (df + 0.5))

    def named_days(self, query: str) -> Iterator[Floats]:
        """Yield, for each date range that *query* names, a column with 1 for the messages of those days."""
        if not len(days := self._numbers.day):
            return
        first, last = (date.fromordinal(int(day)) for day in (days.min(), days.max()))
        ranges = named_days(query, range(first.year, last.year + 1))
        for begin, end in islice(ranges, _MOST_DAYS):
            within = (days >= begin.toordinal()) & (days <= end.toordinal())
            yield within.astype(float)

    def weights(self, query: str) -> Floats:
        """Return, for each message, the factor by which its score is multiplied."""
        weights = np.where(self._numbers.is_question, _ASKING, 1.0)
        if self._speakers.keys() <= ROLES:
            role, weight = Role.USER, self._user
            if ABOUT_REPLIES.search(query):
                role, weight = Role.ASSISTANT, _NAMED
            weights[self._speakers.get(role.value, [])] *= weight
            return weights
        asked = set(words(query))
        named = [
            places for name, places in self._speakers.items() if not asked.isdisjoint(words(name))
        ]
        if len(named) == 1:
            weights[named[0]] *= _NAMED
        return weights

    def best(self, scores: Floats, limit: int) -> list[int]:
        """Return the column indexes of at most *limit* messages with a score above 0, best first."""
        found = np.flatnonzero(scores > 0)
        if 0 < limit < len(found):
            found = found[scores[found] >= np.partition(scores[found], -limit)[-limit]]
        numbers = self._numbers
        keys = (scores[found], numbers.seconds[found], numbers.seq[found])
        ids = (self.ids[place] for place in found.tolist())
        order = zip(*(key.tolist() for key in keys), ids, found.tolist(), strict=True)
        return [place for *_, place in sorted(order, reverse=True)[: max(0, limit)]]

    def _shares(self) -> Iterator[Floats]:
        """Yield, for each distance from 1 to `_NEIGHBOURS` messages, the share (0 to 1) of its terms that a neighbour lends.

        The share is 0 between conversations and across a long pause; it halves with every `_HALF` terms of distance.
        """
        numbers = self._numbers
        middles = np.cumsum(numbers.length) - numbers.length / 2
        is_other = np.diff(numbers.conversation) != 0
        is_break = is_other | (np.abs(np.diff(numbers.seconds)) > _PAUSE_SECONDS)
        stretches = np.concatenate([[0], np.cumsum(is_break)])
        for k in range(1, _NEIGHBOURS + 1):
            together = stretches[k:] == stretches[:-k]
            share = 0.5 ** ((middles[k:] - middles[:-k]) / _HALF)
            yield share * (together & (share > _LEAST_SHARE))

    def _user_weight(self) -> float:
        """Return the weight of the user's messages, from 1 (replies at most twice as long as prompts) to `_USER`."""
        prompts, replies = (
            float(self._numbers.length[self._speakers[role.value]].mean())
            if role.value in self._speakers
            else 1.0
            for role in (Role.USER, Role.ASSISTANT)
        )
        return min(_USER, max(1.0, replies / max(1.0, 2 * prompts)))


def spread(values: Floats, shares: Iterable[tuple[Floats, Floats]]) -> Floats:
    """Add to each of *values* the values of its neighbours, weighted by the *shares* for each distance in messages."""
    total = values.copy()
    for k, (to_earlier, to_later) in enumerate(shares, 1):
        total[k:] += to_later * values[:-k]
        total[:-k] += to_earlier * values[k:]
    return total
