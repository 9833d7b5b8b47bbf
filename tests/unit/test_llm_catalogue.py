"""Limits and prices of models, and the cost of their tokens."""

import socket
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.domain import Usage
from services.domain.models import LimitSource, ModelInfo, PriceSource
from services.llm.catalogue import known_model
from services.llm.model_spec import ModelSpec

PRICED = ModelInfo("m", 8_000, 1_000, 150_000, 600_000, cached_input_micro=75_000)
_, SETTING, ENDPOINT, LISTED, TABLE, GUESS = LimitSource


def test_listed_model_needs_no_network(monkeypatch):
    monkeypatch.delattr(socket, "create_connection")

    model = known_model("gpt-4o-mini", base_url="https://api.openai.com/v1")

    limits, prices = (128_000, 16_384), (150_000, 600_000, 75_000)
    known = ModelInfo("gpt-4o-mini", *limits, *prices, LISTED, TABLE)
    assert model == replace(known, price_source=PriceSource.LISTED)


def test_unlisted_gateway_is_charged_at_the_makers_price():
    assert known_model("gpt-4o-mini", base_url="http://gateway.test/v1").input_micro == 150_000


def test_unknown_model_has_guessed_limits_and_no_known_price():
    guessed = ModelInfo("kumquat", 32_768, 8_192, 0, 0, 0, GUESS, GUESS)
    assert known_model("kumquat") == replace(guessed, price_source=PriceSource.UNKNOWN)


@pytest.mark.parametrize(
    ("name", "setting", "endpoint", "input_micro", "source"),
    [
        ("gpt-4o", 7, 8, 7, PriceSource.SETTING),
        ("gpt-4o", None, 8, 8, PriceSource.ENDPOINT),
        ("gpt-4o", None, None, 2_500_000, PriceSource.LISTED),
        ("kumquat", 0, None, 0, PriceSource.SETTING),
        ("kumquat", None, None, 0, PriceSource.UNKNOWN),
    ],
)
def test_price_comes_from_the_first_source(name, setting, endpoint, input_micro, source):
    stated = [ModelSpec(input_micro=micro, output_micro=micro) for micro in (setting, endpoint)]

    model = known_model(name, setting=stated[0], endpoint=stated[1])

    assert (model.input_micro, model.price_source) == (input_micro, source)


@pytest.mark.parametrize("half", [{"input_micro": 7}, {"output_micro": 9}])
def test_half_a_price_is_no_known_price(half):
    model = known_model("kumquat", setting=ModelSpec(**half))

    assert (model.price_source, model.is_free) == (PriceSource.UNKNOWN, True)
    assert known_model("gpt-4o", setting=ModelSpec(**half)).price_source is PriceSource.SETTING


def test_cached_input_costs_at_most_as_much_as_input():
    dear = ModelSpec(input_micro=7, output_micro=9, cached_input_micro=8)

    assert known_model("kumquat", endpoint=dear).cached_input_micro == 7


def test_settings_override_listed_limits_and_prices():
    given = ModelSpec(context_tokens=2000, reply_tokens=300, input_micro=7, output_micro=9)
    free = ModelSpec(input_micro=0, output_micro=0)

    model = known_model("gpt-4o-mini", setting=given)

    assert model == ModelInfo("gpt-4o-mini", 2000, 300, 7, 9, 7)
    assert known_model("gpt-4o-mini", setting=free).cost_micro(Usage(9, 9)) == 0


