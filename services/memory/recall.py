"""Finding earlier messages again, by their words. Pure, and in memory only.

A message is looked for together with what was said around it, because an answer seldom repeats
the words of its question. A hit lends 1/2, 1/4 and 1/8 of itself to the messages one, two and
three away in the same stretch, which is a run of messages of one conversation without a long
pause. For each word of the query, what is lent and what is own are added up before they are
weighed, as if the neighbours were fields of the message (BM25F: Robertson, Zaragoza and Taylor,
"Simple BM25 extension to multiple weighted fields", 2004). With n messages, of which df have the
word:

    tf    = sum over d in -3..3 of 2**-abs(d) * occurrences(d) / (1 - B + B * length(d) / average)
    score = sum over words of log(1 + (n - df + 0.5) / (df + 0.5)) * tf * (K1 + 1) / (tf + K1)

To this come: what a message tells, by its names, times and length, which decides between "Thanks!"
and an answer; and more for the speaker whom the query names. What asks weighs less than what
tells. From the eleventh place on, the words that the best twenty have in common count as well, at
a fifth: the first places are for what was asked, a long context is for what belongs to it.

A message is also found by the day on which it was said ("8 May 2023"), and by its speaker's name,
which weighs little because many messages have it. English words meet in a common stem; any word
is cut after seven letters, and loses its diacritics and the vowels at its end; scripts without
spaces are read as characters and pairs of characters.

There is no inverted index: a pass of numpy over all words, eight bytes each, takes a millisecond
for a million of them, and leaves nothing to keep up to date. The ranking depends on the messages
alone, not on when or in which order they were added.
"""

import re
import unicodedata
from array import array
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from itertools import pairwise
from math import log, log1p

import numpy as np
from numpy.typing import NDArray

from services.domain import ConversationId, MessageId

# longer than a meal or a meeting and shorter than a night, after which people begin anew
_PAUSE = timedelta(hours=6)
# Below the usual 1.2 and 0.75: with its neighbours, a message is seldom long or short by chance.
_K1, _B = 1.0, 0.4
_REACH = 3  # messages on either side that a hit lends to
_TO_ANSWER = 1.5  # times as much: what a question lends to the message after it
_NAMED = 1.8  # a message of the speaker whom the query names
_ASKING, _SHORT = 0.8, 40  # a message that ends with a question, and has at most so many words
_LENGTH, _PARTICULAR = 0.3, 0.5  # what a message tells
_ASKED = 50  # words of a query
# places that only the query decides; from how many messages, how many words are related to it,
# that at most this share of all messages have; and what they count
_FIRST, _BEST, _RELATED, _COMMON, _RELATION = 10, 20, 20, 0.1, 0.2

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]

_AROUND = np.arange(-_REACH, _REACH + 1)
_LENDS = 0.5 ** np.abs(_AROUND)


