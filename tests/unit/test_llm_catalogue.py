"""What is known about models, and what their tokens cost."""

import socket

from hypothesis import given
from hypothesis import strategies as st

from services.domain import Tokens
from services.llm import ModelInfo, known_model

PRICED = ModelInfo(
    name="m",
    context_tokens=8000,
    reply_tokens=1000,
    input_micro=150_000,
    output_micro=600_000,
    cached_input_micro=75_000,
)


def test_a_listed_model_has_a_window_and_prices_without_a_network(monkeypatch):
    monkeypatch.delattr(socket, "create_connection")

    model = known_model("gpt-4o-mini", base_url="https://api.openai.com/v1")

    assert model == ModelInfo("gpt-4o-mini", 128_000, 1024, 150_000, 600_000, 75_000)


def test_a_gateway_that_is_not_listed_is_charged_at_the_makers_price():
    assert known_model("gpt-4o-mini", base_url="http://gateway.test/v1").input_micro == 150_000


def test_an_unknown_model_is_small_and_free():
    assert known_model("kumquat") == ModelInfo("kumquat", 8192, 1024, 0, 0, 0)


def test_what_is_given_wins():
    model = known_model(
        "gpt-4o-mini",
        context_tokens=2000,
        reply_tokens=300,
        input_micro=7,
        output_micro=9,
    )

    assert model == ModelInfo("gpt-4o-mini", 2000, 300, 7, 9, 7)
    assert known_model("gpt-4o-mini", cached_input_micro=5).cached_input_micro == 5
    assert known_model("gpt-4o-mini", input_micro=0, output_micro=0).cost_micro(Tokens(9, 9)) == 0


def test_a_small_window_keeps_most_of_it_for_the_prompt():
    assert known_model("kumquat", context_tokens=2048).reply_tokens == 512


def test_a_price_that_grows_with_the_prompt_is_the_one_that_can_be_reached():
    small, large = (
        known_model("claude-sonnet-4-5", context_tokens=window) for window in (100_000, 1_000_000)
    )

    assert small.input_micro == 3_000_000
    assert large.input_micro == 6_000_000


def test_cached_tokens_are_charged_once_and_at_their_price():
    assert PRICED.cost_micro(Tokens(prompt=1_000_000, reply=0, cached=0)) == 150_000
    assert PRICED.cost_micro(Tokens(prompt=1_000_000, reply=0, cached=1_000_000)) == 75_000
    assert PRICED.cost_micro(Tokens(prompt=1_000_000, reply=1_000_000, cached=400_000)) == 720_000


def test_a_cost_is_rounded_up():
    assert PRICED.cost_micro(Tokens(prompt=1, reply=0)) == 1
    assert PRICED.cost_micro(Tokens(prompt=0, reply=0)) == 0


@given(st.integers(-10, 10_000), st.integers(0, 10**7), st.integers(1, 10**8))
def test_an_affordable_reply_costs_no_more_than_there_is(micro, prompt, price):
    model = ModelInfo("m", 8000, 1000, 0, price, 0)

    reply = model.affordable_reply(micro)

    assert 0 <= reply <= 1000
    assert model.cost_micro(Tokens(prompt, reply)) <= max(micro, 0)
    assert reply == 1000 or model.cost_micro(Tokens(prompt, reply + 1)) > micro


def test_a_free_reply_is_as_long_as_any():
    assert known_model("kumquat").affordable_reply(0) == 1024


def test_a_reply_that_would_fill_the_window_is_passed_over():
    assert known_model("nobody-lists-this", reply_tokens=8_191).reply_tokens == 8_191
    assert known_model("nobody-lists-this", reply_tokens=8_192).reply_tokens == 1_024