@pytest.mark.parametrize(
    ("name", "setting", "endpoint", "window", "reply"),
    [
        # in order of precedence: the settings, the endpoint, genai-prices, our table, a guess
        ("gpt-4o", (9_000, 500), (8_000, 400), (9_000, SETTING), (500, SETTING)),
        ("gpt-4o", (None, None), (8_000, 400), (8_000, ENDPOINT), (400, ENDPOINT)),
        ("gpt-4o", (None, 500), (8_000, None), (8_000, ENDPOINT), (500, SETTING)),
        ("gpt-4o", (None, None), (None, None), (128_000, LISTED), (16_384, TABLE)),
        ("gemini-2.5-pro", (None, None), (None, None), (1_048_576, TABLE), (65_535, TABLE)),
        ("kumquat", (None, None), (None, None), (32_768, GUESS), (8_192, GUESS)),
        # a gateway's name; a reasoning model; a window that is smaller than the reply
        ("openai/gpt-4o", (None, None), (None, None), (32_768, GUESS), (16_384, TABLE)),
        ("qwen3:8b", (None, None), (None, None), (32_768, GUESS), (32_768, GUESS)),
        ("kumquat", (2048, None), (None, None), (2048, SETTING), (2048, GUESS)),
        # longer than a message may be, unless the settings say so
        ("gpt-5", (None, None), (None, None), (400_000, LISTED), (65_536, TABLE)),
        ("gpt-5", (None, 100_000), (None, None), (400_000, LISTED), (100_000, SETTING)),
        # a reply length that would fill the window was meant for another model
        ("kumquat", (None, 32_767), (None, None), (32_768, GUESS), (32_767, SETTING)),
        ("kumquat", (None, 32_768), (None, None), (32_768, GUESS), (8_192, GUESS)),
    ],
)
def test_limit_comes_from_the_first_source_that_states_it(name, setting, endpoint, window, reply):
    stated = [
        ModelSpec(context_tokens=context, reply_tokens=longest)
        for context, longest in (setting, endpoint)
    ]

    model = known_model(name, setting=stated[0], endpoint=stated[1])

    assert (model.context_tokens, model.context_source) == window
    assert (model.reply_tokens, model.reply_source) == reply


LONGEST_REPLIES = {
    4_096: "gpt-4o-2024-05-13 gpt-4-turbo claude-3-opus-20240229",
    8_192: "claude-3-5-haiku-20241022 gemini-2.0-flash deepseek-chat qwen3-coder llama3.2",
    16_384: "gpt-5.1-chat-latest",
    32_000: "claude-opus-4-20250514 claude-opus-4-1",
    32_768: "gpt-4.1-mini deepseek-r1:8b",
    64_000: "claude-opus-4-5-20251101 anthropic/claude-sonnet-4.5",
    65_536: "o3-mini claude-opus-4-8 claude-haiku-5-5",
}


@pytest.mark.parametrize(
    ("name", "reply"),
    [(name, reply) for reply, names in LONGEST_REPLIES.items() for name in names.split()],
)
def test_longest_reply_is_known_by_name(name, reply):
    assert known_model(name, setting=ModelSpec(context_tokens=200_000)).reply_tokens == reply


def test_reasoning_is_known_by_name_or_endpoint():
    reasons = ModelSpec(is_reasoning=True)

    assert known_model("o3-mini", setting=ModelSpec(reply_tokens=500)).is_reasoning
    assert not known_model("gpt-4o").is_reasoning
    assert known_model("kumquat", endpoint=reasons).reply_tokens == 32_768


def test_tiered_price_is_the_highest_in_the_window():
    small, large = (
        known_model("claude-sonnet-4-5", setting=ModelSpec(context_tokens=window))
        for window in (100_000, 1_000_000)
    )

    assert small.input_micro == 3_000_000
    assert large.input_micro == 6_000_000


def test_cached_tokens_are_charged_once_at_their_price():
    assert PRICED.cost_micro(Usage(prompt=1_000_000, reply=0, cached=0)) == 150_000
    assert PRICED.cost_micro(Usage(prompt=1_000_000, reply=0, cached=1_000_000)) == 75_000
    assert PRICED.cost_micro(Usage(prompt=1_000_000, reply=1_000_000, cached=400_000)) == 720_000


def test_cost_is_rounded_up():
    assert PRICED.cost_micro(Usage(prompt=1, reply=0)) == 1
    assert PRICED.cost_micro(Usage(prompt=0, reply=0)) == 0


@given(st.integers(-10, 10_000), st.integers(0, 10**7), st.integers(1, 10**8))
def test_affordable_reply_costs_no_more_than_the_budget(micro, prompt, price):
    model = ModelInfo("m", 8000, 1000, 0, price, 0)

    reply = model.affordable_reply(micro)

    assert 0 <= reply <= 1000
    assert model.cost_micro(Usage(prompt, reply)) <= max(micro, 0)
    assert reply == 1000 or model.cost_micro(Usage(prompt, reply + 1)) > micro


def test_free_reply_may_have_full_length():
    assert known_model("kumquat").affordable_reply(0) == 8_192