@dataclass(frozen=True, slots=True)
class Passage:
    """One message as recall sees it."""

    id: MessageId
    conversation_id: ConversationId
    seq: int
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
    """Messages of one person, to be searched. For one thread at a time."""

    def __init__(self) -> None:
        # Every word is looked up here, which is not shared: it holds what one person wrote.
        self._of_words: dict[str, int] = {}
        self._numbers: dict[str, int] = {}  # of the stems
        self._stems: list[str] = []
        self._kept: dict[MessageId, ConversationId] = {}
        self._conversations: dict[ConversationId, dict[MessageId, _Message]] = {}
        self._blocks: dict[ConversationId, _Block] = {}  # of conversations as they now are
        self._whole: _Block | None = None

    def add(self, passages: Iterable[Passage]) -> None:
        """Take in *passages*, each in place of an earlier one with its id."""
        for passage in passages:
            self._remove(passage.id)
            self._kept[passage.id] = passage.conversation_id
            conversation = self._conversations.setdefault(passage.conversation_id, {})
            conversation[passage.id] = self._read(passage)
            self._changed(passage.conversation_id)

    def remove(self, ids: Collection[MessageId]) -> None:
        """Forget these messages, and the words that no other has. Ids that are not known do no harm."""
        for message_id in ids:
            self._remove(message_id)
        self._whole = self._joined()
        times = self._whole.times
        self._of_words.clear()
        for stem, number in list(self._numbers.items()):
            if number >= len(times) or not times[number]:
                del self._numbers[stem]
                self._stems[number] = ""

    def search(self, query: str, limit: int = 50) -> tuple[Hit, ...]:
        """At most *limit* messages, the best first; of equals the newest first."""
        if self._whole is None:
            self._whole = self._joined()
        whole = self._whole
        asked: dict[int, str] = {}  # the words by the number of their stem
        for word in _words(query):
            number = self._numbers.get(_stem(word), len(whole.times))
            if number < len(whole.times) and whole.times[number]:
                asked.setdefault(number, word)
        if len(asked) > _ASKED:  # a pasted text: what is rare in the messages tells them apart
            rarest = sorted(asked, key=lambda number: whole.times[number])[:_ASKED]
            asked = {number: asked[number] for number in rarest}

        weights = whole.weights(set(asked.values()))
        scores = whole.scores(dict.fromkeys(asked, 1.0))
        scores = (scores + np.where(scores > 0, whole.telling, 0)) * weights
        best = whole.best(scores, min(limit, _FIRST))
        if limit > len(best) == _FIRST:
            first = whole.rows[best]
            related = self._related(whole, scores, asked)
            wider = scores + _RELATION * weights * whole.scores(related)
            wider[first] = scores[first] + wider.max()  # before the others, in their own order
            scores, best = wider, whole.best(wider, limit)
        return tuple(
            Hit(
                whole.messages[i].id,
                float(scores[whole.rows[i]]),
                tuple(word for n, word in asked.items() if n in whole.messages[i].stems),
            )
            for i in best
        )

    def _related(
        self, whole: "_Block", scores: _Floats, asked: Collection[int]
    ) -> dict[int, float]:
        """Stems that the best messages have and few others, by number; the first weighs 1."""
        weights: defaultdict[int, float] = defaultdict(float)
        for i in whole.best(scores, _BEST):
            message, score = whole.messages[i], float(scores[whole.rows[i]])
            for number in set(message.stems[: message.length]).difference(asked):
                times = int(whole.times[number])
                if 1 < times <= _COMMON * len(whole.messages):
                    weights[number] += score * whole.idf(times)
        chosen = sorted(weights, key=lambda number: (-weights[number], self._stems[number]))
        return {number: weights[number] / weights[chosen[0]] for number in chosen[:_RELATED]}

    def _read(self, passage: Passage) -> "_Message":
        body, on = passage.body, passage.created_at
        about = f"{passage.speaker} {on.day} {_MONTHS[on.month - 1]} {on.year}"
        said = [self._number(word) for word in _words(body)]
        return _Message(
            id=passage.id,
            seq=passage.seq,
            created_at=on,
            speaker=frozenset(_words(passage.speaker)),
            stems=array("i", said + [self._number(word) for word in _words(about)]),
            length=len(said),
            names=frozenset(_folded(name) for name in _NAME.findall(body)),
            has_time=bool(_TIME.search(body)),
            # a long reply tells, though it end with "Shall I go on?"
            asks=body.rstrip().endswith(_QUESTION_MARKS) and len(said) <= _SHORT,
        )

    def _number(self, word: str) -> int:
        number = self._of_words.get(word)
        if number is None:
            stem = _stem(word)
            number = self._of_words[word] = self._numbers.setdefault(stem, len(self._stems))
            if number == len(self._stems):
                self._stems.append(stem)
        return number

    def _remove(self, message_id: MessageId) -> None:
        conversation_id = self._kept.pop(message_id, None)
        if conversation_id is not None:
            del self._conversations[conversation_id][message_id]
            self._changed(conversation_id)

    def _changed(self, conversation_id: ConversationId) -> None:
        self._blocks.pop(conversation_id, None)
        self._whole = None

    def _joined(self) -> "_Block":
        for conversation_id, messages in self._conversations.items():
            if messages and conversation_id not in self._blocks:
                self._blocks[conversation_id] = _block(messages.values())
        return _join(list(self._blocks.values()))


