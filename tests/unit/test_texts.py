"""What text is stored, and what is refused in a sentence."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.errors import BadInput
from services.store.texts import one_line, storable

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
        line = one_line(text, 10, "a name")
    except BadInput:
        return

    assert line.split() == text.replace("\x00", "").split()
    assert line.splitlines() == [line]
    assert 1 <= len(line) <= 10
    assert one_line(line, 10, "a name") == line


@pytest.mark.parametrize("text", ["", " \n", "\x00 \x00", "x" * 11])
def test_what_is_no_line_is_said_with_what_it_was_to_be(text):
    with pytest.raises(BadInput, match=r"Enter a name \(max. 10 characters\)"):
        one_line(text, 10, "a name")


@pytest.mark.parametrize("text", ["half \ud800", "\udfff", "\ud83d\x00"])
def test_half_a_character_is_said_to_be_one(text):
    with pytest.raises(BadInput, match="a character that cannot be stored"):
        one_line(text, 10, "a name")
