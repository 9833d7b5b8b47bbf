"""Text is processed in pieces with few marks, and within limits."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.domain import safe_text

MARKS = "\u0301\u0323\u0344\u0f73\u3099\uff9e"
marked = st.lists(st.sampled_from("ab \u00e9") | st.text(MARKS, max_size=80)).map("".join)


@given(marked | st.text())
def test_pieces_are_the_text_with_few_marks_in_a_row(text):
    pieces = list(safe_text.pieces(text))

    assert "".join(pieces) == text
    for piece in pieces:
        marks = "".join("m" if sign in MARKS else " " for sign in piece)
        assert max(map(len, marks.split()), default=0) <= safe_text.MOST_MARKS


@given(st.text() | marked.filter(lambda text: not safe_text.has_many_marks(text)))
def test_ordinary_text_is_normalized_as_a_whole(text):
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        assert safe_text.normalize(form, text) == unicodedata.normalize(form, text)


def test_thirty_marks_are_one_piece_and_more_are_two():
    assert list(safe_text.pieces("a" + "\u0301" * 30)) == ["a" + "\u0301" * 30]
    assert list(safe_text.pieces("a" + "\u0301" * 31)) == ["a" + "\u0301" * 30, "\u0301"]


@pytest.mark.parametrize(
    ("text", "readable"),
    [
        ("a" * safe_text.LONGEST_LINE, True),
        ("a" * (safe_text.LONGEST_LINE + 1), False),
        ("a\n" * (safe_text.LONGEST_TEXT // 2), True),
        ("a\n" * (safe_text.LONGEST_TEXT // 2 + 1), False),
    ],
)
def test_long_texts_and_lines_are_not_read(text, readable):
    assert safe_text.is_readable(text) is readable


def test_run_of_backticks_is_paired_with_the_next_of_its_length():
    assert safe_text.tick_pairs("`a``b`c``d`") == {0: 6, 2: 9, 5: 11}
