"""Validation of text: text that can be stored, and text that is refused with a sentence."""

from unicodedata import bidirectional, category

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.domain.limits import LONGEST_SPACE_NAME, checked_message, checked_space_name, storable
from services.errors import BadInput

_TURNS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
ANYTHING = st.text(
    st.characters() | st.characters(categories=["Cs"]) | st.sampled_from("\x00 \n\t\u202e\u2068")
)


@example("\x00 peas\x00 ")
@example("\ud83d\x00")
@given(ANYTHING)
def test_storable_text_can_be_encoded_and_is_unchanged(text):
    try:
        stored = storable(text)
    except BadInput:
        with pytest.raises(UnicodeEncodeError):
            text.encode()
        return

    assert stored.encode().decode() == stored == text.strip()


@given(ANYTHING)
def test_name_is_one_line_within_its_limit(text):
    try:
        line = checked_space_name(text)
    except BadInput:
        return

    signs = [sign for sign in text if not sign.isspace() and category(sign) != "Cc"]
    assert line.replace(" ", "") == "".join(
        sign for sign in signs if bidirectional(sign) not in _TURNS
    )
    assert line.encode().decode().splitlines() == [line]
    assert 1 <= len(line) <= LONGEST_SPACE_NAME
    assert checked_space_name(line) == line


def test_controls_of_a_name_turn_nothing_around():
    assert (
        checked_space_name("tab\tand\x07bell\x00 evil \u202egnp.exe") == "tab andbell evil gnp.exe"
    )


@pytest.mark.parametrize("text", ["", " \n", "\x00 \x00", "x" * 61])
def test_invalid_name_is_refused_with_its_limit(text):
    with pytest.raises(BadInput, match=r"Enter a name \(max. 60 characters\)"):
        checked_space_name(text)


def test_message_is_trimmed_as_in_the_browser():
    assert checked_message("\ufeff\u3000\ufeffpeas\ufeff beans\u2009\ufeff\n") == "peas\ufeff beans"
    with pytest.raises(BadInput, match="Type a message first"):
        checked_message(" \ufeff")
