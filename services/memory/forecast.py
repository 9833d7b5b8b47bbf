"""A forecast of the next prompt's tokens, calibrated with the counts that the endpoint reported. No I/O.

* The last call is the anchor: the endpoint has counted its prompt and its reply. If the next prompt mostly repeats these,
  only the difference is estimated: messages that were added or removed. If the difference would be larger than the whole
  prompt, as on the first turn or after a change of the instructions, the whole prompt is estimated.
* An estimate is the local counter's count, times the ratio of the endpoint's counts to the local ones. A `Calibration`
  has these ratios of a model by kind of text, because one vocabulary contains whole Russian words and another only
  single letters. Each call refines the calibration, mostly by the difference between the counts of its prompt and the
  previous prompt. A calibration is computed with +, -, * and / alone, so the same calls in the same order give the same
  calibration in any process.
* An implausible count is used neither as an anchor nor for the calibration: zero, or fewer tokens than the text can
  have (some servers leave out cached tokens). If an endpoint counts thoughts as part of the reply, the count of the
  next prompt, which does not contain them, reveals this.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from typing import NamedTuple

from services.domain import Usage
from services.domain.context import ContextMessage, Forecast
from services.memory.tokens import KindCounter

# The lowest and the highest ratio of counted to estimated tokens, for ordinary text and any vocabulary.
LEAST_RATIO, MOST_RATIO = 0.05, 1.5
_SURPRISE = 8.0  # one count changes a ratio by at most this factor
# minimum weight of a new count, so that ratios adapt if an endpoint changes the model
_STEADINESS = 0.1
# for a text of this many tokens, half of the estimate's error is assumed to be chance
_FEW_TOKENS = 10
_MARGIN = 1.05  # a calibrated count is multiplied by this, so that it is rarely too low

# the tokens that a chat template adds to a message (ChatML: 5), in hundredths of a token
_ENVELOPE = Counter({"envelope": 500})
_ASCII = frozenset(
    {"english", "words", "capitals", "digits", "blanks", "signs", "controls", *_ENVELOPE}
)
# For these kinds of text, every vocabulary needs more than half of the estimated tokens. For other kinds, a tenth of
# the estimated tokens is assumed as the minimum until an endpoint has counted such text.
_SURE = frozenset({"english", "words", "capitals", "digits", "codes", "envelope"})
_UNLIKE = frozenset({"codes", "symbols", "emoji", "forms", "arabic forms", "compositions"})
# Counted tokens per estimated token of a kind of text, assumed until an endpoint has counted text of this kind. The values
# lie between the ratios of older and newer tokenizers.
_FIRST_RATIO = {"ascii": 0.8, "codes": 1.0}
_FIRST_RATIO_OF_OTHERS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedCall:
    """A model call whose usage the endpoint reported."""

    model: str
    messages: tuple[ContextMessage, ...] = field(repr=False)
    reply: ContextMessage = field(repr=False)
    tokens: Usage

    @property
    def reply_tokens(self) -> int:
        """The tokens of the reply, without its thoughts if these were reported."""
        return self.tokens.reply - self.tokens.thoughts


class KindRatio(NamedTuple):
    """Counted tokens per estimated token, and the approximate number of texts that the ratio was learned from."""

    ratio: float
    samples: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """The ratios of counted to estimated tokens of one model, by kind of text."""

    by_kind: Mapping[str, KindRatio] = field(default_factory=dict[str, KindRatio])
    has_thoughts: bool = False  # true if the endpoint counts thoughts as part of the reply

    @property
    def samples(self) -> float:
        """The approximate number of texts that all ratios were learned from."""
        return sum(known.samples for known in self.by_kind.values())

    def estimate(self, kinds: Mapping[str, int]) -> float:
        """Estimate the tokens of a text without bias; *kinds* maps each kind of text to the counter's hundredths of a token."""
        return sum(self._ratio(kind) * hundredths for kind, hundredths in kinds.items()) / 100

    def high(self, kind: str) -> float:
        """Return a deliberately high ratio for a known *kind* of text; with more samples, it is closer to the real ratio."""
        ratio, samples = self.by_kind[kind]
        return max(ratio, (1 + ratio * samples**2) / (1 + samples**2)) * _MARGIN

    def learn(self, kinds: Mapping[str, int], counted: int) -> "Calibration":
        """Return the calibration after an endpoint *counted* a text of *kinds*; unchanged if the count is implausible.

        The error of the estimate is shared among the kinds in proportion to their expected tokens.
        """
        if not _is_plausible(kinds, counted):
            return self
        expected = self.estimate(kinds)
        surprise = min(_SURPRISE, max(1 / _SURPRISE, counted / expected))
        trust = counted / (counted + _FEW_TOKENS)
        learned = dict(self.by_kind)
        for kind, hundredths in kinds.items():
            samples = learned[kind].samples if kind in learned else 0
            ratio = self._ratio(kind)
            share = trust * ratio * hundredths / 100 / expected
            ratio *= 1 + share * max(_STEADINESS, 1 / (1 + samples)) * (surprise - 1)
            learned[kind] = KindRatio(min(MOST_RATIO, max(LEAST_RATIO, ratio)), samples + share)
        return replace(self, by_kind=learned)

    def rounded(self) -> "Calibration":
        """Return the calibration with its numbers rounded for storage; the dropped digits are not accurate anyway."""
        by_kind = {
            kind: KindRatio(round(ratio, 4), round(samples, 2))
            for kind, (ratio, samples) in sorted(self.by_kind.items())
        }
        return replace(self, by_kind=by_kind)

    def _ratio(self, kind: str) -> float:
        if known := self.by_kind.get(kind):
            return known.ratio
        # a kind without a ratio gets the mean ratio of its family; the kinds are sorted, so that every process
        # adds up in the same order and gets exactly the same sum
        family = _family(kind)
        alike = [known for other, known in sorted(self.by_kind.items()) if _family(other) == family]
        alike.append(KindRatio(_FIRST_RATIO.get(family, _FIRST_RATIO_OF_OTHERS), 1))
        weighted = sum(ratio * samples for ratio, samples in alike)
        return weighted / sum(samples for _, samples in alike)


