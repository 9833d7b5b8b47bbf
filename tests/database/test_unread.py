"""Up to where a person has read a conversation."""

import json

import pytest

from tests.database.people import MISUSE


@pytest.fixture
def maya(world):
    return world.person()


@pytest.fixture
def garden(maya):
    """A conversation of Maya's, with a prompt and a reply."""
    garden = maya.create_conversation()
    maya.finish(maya.begin(garden)["turn"], 1)
    return garden


def seqs(world, conversation):
    """Up to where it is read, and up to where it goes."""
    return world.one(
        "select read_seq, last_seq from public.conversations where id = %s", conversation
    )


def test_who_writes_has_read_what_stands_before(world, maya, garden):
    maya.begin(garden, 2)

    assert seqs(world, garden) == (3, 3)


def test_reading_goes_neither_back_nor_beyond_what_is_there(world, maya, garden):
    maya.change(garden, read_seq=99)
    assert seqs(world, garden) == (2, 2)

    maya.change(garden, read_seq=1)
    assert seqs(world, garden) == (2, 2)


@pytest.mark.parametrize("seq", [0, -1])
def test_a_place_that_cannot_be_is_misuse(maya, garden, seq):
    changes = json.dumps({"read_seq": seq})
    assert maya.refusal("change_conversation", conversation=garden, changes=changes) == MISUSE
