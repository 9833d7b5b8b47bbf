"""Editing: another version of a prompt is answered by the model, another version of a reply is stored without the model."""

import pytest

from services.domain import Outcome
from services.errors import BadInput, Busy, OverBudget, Stale


@pytest.fixture
def garden(maya):
    return maya.database.hold("Garden", "Shade?", "Ferns.", "Sun?", "Sage.")


def edit(maya, conversation_id, number, text):
    """Edit the message of that number; return the thread after its answer."""
    message = maya.store.conversations.thread(conversation_id).messages[number]
    turn = maya.chat.edit_prompt(conversation_id, message.id, text)
    assert turn.wait(20)
    return maya.chat.open(conversation_id)


def bodies(thread):
    return [said.body for said in thread.branch()]


@pytest.mark.parametrize(("number", "past"), [(0, []), (2, ["Shade?", "Ferns."])])
def test_edited_prompt_is_answered_with_what_stands_before_it(maya, model, garden, number, past):
    thread = edit(maya, garden, number, "Half shade?")

    assert bodies(thread) == [*past, "Half shade?", "Prune in March."]
    assert [said.body for said in model.seen[-1][1:]] == [*past, "Half shade?"]


def test_edit_that_is_refused_changes_nothing(maya, garden):
    before = maya.store.conversations.thread(garden)
    maya.database.ledger.daily_micro = 1

    with pytest.raises(OverBudget):
        edit(maya, garden, 2, "Half shade?")
    with pytest.raises(BadInput):
        edit(maya, garden, 2, "  ")
    with pytest.raises(Stale):  # a reply cannot be edited as a prompt
        edit(maya, garden, 1, "Ferns?")

    assert maya.store.conversations.thread(garden) == before


def edit_reply(maya, conversation_id, number, text):
    """Edit the reply of that number; return the thread."""
    reply = maya.chat.open(conversation_id).messages[number]
    maya.chat.edit_reply(conversation_id, reply.id, text)
    return maya.chat.open(conversation_id)


def test_edited_reply_that_went_on_replaces_all_of_it(maya, model):
    said = "Shade?", "Ferns.", "Sun?", "Sage."
    garden = maya.database.hold("Garden", *said, outcome=Outcome.CUT)
    assert maya.chat.continue_reply(garden, maya.chat.open(garden).tip.id).wait(20)

    thread = edit_reply(maya, garden, 3, " Sage and thyme. ")

    assert len(model.seen) == 1, "the model is not asked"
    assert bodies(thread) == ["Shade?", "Ferns.", "Sun?", "Sage and thyme."]


@pytest.mark.parametrize(("edit_any", "number"), [(edit, 2), (edit_reply, 1)])
def test_message_is_not_edited_while_a_reply_comes(maya, model, garden, edit_any, number):
    model.gate.clear()
    turn = maya.chat.retry(garden)

    with pytest.raises(Busy):
        edit_any(maya, garden, number, "Half shade?")

    model.gate.set()
    assert turn.wait(20)


def test_empty_edit_and_edit_of_a_prompt_are_refused(maya, garden):
    with pytest.raises(BadInput, match="cannot be empty"):
        edit_reply(maya, garden, 1, " ")
    with pytest.raises(Stale):
        edit_reply(maya, garden, 0, "Shade!")
