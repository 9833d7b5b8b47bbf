"""Token counters: the estimate is rather too high, the bound is never too low."""

import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.memory import tokens
from services.memory.tokens import RegexCounter, min_tokens

COUNTER = RegexCounter()

# Texts, and the highest token count of five vocabularies (o200k, cl100k, Claude 2, DeepSeek,
# SmolLM2) for each.
VECTORS = json.loads(
    (Path(__file__).parents[1] / "vectors" / "token_counts.json").read_text("utf-8")
)
MEASURED = {name: (case["text"], case["tokens"]) for name, case in VECTORS.items()}


@pytest.mark.parametrize(("text", "worst"), MEASURED.values(), ids=MEASURED)
def test_count_is_at_most_a_sixth_too_low(text, worst):
    assert COUNTER.count(text) >= worst * 5 / 6


@pytest.mark.parametrize(("text", "worst"), MEASURED.values(), ids=MEASURED)
def test_bounds_hold_for_every_vocabulary(text, worst):
    assert min_tokens(text) <= worst <= COUNTER.bound(text)


def test_count_of_english_is_at_most_half_too_high():
    text, worst = MEASURED["english"]

    assert COUNTER.count(text) <= worst * 1.5


@given(st.text())
# the longest form of each differs: unchanged, composed, compatible
@example("\uff21")
@example("\u0958\uff21")
@example("\ufdfa")
def test_bound_covers_every_unicode_normalization(text):
    forms = (text, *(unicodedata.normalize(form, text) for form in ("NFC", "NFKC")))

    assert COUNTER.bound(text) == 1 + max(len(form.encode()) for form in forms)
    assert 0 <= COUNTER.count(text) <= COUNTER.bound(text)


# marks that compose with a letter or with each other, or that decompose
MARKS = "\u0300\u0301\u0302\u0308\u0323\u0344\u093c\u0f73\u3099\uff9e"


@given(st.lists(st.sampled_from("aou\u0915\u00e9\u30ab\ufdfa") | st.text(MARKS, max_size=90)))
@example(["a", "\u0344" * 40, "\u0323"])
def test_bound_covers_long_runs_of_marks(parts):
    text = "".join(parts)
    forms = (text, *(unicodedata.normalize(form, text) for form in ("NFC", "NFKC")))

    assert COUNTER.bound(text) >= 1 + max(len(form.encode()) for form in forms)
    assert COUNTER.count(text) <= COUNTER.bound(text)


# the longest form of each differs: unchanged, composed, compatible
@pytest.mark.parametrize("text", ["", "\ud800", "a\udfff\u0301"])
def test_lone_surrogates_can_be_counted(text):
    assert COUNTER.count(text) <= COUNTER.bound(text) <= 3 * len(text) + 1


@given(st.text())
def test_kinds_add_up_to_the_count(text):
    kinds = COUNTER.kinds(text)

    assert all(hundredths > 0 for hundredths in kinds.values())
    assert COUNTER.count(text) == min(-(-sum(kinds.values()) // 100), COUNTER.bound(text))


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("This is the way of the world", {"english"}),
        ("Alle Menschen", {"words"}),
        ("if x: 12", {"words", "signs", "digits"}),
        ("key: AKfycbx0Zt9w1VQqk3bS5uLd8e", {"words", "signs", "codes"}),
        ("\u043c\u0438\u0440", {"cyrillic"}),
        ("\u4e16\u754c", {"han"}),
        ("\ufdfa", {"arabic forms", "compositions"}),
        ("\U0001f389", {"emoji"}),
        ("\ud800", {"scripts"}),
    ],
)
def test_text_is_classified_by_kind(text, kinds):
    assert set(COUNTER.kinds(text)) == kinds


@given(st.lists(st.text(), min_size=1, max_size=20))
def test_cached_figures_equal_computed_ones(texts):
    caching = RegexCounter(size=3)

    for text in (*texts, *texts):
        fresh = RegexCounter()
        assert caching.count(text) == fresh.count(text)
        assert caching.kinds(text) == fresh.kinds(text)
        assert caching.bound(text) == fresh.bound(text)


def test_cache_reads_a_text_once_and_stores_none(monkeypatch):
    seen = []
    monkeypatch.setattr(tokens, "_longest_size", lambda text: seen.append(text) or 1)
    caching = RegexCounter()

    for _ in range(3):
        caching.count("kumquat-5520")

    assert seen == ["kumquat-5520"]
    assert "kumquat" not in repr(vars(caching))
