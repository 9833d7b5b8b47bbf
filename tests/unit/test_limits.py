"""What text is stored, and what is refused in a sentence."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.domain.limits import LONGEST_SPACE_NAME, checked_space_name, storable
from services.errors import BadInput

ANYTHING = st.text(
    st.characters() | st.characters(categories=["Cs"]) | st.sampled_from("\x00 \n\t")
)


@example("\x00 peas\x00 ")
@given(ANYTHING)
def test_what_is_storable_can_be_stored_and_stays_as_it_is(text):
    try:
        stored = storable(text)
    except BadInput:
        with pytest.raises(UnicodeEncodeError):
            text.encode()
        return

    assert stored.encode().decode() == stored == text.strip()


@given(ANYTHING)
def test_one_line_is_one_line_of_at_most_so_many_characters(text):
    try:
        line = checked_space_name(text)
    except BadInput:
        return

    assert line.split() == text.replace("\x00", "").split()
    assert line.splitlines() == [line]
    assert 1 <= len(line) <= LONGEST_SPACE_NAME
    assert checked_space_name(line) == line


@pytest.mark.parametrize("text", ["", " \n", "\x00 \x00", "x" * 61])
def test_what_is_no_line_is_said_with_what_it_was_to_be(text):
    with pytest.raises(BadInput, match=r"Enter a name \(max. 60 characters\)"):
        checked_space_name(text)


@pytest.mark.parametrize("text", ["half \ud800", "\udfff", "\ud83d\x00"])
def test_half_a_character_is_said_to_be_one(text):
    with pytest.raises(BadInput, match="a character that cannot be stored"):
        checked_space_name(text)
