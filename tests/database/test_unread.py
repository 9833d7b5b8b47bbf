"""Up to where a person has read a conversation."""

from uuid import uuid4

import pytest

from tests.database.people import MISUSE, NOT_ALLOWED


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


def test_a_reply_is_unread_until_it_is_read(world, maya, garden):
    assert seqs(world, garden) == (1, 2)

    assert maya.call("read_conversation", conversation=garden, seq=2) == {"ok": True}

    assert seqs(world, garden) == (2, 2)


def test_who_writes_has_read_what_stands_before(world, maya, garden):
    maya.begin(garden, 2)

    assert seqs(world, garden) == (3, 3)


def test_reading_goes_neither_back_nor_beyond_what_is_there(world, maya, garden):
    maya.call("read_conversation", conversation=garden, seq=99)
    assert seqs(world, garden) == (2, 2)

    maya.call("read_conversation", conversation=garden, seq=1)
    assert seqs(world, garden) == (2, 2)


@pytest.mark.parametrize("seq", [None, 0, -1])
def test_a_place_that_cannot_be_is_misuse(maya, garden, seq):
    assert maya.refusal("read_conversation", conversation=garden, seq=seq) == MISUSE


def test_nobody_reads_for_another(world, garden):
    omar = world.person()

    theirs = omar.call("read_conversation", conversation=garden, seq=2)
    nobodys = omar.call("read_conversation", conversation=uuid4(), seq=2)

    assert theirs == nobodys == {"ok": False, "reason": "not_found"}
    assert seqs(world, garden) == (1, 2)


def test_without_a_proof_nothing_is_read(world, maya, garden):
    elsewhere = maya.proven("read_conversation", {"conversation": garden, "seq": 1})["proof"]

    for proof in (None, elsewhere):
        refused = maya.refusal("read_conversation", conversation=garden, seq=2, proof=proof)
        assert refused == NOT_ALLOWED
    assert seqs(world, garden) == (1, 2)
