"""What the counters promise: one leans high, the other is never too low."""

import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.memory import RegexCounter

COUNTER = RegexCounter()

# Texts, and the tokens that the neediest of five vocabularies (o200k, cl100k, Claude 2, DeepSeek,
# SmolLM2) makes of each.
VECTORS = json.loads(
    (Path(__file__).parents[1] / "vectors" / "token_counts.json").read_text("utf-8")
)
MEASURED = {name: (case["text"], case["tokens"]) for name, case in VECTORS.items()}


@pytest.mark.parametrize(("text", "worst"), MEASURED.values(), ids=MEASURED)
def test_a_count_undercounts_no_vocabulary_by_more_than_a_sixth(text: str, worst: int):
    assert COUNTER.count(text) >= worst * 5 / 6


@pytest.mark.parametrize(("text", "worst"), MEASURED.values(), ids=MEASURED)
def test_a_bound_is_never_too_low(text: str, worst: int):
    assert COUNTER.bound(text) >= worst


def test_a_count_of_english_leaves_most_of_a_window_usable():
    text, worst = MEASURED["english"]

    assert COUNTER.count(text) <= worst * 1.5


@given(st.text())
def test_a_bound_is_the_bytes_of_the_longer_form(text: str):
    normal = unicodedata.normalize("NFKC", text)

    assert COUNTER.bound(text) == max(len(text.encode()), len(normal.encode()))
    assert 0 <= COUNTER.count(text) <= COUNTER.bound(text)


@pytest.mark.parametrize("text", ["", "\ud800", "a\udfff\u0301"])
def test_any_string_can_be_counted(text: str):
    assert COUNTER.count(text) <= COUNTER.bound(text) <= 3 * len(text)