def _family(kind: str) -> str:
    """Return the name of the group of similar kinds that *kind* belongs to: "ascii", "script", or *kind* itself."""
    if kind in _UNLIKE:
        return kind
    return "ascii" if kind in _ASCII else "script"


class CalibratedCounter:
    """A token counter with a model's calibration: it counts five per cent too high, and more with few samples.

    With this count, a prompt can fill the context window. The uncalibrated count leaves part of the window empty, because it
    must be high enough for the model that needs the most tokens. The counts of texts are cached, because successive plans
    of a conversation repeat the texts.
    """

    def __init__(self, base: KindCounter, calibration: Calibration) -> None:
        self._base = base
        self._ratios = {kind: calibration.high(kind) for kind in calibration.by_kind}
        self._cache: dict[str, int] = {}

    def count(self, text: str) -> int:
        if (tokens := self._cache.get(text)) is None:
            kinds = self._base.kinds(text).items()
            high = sum(self._ratios.get(kind, _MARGIN) * hundredths for kind, hundredths in kinds)
            tokens = self._cache[text] = min(ceil(high / 100), self.bound(text))
        return tokens

    def bound(self, text: str) -> int:
        return self._base.bound(text)

    @property
    def uncalibrated(self) -> KindCounter:
        return self._base


def learn(
    calibration: Calibration, before: CountedCall | None, call: CountedCall, counter: KindCounter
) -> Calibration:
    """Return *calibration* refined by *call* and by its difference from *before*, the previous call of the same model."""
    gone, new = _difference(before, call.messages) if before else (None, None)
    if before and new and not gone:
        calibration = _learn_growth(calibration, before, call, new, counter)
    if not calibration.has_thoughts:
        calibration = calibration.learn(counter.kinds(call.reply.body), call.reply_tokens)
    if (gone or before is None) and _is_likely(call, calibration, counter):
        calibration = calibration.learn(_kinds(call.messages, counter), call.tokens.prompt)
    return calibration


