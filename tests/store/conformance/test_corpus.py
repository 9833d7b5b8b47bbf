"""The corpus: every message of a user, read in bulk."""

import pytest

from tests.store.conformance.talk import UNDO_SECONDS, delete, say, stored_space, unsaid


@pytest.fixture
def other(maya):
    return say(maya, unsaid(), "My kumquat tree is called Zebedee.", "I see.")


def read(user, wanted=None):
    """Return the *wanted* messages, or all, by conversation."""
    listed = user.corpus.conversations()
    wanted = wanted or {its: range(1, now.last_seq + 1) for its, now in listed.items()}
    return {
        its: tuple(messages)
        for part in user.corpus.messages(wanted)
        for its, messages in part.items()
    }


def test_conversations_are_listed_with_their_extent(maya, garden, garden_id, other):
    space = stored_space(maya)
    maya.conversations.move(other.conversation.id, space.id)
    delete(maya, garden, 2)

    listed = maya.elsewhere().corpus.conversations().items()
    assert {its: (one.last_seq, one.space_id, one.cuts) for its, one in listed} == {
        garden_id: (4, None, 1),
        other.conversation.id: (2, space.id, 0),
    }


def test_messages_of_all_conversations_are_read(maya, garden, garden_id, other):
    assert read(maya.elsewhere()) == {
        garden_id: garden.messages,
        other.conversation.id: other.messages,
    }


def test_only_wanted_messages_are_read(maya, garden, garden_id, other):
    wanted = {garden_id: range(3, 5), other.conversation.id: range(2, 3)}

    assert read(maya, wanted) == {
        garden_id: garden.messages[2:],
        other.conversation.id: other.messages[1:],
    }


def test_some_messages_are_read_with_their_conversation(maya, garden, garden_id, other):
    first, second = garden.messages[1], other.messages[0]

    asked = {first.id: garden_id, second.id: other.conversation.id}

    assert maya.elsewhere().corpus.some(asked) == {
        first.id: (garden_id, first),
        second.id: (other.conversation.id, second),
    }
    assert maya.corpus.some({first.id: other.conversation.id}) == {}


def test_deleted_messages_are_not_in_the_corpus(maya, garden, garden_id):
    delete(maya, garden, 2)

    assert read(maya) == {garden_id: garden.messages[:2]}
    assert maya.corpus.some({garden.messages[3].id: garden_id}) == {}


def test_discarded_conversation_is_not_in_the_corpus_until_restored(maya, garden, garden_id):
    first = garden.messages[0]
    maya.conversations.discard(garden_id, UNDO_SECONDS)
    assert maya.corpus.conversations() == maya.corpus.some({first.id: garden_id}) == {}
    assert read(maya, {garden_id: range(1, 5)}) == {}

    maya.conversations.restore(garden_id)

    assert read(maya) == {garden_id: garden.messages}