@dataclass(frozen=True, slots=True)
class _Message:
    """What is kept of a passage."""

    id: MessageId
    seq: int
    created_at: datetime
    speaker: frozenset[str] = field(repr=False)
    stems: "array[int]" = field(repr=False)  # by number: of the body; of its speaker and day
    length: int  # of the body, in stems
    names: frozenset[str] = field(repr=False)
    has_time: bool
    asks: bool


@dataclass(frozen=True)
class _Block:
    """Messages of one or more conversations, as columns.

    Each message has a row, and stretches are kept apart by as many empty rows as a hit reaches,
    so that neighbours are added up by shifting whole columns.
    """

    messages: list[_Message] = field(repr=False)
    stems: NDArray[np.int32] = field(repr=False)  # of all messages, by number
    of: NDArray[np.int32] = field(repr=False)  # the row of each of these
    rows: _Ints  # of each message
    height: int  # rows, with the empty ones
    lengths: _Floats  # by row, as are the next two
    asking: _Floats
    telling: _Floats
    speakers: dict[frozenset[str], _Ints] = field(repr=False)  # the rows of each

    @cached_property
    def times(self) -> _Ints:
        """That each stem occurs, by its number."""
        return np.bincount(self.stems)

    @cached_property
    def norm(self) -> _Floats:
        """By row: how much more than the average its stems are one among many."""
        return 1 - _B + _B * self.lengths * (len(self.messages) / max(1, self.lengths.sum()))

    def weights(self, words: AbstractSet[str]) -> _Floats:
        """By row: what its score is multiplied by, if these are the *words* of the query."""
        weights = 1 - (1 - _ASKING) * self.asking
        if len({name for speaker in self.speakers for name in speaker & words}) == 1:
            for speaker, rows in self.speakers.items():
                weights[rows] *= _NAMED if speaker & words else 1
        return weights

    def scores(self, stems: Mapping[int, float]) -> _Floats:
        """By row: the sum of BM25F over at most 255 *stems*, by number, each at its weight."""
        place = np.zeros(len(self.times), np.uint8)
        place[list(stems)] = range(1, len(stems) + 1)
        placed = place[self.stems]
        hits = np.flatnonzero(placed != 0)  # much faster on booleans
        placed, rows = placed[hits], self.of[hits]
        scores = np.zeros(self.height)
        for k, weight in enumerate(stems.values(), start=1):
            own = rows[placed == k]
            lent = np.outer(1 / self.norm[own], _LENDS)
            lent[:, _REACH + 1] *= np.where(self.asking[own], _TO_ANSWER, 1)
            tf = np.bincount(
                np.add.outer(own, _AROUND).ravel(), lent.ravel(), minlength=self.height
            )
            df = np.count_nonzero(np.diff(own, prepend=-1))
            scores += weight * self.idf(int(df)) * (_K1 + 1) * tf / (tf + _K1)
        return scores

    def idf(self, df: int) -> float:
        """What a word weighs that *df* messages have."""
        return log(1 + (len(self.messages) - df + 0.5) / (df + 0.5))

    def best(self, scores: _Floats, limit: int) -> list[int]:
        """At most *limit* messages that have a score, the best first."""
        found = np.flatnonzero(scores[self.rows] > 0)
        if 0 < limit < len(found):
            own = scores[self.rows[found]]
            found = found[own >= np.partition(own, -limit)[-limit]]

        def order(i: int) -> tuple[float, datetime, int, MessageId]:
            message = self.messages[i]
            return float(scores[self.rows[i]]), message.created_at, message.seq, message.id

        return sorted(found.tolist(), key=order, reverse=True)[: max(0, limit)]