def find_anchor(
    calls: Sequence[CountedCall], model: str, calibration: Calibration, counter: KindCounter
) -> CountedCall | None:
    """Return the last call of *model* with a plausible count; *calls* are in order, the oldest first."""
    for call in reversed(calls):
        if call.model == model and _is_likely(call, calibration, counter):
            return call
    return None


def forecast_prompt(
    messages: Sequence[ContextMessage],
    anchor: CountedCall | None,
    calibration: Calibration,
    counter: KindCounter,
) -> Forecast:
    """Forecast the tokens of a prompt, for the model of *anchor* and *calibration*."""
    whole = calibration.estimate(_kinds(messages, counter))
    if anchor:
        gone, new = _difference(anchor, messages)
        known = float(anchor.tokens.prompt)
        if anchor.reply in gone:  # nothing to subtract, because `known` does not include the reply
            gone -= Counter([anchor.reply])
        else:
            known += calibration.estimate(_ENVELOPE) + _reply_tokens(anchor, calibration, counter)
        less = calibration.estimate(_kinds(gone.elements(), counter))
        more = calibration.estimate(_kinds(new.elements(), counter))
        if less + more < whole:
            return Forecast(ceil(max(more, known - less + more)), is_anchored=True)
    return Forecast(ceil(whole), is_anchored=False)


def min_likely_tokens(
    messages: Iterable[ContextMessage], calibration: Calibration, counter: KindCounter
) -> int:
    """Return a likely minimum of the model's count.

    The minimum is half of the expected tokens, or a tenth for a kind of text that is not in `_SURE` and that the endpoint
    has never counted.
    """
    least = 0.0
    for kind, hundredths in _kinds(messages, counter).items():
        known = calibration.by_kind.get(kind)
        ratio = known.ratio / 2 if known else 0.5 if kind in _SURE else 0.1
        least += ratio * hundredths / 100
    return int(least)


def _learn_growth(
    calibration: Calibration,
    before: CountedCall,
    call: CountedCall,
    new: Counter[ContextMessage],
    counter: KindCounter,
) -> Calibration:
    """Learn from the growth between the prompts of *before* and *call*: the reply of *before*, and the *new* messages."""
    growth = call.tokens.prompt - before.tokens.prompt
    kinds = _kinds(new.elements(), counter) + _ENVELOPE
    if not calibration.has_thoughts and _is_plausible(kinds, growth - before.reply_tokens):
        return calibration.learn(kinds, growth - before.reply_tokens)
    kinds.update(counter.kinds(before.reply.body))
    if not _is_plausible(kinds, growth):
        return calibration
    return replace(calibration, has_thoughts=True).learn(kinds, growth)


def _reply_tokens(call: CountedCall, calibration: Calibration, counter: KindCounter) -> float:
    """Return the tokens of the reply's text: the endpoint's count or, if it is implausible or counts thoughts, an estimate."""
    kinds = counter.kinds(call.reply.body)
    if calibration.has_thoughts or not _is_plausible(kinds, call.reply_tokens):
        return calibration.estimate(kinds)
    return call.reply_tokens


def _is_likely(call: CountedCall, calibration: Calibration, counter: KindCounter) -> bool:
    """Return False if the endpoint's count is too low for the prompt. No count is too high, because endpoints may add text."""
    return call.tokens.prompt * 2 >= calibration.estimate(_kinds(call.messages, counter))


def _is_plausible(kinds: Mapping[str, int], counted: int) -> bool:
    estimated = sum(kinds.values()) / 100
    return 0 < LEAST_RATIO * estimated <= counted <= MOST_RATIO * estimated


def _difference(
    call: CountedCall, messages: Iterable[ContextMessage]
) -> tuple[Counter[ContextMessage], Counter[ContextMessage]]:
    """Return the messages that are only in *call* (its prompt and its reply), and the messages that are only in *messages*."""
    then, now = Counter((*call.messages, call.reply)), Counter(messages)
    return then - now, now - then


def _kinds(messages: Iterable[ContextMessage], counter: KindCounter) -> Counter[str]:
    """Estimate the tokens of *messages* and of the template around them, in hundredths of a token by kind of text."""
    kinds = Counter[str]()
    for message in messages:
        kinds.update(counter.kinds(message.body))
        kinds.update(_ENVELOPE)
    return kinds
