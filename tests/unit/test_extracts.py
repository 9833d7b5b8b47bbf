"""Extracts of long messages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.memory.extracts import count_words, find_extract, is_long
from services.memory.terms import stems
from tests.unit.test_memory import hostile

LINES = "It was so.\n" * 40
texts = st.lists(
    st.sampled_from(["Tea. ", 'No "tea" at v1.2!\n', "\u8336\u3002", "word " * 30, "x" * 500])
    | hostile,
    min_size=30,
    max_size=60,
).map("".join)


def extract(text, query, taken=()):
    span = find_extract(text, stems(query), taken)
    return text[slice(*span)] if span else None


@pytest.mark.parametrize(
    "sentence",
    [
        "Bees like clover.",
        "Bees like v1.2 of clover!",
        'He said "bees like clover."',
        "for bee in clover: pass",
        "\u8702\u559c\u6b22\u4e09\u53f6\u8349\uff0c\u662f\u5427\u3002",
    ],
)
def test_extract_has_complete_sentences(sentence):
    found = extract(f"{LINES}{sentence}\n{LINES}", sentence)

    assert f"\n{sentence}\n" in f"\n{found}\n"
    assert set(found.split("\n")) == {"It was so.", sentence}
    # the sentences after it are more relevant than those before it
    assert found.startswith(sentence)
    assert 60 <= count_words(found) <= 120


def test_rare_query_words_decide():
    text = "The garden is green. " * 40 + "The bees fly. " * 25 + "The garden is green. " * 40

    assert "bees" in extract(text, "What of the green garden and its bees?")


def test_too_long_sentence_is_cut():
    assert count_words(extract("word " * 480, "word")) == 120


def test_taken_match_leaves_no_extract():
    text = f"{LINES}Bees like clover.\n{LINES}"

    assert extract(text, "bees", taken=[(len(LINES), len(LINES) + 17)]) is None


def test_only_the_first_sentences_of_a_huge_text_are_looked_at():
    assert extract("Tea.\n" * 19_990 + "Bees.", "bees").endswith("Bees.")
    assert not extract("Tea.\n" * 20_000 + "Bees.", "bees").endswith("Bees.")


def test_extract_without_match_is_the_beginning():
    assert extract(f"Take the Grand Hotel.\n{LINES}", "A room?").startswith("Take the Grand Hotel.")


def test_extract_is_shorter_in_little_room():
    text = f"{LINES}Bees like clover.\n{LINES}"

    begin, end = find_extract(text, stems("bees"), room_tokens=200)

    assert text[begin:].startswith("Bees like clover.")
    assert 30 <= count_words(text[begin:end]) <= 60


@pytest.mark.slow
@given(texts.filter(is_long), st.sampled_from(["tea", "word", "\u8336", ""]))
def test_extract_is_a_short_part_of_its_message(text, query):
    found = extract(text, query)

    assert found
    assert found in text
    assert not is_long(found)