def _block(messages: Iterable[_Message]) -> _Block:
    """One conversation."""
    ordered = sorted(messages, key=lambda message: (message.seq, message.id))
    speakers = {message.speaker for message in ordered}
    called = frozenset[str]().union(*speakers)
    rows = [_REACH]
    for before, after in pairwise(ordered):
        is_apart = abs(after.created_at - before.created_at) > _PAUSE
        rows.append(rows[-1] + 1 + _REACH * is_apart)
    height = rows[-1] + 1

    def by_row(values: Iterable[float]) -> _Floats:
        column = np.zeros(height)
        column[rows] = list(values)
        return column

    return _Block(
        messages=ordered,
        stems=np.concatenate([np.frombuffer(message.stems, np.int32) for message in ordered]),
        of=np.repeat(np.array(rows, np.int32), [len(message.stems) for message in ordered]),
        rows=np.array(rows),
        height=height,
        lengths=by_row(message.length for message in ordered),
        asking=by_row(message.asks for message in ordered),
        telling=by_row(_telling(message, called) for message in ordered),
        speakers={
            speaker: np.array(
                [row for row, m in zip(rows, ordered, strict=True) if m.speaker == speaker]
            )
            for speaker in speakers
        },
    )


def _telling(message: _Message, called: frozenset[str]) -> float:
    particulars = message.has_time + bool(message.names - called)  # "Thanks, Mel!" tells no name
    return _LENGTH * log1p(message.length) + _PARTICULAR * particulars


def _join(blocks: Iterable[_Block]) -> _Block:
    """Several conversations, and a margin for the last to lend to."""
    messages: list[_Message] = []
    stems, of, rows = [np.zeros(0, np.int32)], [np.zeros(0, np.int32)], [np.zeros(0, int)]
    speakers: defaultdict[frozenset[str], list[_Ints]] = defaultdict(list)
    columns: list[tuple[_Floats, _Floats, _Floats]] = []
    height = 0
    for block in blocks:
        messages += block.messages
        stems.append(block.stems)
        of.append(block.of + np.int32(height))
        rows.append(block.rows + height)
        for speaker, own in block.speakers.items():
            speakers[speaker].append(own + height)
        columns.append((block.lengths, block.asking, block.telling))
        height += block.height
    margin = np.zeros(_REACH)
    columns.append((margin, margin, margin))
    lengths, asking, telling = (np.concatenate(parts) for parts in zip(*columns, strict=True))
    return _Block(
        messages=messages,
        stems=np.concatenate(stems),
        of=np.concatenate(of),
        rows=np.concatenate(rows),
        height=height + _REACH,
        lengths=lengths,
        asking=asking,
        telling=telling,
        speakers={speaker: np.concatenate(parts) for speaker, parts in speakers.items()},
    )


def stems(text: str) -> frozenset[str]:
    """What the words of *text* that say something have in common with their other forms."""
    return frozenset(map(_stem, _words(text)))


def _words(text: str) -> Iterator[str]:
    """The words of *text* that say something, in order."""
    for word in _WORD.findall(_folded(text)):
        if word.isascii() or not _UNSPACED.search(word):
            if word not in _STOP_WORDS:
                yield word
        else:
            for run in _RUNS.findall(word):
                yield from _parts(run) if _UNSPACED.match(run) else [run]


def _parts(run: str) -> Iterator[str]:
    """The characters and the pairs of characters of a text without spaces."""
    yield from run
    yield from map("".join, pairwise(run))


def _folded(text: str) -> str:
    """*text* without case and, if it is not English, without diacritics and odd forms."""
    text = text.casefold()
    if _FOREIGN.search(text):
        apart = unicodedata.normalize("NFKD", text)
        text = "".join(sign for sign in apart if not unicodedata.category(sign).startswith("M"))
        text = unicodedata.normalize("NFC", text)
    return text


