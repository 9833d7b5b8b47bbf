"""Stored text: no text of a user is readable in the store."""

import base64

import pytest

from services.domain import Thoughts
from tests.store.conformance.talk import begun_with, ending, write_everywhere

CANARY = "kumquat-7781"


@pytest.fixture
def stored(backend, maya):
    """All stored data while a reply is streaming and after it, with a canary in every text."""
    turn, begun = write_everywhere(maya, CANARY)
    its, thoughts = turn.thread.conversation.id, Thoughts(text=f"{CANARY} thoughts")
    during = backend.stored_text()
    maya.turns.finish(ending(turn, begun, f"{CANARY} reply", thoughts=thoughts))
    thread = maya.conversations.thread(its)
    maya.messages.edit_reply(thread, thread.tip, f"{CANARY} edited")
    other = begun_with(maya, f"{CANARY} words")
    maya.conversations.give_title(other.conversation.id, f"{CANARY} given")
    return str(its), during + backend.stored_text()


def test_no_text_of_a_user_is_stored_readable(stored):
    conversation_id, text = stored

    assert conversation_id in text
    assert CANARY not in text


@pytest.mark.parametrize("offset", range(3))
def test_no_text_of_a_user_is_stored_as_base64(stored, offset):
    _, text = stored
    encoded = base64.b64encode(b"x" * offset + CANARY.encode()).decode()

    assert encoded[4:14] not in text
