"""How many tokens the next prompt will be, learned from what the endpoint counted. Pure.

* The last call is the anchor: its endpoint counted the prompt and the reply, so of a prompt that
  goes on from there only what is new is estimated, and what has gone (a trim, a recalled block).
  Where more than the whole would have to be estimated, the whole is: on the first turn, or when the
  instructions were rewritten.
* An estimate is the counter's, times what the model needs for each token of it: its `Calibration`, by kind
  of text, because one vocabulary knows Russian well and another spells it out. They are learned from
  call after call, mostly from how much longer one prompt is than the one before. The same calls in
  the same order give the same rates on any process: there is nothing in it but +, -, * and /.
* A count that cannot be anchors nothing and teaches nothing: none at all, or one that is shorter than
  its text can be (some servers leave out what was cached). Thoughts that are counted as reply are
  found out by the prompt after them, which is without them.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from typing import NamedTuple

from services.domain import Usage
from services.memory.context import ContextMessage
from services.memory.tokens import KindCounter

# Tokens for each that is estimated. What vocabularies need of ordinary text lies between.
LEAST_RATIO, MOST_RATIO = 0.05, 1.5
_SURPRISE = 8.0  # one count moves a ratio by no more than this factor, up or down
_STEADINESS = 0.1  # the least that a new count weighs: a model may change behind its name
_FEW_TOKENS = 10  # of so few, half of what is seen is chance
_MARGIN = 1.05  # by which a scaled count leans high

_ENVELOPE = Counter({"envelope": 500})  # what a chat template puts around a message (ChatML: 5)
_ASCII = frozenset(
    {"english", "words", "capitals", "digits", "blanks", "signs", "controls", *_ENVELOPE}
)
# Of these every vocabulary needs more than half of what is estimated; of others that it was not seen to count, a tenth.
_SURE = frozenset({"english", "words", "capitals", "digits", "codes", "envelope"})
_UNLIKE = frozenset({"codes", "symbols", "emoji", "forms", "arabic forms", "compositions"})
# Before anything was seen: between what old and new vocabularies need.
_FIRST_RATIO = {"ascii": 0.8, "codes": 1.0}
_FIRST_RATIO_OF_OTHERS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedCall:
    """One call of a model whose endpoint reported what it used. Our own counts are no calls."""

    model: str
    messages: tuple[ContextMessage, ...] = field(repr=False)
    reply: ContextMessage = field(repr=False)
    tokens: Usage


class KindRatio(NamedTuple):
    """Tokens for each that is estimated; *samples* is about how many texts it was learned from."""

    ratio: float
    samples: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """What one model needs, by kind of text."""

    by_kind: Mapping[str, KindRatio] = field(default_factory=dict[str, KindRatio])
    has_thoughts: bool = False  # more is counted as its reply than the text

    @property
    def samples(self) -> float:
        """About how many texts all of it was learned from."""
        return sum(rate.samples for rate in self.by_kind.values())

    def estimate(self, kinds: Mapping[str, int]) -> float:
        """Tokens of hundredths by kind, as likely too many as too few."""
        return sum(self._ratio(kind) * hundredths for kind, hundredths in kinds.items()) / 100

    def high(self, kind: str) -> float:
        """Tokens for each that is estimated of a *kind* that was seen, leaning high: seldom, the more."""
        rate = self.by_kind[kind]
        cautious = (1 + rate.ratio * rate.samples**2) / (1 + rate.samples**2)
        return max(rate.ratio, cautious) * _MARGIN

    def learn(self, kinds: Mapping[str, int], counted: int) -> "Calibration":
        """These, after a text of *kinds* was *counted*; these, where that cannot be.

        The error is shared among the kinds by what each was expected to take.
        """
        if not _can_be(kinds, counted):
            return self
        expected = self.estimate(kinds)
        surprise = min(_SURPRISE, max(1 / _SURPRISE, counted / expected))
        trust = counted / (counted + _FEW_TOKENS)
        learned = dict(self.by_kind)
        for kind, hundredths in kinds.items():
            seen = learned[kind].samples if kind in learned else 0
            ratio = self._ratio(kind)
            share = trust * ratio * hundredths / 100 / expected
            ratio *= 1 + share * max(_STEADINESS, 1 / (1 + seen)) * (surprise - 1)
            learned[kind] = KindRatio(min(MOST_RATIO, max(LEAST_RATIO, ratio)), seen + share)
        return replace(self, by_kind=learned)

    def rounded(self) -> "Calibration":
        """These as they are stored, finer than they are known."""
        by_kind = {
            kind: KindRatio(round(rate.ratio, 4), round(rate.samples, 2))
            for kind, rate in sorted(self.by_kind.items())
        }
        return replace(self, by_kind=by_kind)

    def _ratio(self, kind: str) -> float:
        if rate := self.by_kind.get(kind):
            return rate.ratio
        # nothing of it was seen yet: it begins as others that are like it
        family = _family(kind)
        known = sorted(self.by_kind)  # in one order: the sum is the same to the last bit
        alike = [self.by_kind[other] for other in known if _family(other) == family]
        alike.append(KindRatio(_FIRST_RATIO.get(family, _FIRST_RATIO_OF_OTHERS), 1))
        return sum(rate.ratio * rate.samples for rate in alike) / sum(
            rate.samples for rate in alike
        )


def _family(kind: str) -> str:
    """What is alike: all of ASCII, all scripts."""
    if kind in _UNLIKE:
        return kind
    return "ascii" if kind in _ASCII else "script"


@dataclass(frozen=True, slots=True)
class Forecast:
    """Tokens of a prompt. Anchored: all but *estimated_tokens* were counted by the endpoint."""

    tokens: int
    estimated_tokens: int
    is_anchored: bool


class CalibratedCounter:
    """Counts what a model of these *rates* needs, leaning a twentieth high, or more where little was seen.

    A window that is packed by it is filled; the plain counter leaves room for the neediest model. It
    remembers the texts: plans of one conversation ask for them again and again.
    """

    def __init__(self, base: KindCounter, rates: Calibration) -> None:
        self._base = base
        self._ratios = {kind: rates.high(kind) for kind in rates.by_kind}
        self._known: dict[str, int] = {}

    def count(self, text: str) -> int:
        if (tokens := self._known.get(text)) is None:
            tokens = self._known[text] = self._count(text)
        return tokens

    def bound(self, text: str) -> int:
        return self._base.bound(text)

    def _count(self, text: str) -> int:
        ratio = self._ratios.get
        high = 0.0
        for kind, hundredths in self._base.kinds(text).items():
            high += ratio(kind, _MARGIN) * hundredths
        return min(ceil(high / 100), self.bound(text))


def learn(
    rates: Calibration, before: CountedCall | None, call: CountedCall, counter: KindCounter
) -> Calibration:
    """*rates* after *call*, and the call *before* it; all three are of one model."""
    new = _added(before, call) if before else None
    if before and new:
        rates = _learn_added(rates, before, call, new, counter)
    if not rates.has_thoughts:
        rates = rates.learn(counter.kinds(call.reply.body), _said(call))
    if new is None and _is_likely(call, rates, counter):
        rates = rates.learn(_kinds(call.messages, counter), call.tokens.prompt)
    return rates


def find_anchor(
    calls: Sequence[CountedCall], model: str, rates: Calibration, counter: KindCounter
) -> CountedCall | None:
    """The last of *calls*, the oldest first, that is of *model* and whose count can be."""
    likely = (
        call for call in reversed(calls) if call.model == model and _is_likely(call, rates, counter)
    )
    return next(likely, None)


def forecast_prompt(
    messages: Sequence[ContextMessage],
    anchor: CountedCall | None,
    rates: Calibration,
    counter: KindCounter,
) -> Forecast:
    """Tokens of a prompt of *messages*, for the model of *anchor* and *rates*."""
    whole = rates.estimate(_kinds(messages, counter))
    if anchor:
        gone, new = _difference(anchor, messages)
        known = float(anchor.tokens.prompt)
        if anchor.reply in gone:  # it was never part of a prompt
            gone -= Counter([anchor.reply])
        else:
            known += rates.estimate(_ENVELOPE) + _reply_tokens(anchor, rates, counter)
        less = rates.estimate(_kinds(gone.elements(), counter))
        more = rates.estimate(_kinds(new.elements(), counter))
        if less + more < whole:
            return Forecast(ceil(max(more, known - less + more)), ceil(less + more), True)
    return Forecast(ceil(whole), ceil(whole), False)


def min_likely_tokens(
    messages: Iterable[ContextMessage], rates: Calibration, counter: KindCounter
) -> int:
    """The fewest tokens that a model of *rates* is likely to count of a prompt: half of what is expected."""
    least = 0.0
    for kind, hundredths in _kinds(messages, counter).items():
        known = rates.by_kind.get(kind)
        ratio = known.ratio / 2 if known else 0.5 if kind in _SURE else 0.1
        least += ratio * hundredths / 100
    return int(least)


def _learn_added(
    rates: Calibration,
    before: CountedCall,
    call: CountedCall,
    new: Counter[ContextMessage],
    counter: KindCounter,
) -> Calibration:
    """*rates* after *call*, whose prompt is that of *before*, its reply, and *new*."""
    more = call.tokens.prompt - before.tokens.prompt
    asked = _kinds(new.elements(), counter) + _ENVELOPE
    if not rates.has_thoughts and _can_be(asked, more - _said(before)):
        return rates.learn(asked, more - _said(before))
    asked.update(counter.kinds(before.reply.body))
    if not _can_be(asked, more):
        return rates
    return replace(rates, has_thoughts=True).learn(asked, more)


def _reply_tokens(call: CountedCall, rates: Calibration, counter: KindCounter) -> float:
    """Tokens of the reply's text: as counted, unless more than the text was counted."""
    kinds = counter.kinds(call.reply.body)
    if rates.has_thoughts or not _can_be(kinds, _said(call)):
        return rates.estimate(kinds)
    return _said(call)