def _stem(word: str) -> str:
    """What the forms of a word have in common, more or less: enough to find one by another."""
    if word[0].isdigit():
        return _ORDINAL.sub("", word).lstrip("0") or "0"
    word = _IRREGULAR.get(word, word)
    if len(word) > 4:
        word = word.removeprefix("\u0627\u0644")  # the Arabic article
    if len(word) < 4:
        return word
    for ending, instead in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            if not word.endswith(("ss", "us", "is")):
                word = word.removesuffix(ending) + instead
            break
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "aeioslz":
        word = word[:-1]
    word = word[:_LETTERS]
    return word.rstrip(_VOWELS) if len(word.rstrip(_VOWELS)) >= 3 else word


_WORD = re.compile(r"[^\W_]+")
# letters outside ASCII, or marks that belong to a letter before them
_FOREIGN = re.compile(r"[^\W\x00-\x7f]|[\u0300-\u036f]")
# Thai, Lao, Burmese, Khmer; Japanese, Bopomofo, Chinese
_SIGNS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u312f\u31a0-\u31ff"
    "\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_UNSPACED = re.compile(f"[{_SIGNS}]")
_RUNS = re.compile(f"[{_SIGNS}]+|[^{_SIGNS}]+")
_QUESTION_MARKS = ("?", "\uff1f", "\u061f")
_ORDINAL = re.compile(r"(?<=\d)(?:st|nd|rd|th)$")
_NAME = re.compile(r"(?<=[a-z,] )[A-Z]\w+|(?<=\")[A-Z]\w+")
_TIME = re.compile(
    r"\d|\b(?:yesterday|today|tonight|tomorrow|last|next|ago|since|recently|soon|morning|night"
    r"|days?|weeks?|weekends?|months?|years?|(?:mon|tues|wednes|thurs|fri|satur|sun)days?"
    r"|january|february|march|april|june|july|august|september|october|november|december)\b",
    re.IGNORECASE,
)
_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
_STOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        """a an and are as at be been being but by can could did do does for from had has have he
        her hers him his how i if in into is it its me my of on or our she so that the their them
        then there these they this to was we were what when where which who whom why will with
        would you your s t m re ve ll d""",
    )
)
# enough to tell most words apart, too few for "adopt" and "adoption" to differ
_LETTERS = 7
_VOWELS = "aeiouy\u0430\u0435\u0438\u043e\u0443\u044b\u044d\u044e\u044f"  # Latin, Cyrillic
_ENDINGS = (
    ("ies", "y"),
    ("sses", "ss"),
    ("ied", "y"),
    ("ing", ""),
    ("ed", ""),
    ("ly", ""),
    ("es", "e"),
    ("s", ""),
)
# the form that the others meet in, then the others
_FORMS = """
    become became, begin began begun, bite bit bitten, break broke broken, bring brought,
    build built, burn burnt, buy bought, catch caught, child children, choose chose chosen,
    come came, dig dug, draw drew drawn, dream dreamt, drink drank drunk, drive drove driven,
    eat ate eaten, fall fell fallen, feed fed, feel felt, fight fought, find found, fly flew
    flown, foot feet, forget forgot forgotten, freeze froze frozen, get got gotten, give gave
    given, go went gone goes going, goose geese, grow grew grown, hang hung, hear
    heard, hide hid hidden, hold held, keep kept, knife knives, know knew known, lead led,
    learn learnt, leave left, lend lent, light lit, lose lost, make
    made, man men, mean meant, meet met, mouse mice, pay paid, person people, ride rode
    ridden, ring rang rung, rise rose risen, run ran, say said, see saw seen, seek sought,
    sell sold, send sent, shake shook shaken, shoot shot, sing sang sung, sink
    sank sunk, sit sat, sleep slept, speak spoke spoken, spend spent, stand stood, steal stole
    stolen, stick stuck, strike struck, swim swam swum, take took taken, teach taught, tear
    tore torn, tell told, think thought, throw threw thrown, tooth teeth, understand
    understood, wake woke woken, wear wore worn, wife wives, win won, woman women, write wrote
    written
"""
_IRREGULAR = {form: forms[0] for forms in map(str.split, _FORMS.split(",")) for form in forms[1:]}
