"""The forecast of a prompt's tokens, and the calibration by counted calls."""

from dataclasses import replace
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.domain import Role, Usage
from services.domain.context import ContextMessage, Forecast
from services.memory.forecast import (
    LEAST_RATIO,
    MOST_RATIO,
    CalibratedCounter,
    Calibration,
    CountedCall,
    find_anchor,
    forecast_prompt,
    learn,
)
from services.memory.tokens import RegexCounter

COUNTER = RegexCounter()
SYSTEM = ContextMessage(Role.SYSTEM, "Be kind to the gardener and to the cook. " * 20)
ENGLISH = ("What is the best time for the tomatoes and the beans?", "It is in May. " * 30)
HINDI = ("टमाटर कब लगाएं? " * 3, "मई के महीने में लगाएं। " * 20)
TEMPLATE = 4  # tokens that a chat template adds to a message


def asked(text):
    return ContextMessage(Role.USER, text)


def replied(text):
    return ContextMessage(Role.ASSISTANT, text)


def tokenize(text):
    """Return the tokens of a large vocabulary: one per word, and one per three characters of Hindi."""
    return len(text.split()) if text.isascii() else len(text) // 3


def true_tokens(messages):
    return 3 + sum(tokenize(message.body) + TEMPLATE for message in messages)


def call(messages, reply, model="m"):
    used = Usage(true_tokens(messages), tokenize(reply))
    return CountedCall(model=model, messages=tuple(messages), reply=replied(reply), tokens=used)


def reporting(call, *, prompt=0, reply=0, thoughts=0):
    """Return *call* with so many more reported tokens."""
    used = Usage(call.tokens.prompt + prompt, call.tokens.reply + reply, thoughts=thoughts)
    return replace(call, tokens=used)


def conversation(turns):
    calls = []
    messages = [SYSTEM]
    for prompt, reply in turns:
        messages.append(asked(prompt))
        calls.append(call(messages, reply))
        messages.append(replied(reply))
    return calls


def learned(calls):
    pairs = zip([None, *calls], calls, strict=False)
    return reduce(lambda rates, pair: learn(rates, *pair, COUNTER), pairs, Calibration())


def going_on(last, prompt):
    return (*last.messages, last.reply, asked(prompt))


def test_forecast_adds_new_text_to_the_anchor():
    calls = conversation([ENGLISH, HINDI] * 6)

    for prompt in (ENGLISH[0], HINDI[0]):  # the two kinds of text have different ratios
        messages = going_on(calls[-1], prompt)
        found = forecast_prompt(messages, calls[-1], learned(calls), COUNTER)
        assert found.is_anchored
        assert found.tokens == pytest.approx(true_tokens(messages), rel=0.01)


def test_forecast_subtracts_trimmed_messages():
    calls = conversation([ENGLISH, HINDI] * 8)
    messages = (SYSTEM, *going_on(calls[-1], ENGLISH[0])[9:])

    found = forecast_prompt(messages, calls[-1], learned(calls), COUNTER)

    assert found.is_anchored
    assert found.tokens == pytest.approx(true_tokens(messages), rel=0.02)


@pytest.mark.parametrize("anchor", [None, call([SYSTEM, asked("Hi")], "Hello")])
def test_mostly_new_prompt_is_estimated_as_a_whole(anchor):
    rates = learned(conversation([ENGLISH] * 6))
    messages = (replied(SYSTEM.body), asked(ENGLISH[0]))

    found = forecast_prompt(messages, anchor, rates, COUNTER)

    assert not found.is_anchored
    assert found.tokens == pytest.approx(true_tokens(messages), rel=0.1)


def test_regenerated_reply_is_not_in_its_own_prompt():
    calls = conversation([ENGLISH] * 3)
    found = forecast_prompt(calls[-1].messages, calls[-1], learned(calls), COUNTER)

    assert found == Forecast(calls[-1].tokens.prompt, is_anchored=True)


def test_hidden_prompt_of_the_endpoint_is_forecast_not_learned():
    hidden = 900
    calls = [reporting(each, prompt=hidden) for each in conversation([ENGLISH] * 6)]
    messages = going_on(calls[-1], ENGLISH[0])

    found = forecast_prompt(messages, calls[-1], learned(calls), COUNTER)

    assert found.tokens == pytest.approx(true_tokens(messages) + hidden, rel=0.005)


@pytest.mark.parametrize("is_said", [True, False])
def test_thoughts_are_not_in_the_next_prompt(is_said):
    thoughts = 2000 if is_said else 0
    calls = [reporting(each, reply=2000, thoughts=thoughts) for each in conversation([ENGLISH] * 8)]
    rates = learned(calls)
    messages = going_on(calls[-1], ENGLISH[0])

    found = forecast_prompt(messages, calls[-1], rates, COUNTER)

    assert rates.has_thoughts is not is_said
    assert found.tokens == pytest.approx(true_tokens(messages), rel=0.005 if is_said else 0.02)


