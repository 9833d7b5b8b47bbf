"""Stored text: none of a user's is readable in the store."""

import base64

import pytest

from services.domain import NewConversation, RunningSummary, Thoughts
from tests.store.conformance.talk import (
    NOON,
    a_fact,
    a_space,
    attached,
    begun_with,
    choose,
    ending,
    new_turn,
)

CANARY = "kumquat-7781"


@pytest.fixture
def stored(backend, maya):
    """All that is stored while a reply is coming and when it has come, with a canary in every text."""
    new = NewConversation(instructions=f"{CANARY} at first")
    thread = begun_with(maya, f"{CANARY} words", new=new)
    its, thoughts = thread.conversation.id, Thoughts(text=f"{CANARY} thoughts")
    maya.conversations.rename(its, f"{CANARY} title")
    maya.conversations.set_instructions(its, f"{CANARY} instructions")
    summary = RunningSummary(text=f"{CANARY} summary", from_seq=1, up_to_seq=2, made_at=NOON)
    maya.conversations.set_summary(thread, summary)
    maya.facts.keep(a_fact(f"{CANARY} fact"))
    maya.facts.keep(a_fact(f"{CANARY} other fact", conversation_id=its))
    maya.spaces.keep(a_space(f"{CANARY} space", instructions=f"{CANARY} space"))
    choose(maya, model=f"{CANARY}-model", instructions=f"{CANARY} everywhere")
    listed = maya.corpus.conversations()[its]
    maya.corpus.put_search_text(listed, f"{CANARY} search text", None)
    turn = new_turn(thread, f"{CANARY} prompt", receipt=f"{CANARY} receipt")
    turn = attached(maya, turn, f"{CANARY} file".encode(), name=f"{CANARY}.txt")
    begun = maya.turns.begin(turn)
    maya.turns.checkpoint(begun.turn_id, its, f"{CANARY} partial", 30, thoughts)
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
