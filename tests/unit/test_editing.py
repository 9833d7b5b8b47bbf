"""Editing: another version of a prompt, which is answered, or of a reply, for which the model is not asked."""

import pytest

from services.domain import Outcome, Role
from services.errors import BadInput, Busy, OverBudget, Stale, StoreUnavailable


@pytest.fixture
def garden(maya):
    return maya.database.hold("Garden", "Shade?", "Ferns.", "Sun?", "Sage.")


def edit(maya, conversation_id, number, text):
    """The thread after the message of that number was edited and answered."""
    message = maya.store.conversations.thread(conversation_id).messages[number]
    turn = maya.chat.edit_prompt(conversation_id, message.id, text)
    assert turn.wait(20)
    return maya.chat.open(conversation_id)


def bodies(thread):
    return [said.body for said in thread.branch()]


def test_edited_prompt_is_answered_beside_the_old_one(maya, model, garden):
    thread = edit(maya, garden, 2, "Half shade?")

    assert bodies(thread) == ["Shade?", "Ferns.", "Half shade?", "Prune in March."]
    assert [(said.role, said.body) for said in model.seen[-1][1:]] == [
        (Role.USER, "Shade?"),
        (Role.ASSISTANT, "Ferns."),
        (Role.USER, "Half shade?"),
    ]
    old, new = thread.versions(thread.branch()[2])
    assert (old.body, new.body) == ("Sun?", "Half shade?")
    assert bodies(thread.through(old.id)) == ["Shade?", "Ferns.", "Sun?", "Sage."]


def test_edited_first_prompt_follows_nothing(maya, model, garden):
    thread = edit(maya, garden, 0, "Water?")

    assert bodies(thread) == ["Water?", "Prune in March."]
    assert thread.branch()[0].parent_id is None
    assert [said.body for said in model.seen[-1][1:]] == ["Water?"]


def test_edit_that_is_refused_changes_nothing(maya, garden):
    before = maya.store.conversations.thread(garden)
    maya.database.ledger.daily_micro = 1

    with pytest.raises(OverBudget):
        edit(maya, garden, 2, "Half shade?")
    with pytest.raises(BadInput):
        edit(maya, garden, 2, "  ")
    with pytest.raises(Stale):  # a reply is no prompt
        edit(maya, garden, 1, "Ferns?")

    assert maya.store.conversations.thread(garden) == before


def test_prompt_is_not_edited_while_a_reply_comes(maya, model, garden):
    model.gate.clear()
    turn = maya.chat.retry(garden)

    with pytest.raises(Busy):
        edit(maya, garden, 2, "Half shade?")

    model.gate.set()
    assert turn.wait(20)


def test_edit_that_was_stored_though_nothing_was_heard_is_stored_once(maya, garden):
    with maya.database.no_answers("begin_turn"), pytest.raises(StoreUnavailable):
        edit(maya, garden, 2, "Half shade?")

    thread = edit(maya, garden, 2, "Half shade?")

    assert bodies(thread) == ["Shade?", "Ferns.", "Half shade?", "Prune in March."]
    assert len(thread.versions(thread.branch()[2])) == 2


def edit_reply(chat, conversation_id, number, text):
    """The thread after the reply of that number was edited."""
    reply = chat.open(conversation_id).messages[number]
    chat.edit_reply(conversation_id, reply.id, text)
    return chat.open(conversation_id)


def test_edited_reply_is_another_version_that_nothing_was_paid_for(maya, model, garden):
    thread = edit_reply(maya.chat, garden, 1, " Hostas. ")

    assert bodies(thread) == ["Shade?", "Hostas."]
    original, edited = thread.versions(thread.tip)
    assert (edited.outcome, edited.turn_id) == (Outcome.EDITED, None)
    assert bodies(thread.through(original.id)) == ["Shade?", "Ferns.", "Sun?", "Sage."]
    assert (model.seen, maya.account.spent_today_micro) == ([], 0)


def test_conversation_goes_on_from_an_edited_reply(maya, model, garden):
    edit_reply(maya.chat, garden, 1, "Hostas.")

    assert maya.chat.begin(garden, "Why?").wait(20)

    assert [said.body for said in model.seen[-1][1:]] == ["Shade?", "Hostas.", "Why?"]


def test_edited_reply_that_went_on_replaces_all_of_it(maya):
    said = "Shade?", "Ferns.", "Sun?", "Sage."
    garden = maya.database.hold("Garden", *said, outcome=Outcome.CUT)
    assert maya.chat.continue_reply(garden, maya.chat.open(garden).tip.id).wait(20)

    thread = edit_reply(maya.chat, garden, 3, "Sage and thyme.")

    assert bodies(thread) == ["Shade?", "Ferns.", "Sun?", "Sage and thyme."]


def test_reply_is_not_edited_into_nothing_nor_where_it_is_gone(maya, garden):
    with pytest.raises(BadInput, match="cannot be empty"):
        edit_reply(maya.chat, garden, 1, " ")
    with pytest.raises(Stale):
        edit_reply(maya.chat, garden, 0, "Shade!")


def test_reply_is_not_edited_while_another_comes(maya, model, garden):
    model.gate.clear()
    turn = maya.chat.retry(garden)

    with pytest.raises(Busy):
        edit_reply(maya.chat, garden, 1, "Hostas.")

    model.gate.set()
    assert turn.wait(20)


def test_reply_of_a_temporary_chat_is_edited(maya):
    held = maya.begin_temporary()
    assert held.chat.begin(None, "Shade?").wait(20)

    thread = edit_reply(held.chat, held.id, 1, "Hostas.")

    assert bodies(thread) == ["Shade?", "Hostas."]
    assert thread.tip.outcome is Outcome.EDITED


def test_prompt_of_a_temporary_chat_is_edited(maya, model):
    held = maya.begin_temporary()
    assert held.chat.begin(None, "Shade?").wait(20)
    prompt = held.chat.open(held.id).messages[0]

    assert held.chat.edit_prompt(held.id, prompt.id, "Sun?").wait(20)

    thread = held.chat.open(held.id)
    assert bodies(thread) == ["Sun?", "Prune in March."]
    assert len(thread.versions(prompt)) == 2