def _said(call: CountedCall) -> int:
    return call.tokens.reply - call.tokens.thoughts


def _is_likely(call: CountedCall, rates: Calibration, counter: KindCounter) -> bool:
    """Whether so few tokens can be all of the prompt. More may be: endpoints add prompts of their own."""
    return call.tokens.prompt * 2 >= rates.estimate(_kinds(call.messages, counter))


def _can_be(kinds: Mapping[str, int], counted: int) -> bool:
    estimated = sum(kinds.values()) / 100
    return 0 < LEAST_RATIO * estimated <= counted <= MOST_RATIO * estimated


def _added(before: CountedCall, call: CountedCall) -> Counter[ContextMessage] | None:
    """What *call* was sent after *before* and its reply; None where it does not go on from there."""
    gone, new = _difference(before, call.messages)
    return None if gone else new


def _difference(
    call: CountedCall, messages: Iterable[ContextMessage]
) -> tuple[Counter[ContextMessage], Counter[ContextMessage]]:
    """What *call* was sent or said and is not among *messages*, and what of these is new."""
    then, now = Counter((*call.messages, call.reply)), Counter(messages)
    return then - now, now - then


def _kinds(messages: Iterable[ContextMessage], counter: KindCounter) -> Counter[str]:
    kinds = Counter[str]()
    for message in messages:
        kinds.update(counter.kinds(message.body))
        kinds.update(_ENVELOPE)
    return kinds
