"""What a forecast promises: what was counted is taken as counted, and the rest as learned from it."""

from dataclasses import replace
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from services.domain import Role, Usage
from services.memory.context import ContextMessage
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
TEMPLATE = 4  # tokens around a message


def asked(text):
    return ContextMessage(Role.USER, text)


def replied(text):
    return ContextMessage(Role.ASSISTANT, text)


def tokenize(text):
    """As a large vocabulary does: words are a token, Hindi three signs to a token."""
    return len(text.split()) if text.isascii() else len(text) // 3


def true_tokens(messages):
    return 3 + sum(tokenize(message.body) + TEMPLATE for message in messages)


def call(messages, reply, model="m"):
    used = Usage(true_tokens(messages), tokenize(reply))
    return CountedCall(model=model, messages=tuple(messages), reply=replied(reply), tokens=used)


def reporting(call, *, prompt=0, reply=0, thoughts=0):
    """*call*, of which so much more is reported."""
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


def test_a_prompt_that_goes_on_is_what_was_counted_and_what_is_new():
    calls = conversation([ENGLISH] * 6)
    rates = learned(calls)
    messages = going_on(calls[-1], ENGLISH[0])

    found = forecast_prompt(messages, calls[-1], rates, COUNTER)

    assert found.is_anchored
    assert found.tokens == pytest.approx(true_tokens(messages), rel=0.005)
    assert found.estimated_tokens < 30


def test_each_kind_of_text_has_its_own_rate():
    calls = conversation([ENGLISH, HINDI] * 6)
    rates = learned(calls)

    for prompt in (ENGLISH[0], HINDI[0]):
        messages = going_on(calls[-1], prompt)
        exact = forecast_prompt(messages, calls[-1], rates, COUNTER).tokens
        assert exact == pytest.approx(true_tokens(messages), rel=0.01)


def test_after_a_trim_what_has_gone_is_taken_off():
    calls = conversation([ENGLISH, HINDI] * 8)
    messages = (SYSTEM, *going_on(calls[-1], ENGLISH[0])[9:])

    found = forecast_prompt(messages, calls[-1], learned(calls), COUNTER)

    assert found.is_anchored
    assert found.tokens == pytest.approx(true_tokens(messages), rel=0.02)


@pytest.mark.parametrize("anchor", [None, call([SYSTEM, asked("Hi")], "Hello")])
def test_what_has_little_of_the_last_prompt_is_estimated_as_a_whole(anchor):
    rates = learned(conversation([ENGLISH] * 6))
    messages = (replied(SYSTEM.body), asked(ENGLISH[0]))

    found = forecast_prompt(messages, anchor, rates, COUNTER)

    assert not found.is_anchored
    assert found.estimated_tokens == found.tokens == pytest.approx(true_tokens(messages), rel=0.1)


def test_a_reply_that_is_asked_for_again_is_no_part_of_its_prompt():
    calls = conversation([ENGLISH] * 3)
    found = forecast_prompt(calls[-1].messages, calls[-1], learned(calls), COUNTER)

    assert (found.tokens, found.estimated_tokens) == (calls[-1].tokens.prompt, 0)


def test_a_prompt_that_the_endpoint_adds_is_in_the_forecast_and_in_no_rate():
    hidden = 900
    calls = [reporting(each, prompt=hidden) for each in conversation([ENGLISH] * 6)]
    messages = going_on(calls[-1], ENGLISH[0])

    found = forecast_prompt(messages, calls[-1], learned(calls), COUNTER)

    assert found.tokens == pytest.approx(true_tokens(messages) + hidden, rel=0.005)


@pytest.mark.parametrize("is_said", [True, False])
def test_thoughts_are_no_part_of_the_next_prompt(is_said):
    thoughts = 2000 if is_said else 0
    calls = [reporting(each, reply=2000, thoughts=thoughts) for each in conversation([ENGLISH] * 8)]
    rates = learned(calls)
    messages = going_on(calls[-1], ENGLISH[0])

    found = forecast_prompt(messages, calls[-1], rates, COUNTER)

    assert rates.has_thoughts is not is_said
    assert found.tokens == pytest.approx(true_tokens(messages), rel=0.005 if is_said else 0.02)


def test_a_count_without_what_was_cached_anchors_nothing_and_teaches_nothing():
    calls = conversation([ENGLISH] * 6)
    rates = learned(calls)
    last = call(going_on(calls[-1], ENGLISH[0]), ENGLISH[1])
    last = reporting(last, prompt=12 - last.tokens.prompt)

    assert find_anchor([*calls, last], "m", rates, COUNTER) is calls[-1]
    expected = rates.learn(COUNTER.kinds(ENGLISH[1]), tokenize(ENGLISH[1]))
    assert learn(rates, calls[-1], last, COUNTER).by_kind == expected.by_kind


