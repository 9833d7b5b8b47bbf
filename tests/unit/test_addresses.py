"""The canonical form of an email address."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.domain.addresses import checked_address
from services.errors import AddressNotPlain, BadAddress
from tests.addresses import GOOD, HOSTILE


@pytest.mark.parametrize("address", GOOD)
def test_address_is_lower_cased_and_no_more(address):
    assert checked_address(address) == address.lower()


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(BadAddress):
        checked_address(text)


def test_letters_beyond_ascii_are_named():
    with pytest.raises(AddressNotPlain):
        checked_address("maya@gärten.test")
    with pytest.raises(BadAddress) as refused:
        checked_address("maya@localhost")
    assert refused.type is BadAddress


@given(st.text())
def test_every_address_is_in_its_own_form(text):
    try:
        address = checked_address(f"maya{text}@daybook.test")
    except BadAddress:
        return
    assert address.isascii()
    assert checked_address(address) == address == f"maya{text}@daybook.test".lower()