def test_count_without_cached_tokens_is_ignored():
    calls = conversation([ENGLISH] * 6)
    rates = learned(calls)
    last = call(going_on(calls[-1], ENGLISH[0]), ENGLISH[1])
    last = reporting(last, prompt=12 - last.tokens.prompt)

    assert find_anchor([*calls, last], "m", rates, COUNTER) is calls[-1]
    expected = rates.learn(COUNTER.kinds(ENGLISH[1]), tokenize(ENGLISH[1]))
    assert learn(rates, calls[-1], last, COUNTER).by_kind == expected.by_kind


def test_anchor_is_the_newest_call_of_the_model():
    first, second = conversation([ENGLISH] * 2)
    other = call(second.messages, ENGLISH[1], model="other")

    assert find_anchor([first, other], "m", Calibration(), COUNTER) is first
    assert find_anchor([first, second], "m", Calibration(), COUNTER) is second
    assert find_anchor([first, second], "third", Calibration(), COUNTER) is None
    assert find_anchor([], "m", Calibration(), COUNTER) is None


def test_calibrated_count_approaches_the_model_from_above():
    scaled = CalibratedCounter(COUNTER, learned(conversation([ENGLISH, HINDI] * 20)))

    for text in (ENGLISH[1], HINDI[1]):
        assert tokenize(text) <= scaled.count(text) <= tokenize(text) * 1.12
        assert scaled.count(text) < COUNTER.count(text)


def test_uncalibrated_count_leans_a_twentieth_high():
    scaled = CalibratedCounter(COUNTER, Calibration())

    for text in (*ENGLISH, *HINDI):
        assert COUNTER.count(text) <= scaled.count(text) <= COUNTER.count(text) * 1.05 + 1


@pytest.mark.parametrize(("usual", "odd"), [(600, 14_000), (14_000, 600)])
def test_one_outlier_does_not_undo_the_calibration(usual, odd):
    text = {"han": 1_000_000}  # the estimate is 10,000 tokens

    def repeated(rates, count, times):
        return reduce(lambda rates, _: rates.learn(text, count), range(times), rates)

    rates = repeated(Calibration(), usual, 10)
    after = rates.learn(text, odd)

    assert after.estimate(text) == pytest.approx(rates.estimate(text), rel=0.75)
    assert repeated(after, odd, 60).estimate(text) == pytest.approx(odd, rel=0.05)


@pytest.mark.parametrize("counted", [-1, 0, 400, 16_000, 10**9])
def test_implausible_count_leaves_calibration_unchanged(counted):
    rates = Calibration().learn({"han": 1_000_000}, 5_000)

    assert rates.learn({"han": 1_000_000}, counted) == rates
    assert rates.learn({}, counted) == rates


# --- properties ---------------------------------------------------------------------------------

TEXTS = st.text(max_size=60) | st.sampled_from([*ENGLISH, *HINDI])
COUNTS = st.integers(min_value=-10, max_value=10**7)
OBSERVED = st.lists(st.tuples(TEXTS, COUNTS | st.none()), max_size=30)


def rates_of(observed):
    """Return the calibration after texts and counts; None stands for the likely count."""
    rates = Calibration()
    for text, counted in observed:
        rates = rates.learn(COUNTER.kinds(text), tokenize(text) if counted is None else counted)
    return rates


@given(OBSERVED)
def test_calibration_is_bounded_and_deterministic(observed):
    rates = rates_of(observed)

    assert rates == rates_of(observed)
    assert all(LEAST_RATIO <= rate.ratio <= MOST_RATIO for rate in rates.by_kind.values())
    assert all(rate.samples >= 0 for rate in rates.by_kind.values())


@given(OBSERVED, TEXTS)
def test_calibrated_count_is_within_the_bound(observed, text):
    scaled = CalibratedCounter(COUNTER, rates_of(observed))

    assert 0 <= scaled.count(text) <= scaled.bound(text) == COUNTER.bound(text)


@given(OBSERVED, st.lists(TEXTS, max_size=6), st.lists(TEXTS, min_size=1, max_size=4))
def test_forecast_grows_with_every_message(observed, past, added):
    rates = rates_of(observed)
    last = call([SYSTEM, *map(asked, past)], "Yes.")
    for anchor in (last, None):
        messages = [*last.messages, last.reply]
        tokens = forecast_prompt(messages, anchor, rates, COUNTER).tokens
        for text in added:
            messages.append(asked(text))
            more = forecast_prompt(messages, anchor, rates, COUNTER).tokens
            assert more >= tokens
            tokens = more


@given(OBSERVED, st.lists(TEXTS, max_size=6), st.integers(0, 6), st.integers(0, 10**6))
def test_forecast_is_never_negative(observed, past, gone, counted):
    last = reporting(call([SYSTEM, *map(asked, past)], "Yes."), prompt=counted)

    found = forecast_prompt(last.messages[gone:], last, rates_of(observed), COUNTER)

    assert found.tokens >= 0