def test_an_anchor_is_the_last_call_of_the_same_model():
    first, second = conversation([ENGLISH] * 2)
    other = call(second.messages, ENGLISH[1], model="other")

    assert find_anchor([first, other], "m", Calibration(), COUNTER) is first
    assert find_anchor([first, second], "m", Calibration(), COUNTER) is second
    assert find_anchor([first, second], "third", Calibration(), COUNTER) is None
    assert find_anchor([], "m", Calibration(), COUNTER) is None


def test_what_was_said_is_in_no_repr():
    [last] = conversation([("kumquat-5520", "kumquat-5521")])

    assert "kumquat" not in repr(last)
    assert "kumquat" not in repr(learned([last]))


def test_a_window_is_filled_by_what_the_model_needs():
    scaled = CalibratedCounter(COUNTER, learned(conversation([ENGLISH, HINDI] * 20)))

    for text in (ENGLISH[1], HINDI[1]):
        assert tokenize(text) <= scaled.count(text) <= tokenize(text) * 1.12
        assert scaled.count(text) < COUNTER.count(text)


def test_a_scaled_count_begins_above_the_plain_one():
    scaled = CalibratedCounter(COUNTER, Calibration())

    for text in (*ENGLISH, *HINDI):
        assert COUNTER.count(text) <= scaled.count(text) <= COUNTER.count(text) * 1.05 + 1


@pytest.mark.parametrize(("usual", "odd"), [(600, 14_000), (14_000, 600)])
def test_one_count_that_is_far_off_does_not_undo_what_was_learned(usual, odd):
    text = {"han": 1_000_000}  # estimated as 10,000
    rates = reduce(lambda rates, _: rates.learn(text, usual), range(10), Calibration())

    after = rates.learn(text, odd)

    assert after.estimate(text) == pytest.approx(rates.estimate(text), rel=0.75)
    assert reduce(lambda rates, _: rates.learn(text, odd), range(60), after).estimate(
        text
    ) == pytest.approx(odd, rel=0.05)


@pytest.mark.parametrize("counted", [-1, 0, 400, 16_000, 10**9])
def test_a_count_that_cannot_be_teaches_nothing(counted):
    rates = Calibration().learn({"han": 1_000_000}, 5_000)

    assert rates.learn({"han": 1_000_000}, counted) == rates
    assert rates.learn({}, counted) == rates


def test_a_scaled_count_of_what_needs_more_than_estimated_is_still_within_the_bound():
    rates = reduce(lambda rates, _: rates.learn({"emoji": 10_000}, 149), range(20), Calibration())
    text = "\U0001f389" * 20

    assert CalibratedCounter(COUNTER, rates).count(text) == COUNTER.bound(text) == 81


# --- for all inputs ---------------------------------------------------------------------------

TEXTS = st.text(max_size=60) | st.sampled_from([*ENGLISH, *HINDI])
COUNTS = st.integers(min_value=-10, max_value=10**7)
OBSERVED = st.lists(st.tuples(TEXTS, COUNTS | st.none()), max_size=30)


def rates_of(observed):
    """What is learned; without a count, of what is likely."""
    rates = Calibration()
    for text, counted in observed:
        rates = rates.learn(COUNTER.kinds(text), tokenize(text) if counted is None else counted)
    return rates


@given(OBSERVED)
def test_rates_are_bounded_and_the_same_for_the_same_counts(observed):
    rates = rates_of(observed)

    assert rates == rates_of(observed)
    assert all(LEAST_RATIO <= rate.ratio <= MOST_RATIO for rate in rates.by_kind.values())
    assert all(rate.samples >= 0 for rate in rates.by_kind.values())


@given(OBSERVED)
def test_rates_are_the_same_after_they_were_stored(observed):
    rates, stored = rates_of(observed), TypeAdapter(Calibration)

    again = stored.validate_json(stored.dump_json(rates))

    assert again == rates
    assert again.learn(COUNTER.kinds("the end, конец"), 4) == rates.learn(
        COUNTER.kinds("the end, конец"), 4
    )


@given(OBSERVED, TEXTS)
def test_a_scaled_count_is_within_the_bound(observed, text):
    scaled = CalibratedCounter(COUNTER, rates_of(observed))

    assert 0 <= scaled.count(text) <= scaled.bound(text) == COUNTER.bound(text)


@given(OBSERVED, st.lists(TEXTS, max_size=6), st.lists(TEXTS, min_size=1, max_size=4))
def test_a_forecast_grows_with_every_message_that_is_added(observed, past, added):
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
def test_a_forecast_is_never_negative(observed, past, gone, counted):
    last = reporting(call([SYSTEM, *map(asked, past)], "Yes."), prompt=counted)

    found = forecast_prompt(last.messages[gone:], last, rates_of(observed), COUNTER)

    assert found.estimated_tokens >= 0
    assert found.tokens >= 0
