"""Editing a prompt: another version of it, which is answered."""

import pytest

from services.domain import Role
from services.errors import BadInput, Busy, OverBudget, Stale, StoreUnavailable
from tests.fakes import FakePerson, MemoryConversations, ScriptedModel


@pytest.fixture
def model():
    return ScriptedModel()


@pytest.fixture
def maya(model):
    return FakePerson(MemoryConversations(), model)


@pytest.fixture
def garden(maya):
    return maya.conversations.hold("Garden", "Shade?", "Ferns.", "Sun?", "Sage.")


def edit(maya, conversation_id, number, text):
    """The thread after the message of that number was edited and answered."""
    message = maya.conversations.thread(conversation_id).messages[number]
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
    before = maya.conversations.thread(garden)
    maya.conversations.cap_micro = 1

    with pytest.raises(OverBudget):
        edit(maya, garden, 2, "Half shade?")
    with pytest.raises(BadInput):
        edit(maya, garden, 2, "  ")
    with pytest.raises(Stale):  # a reply is no prompt
        edit(maya, garden, 1, "Ferns?")

    assert maya.conversations.thread(garden) == before


def test_prompt_is_not_edited_while_a_reply_comes(maya, model, garden):
    model.gate.clear()
    turn = maya.chat.retry(garden)

    with pytest.raises(Busy):
        edit(maya, garden, 2, "Half shade?")

    model.gate.set()
    assert turn.wait(20)


def test_edit_that_was_stored_though_nothing_was_heard_is_stored_once(maya, garden, monkeypatch):
    begin = maya.conversations.begin_turn

    def lose_the_answer(turn):
        begin(turn)
        raise StoreUnavailable

    monkeypatch.setattr(maya.conversations, "begin_turn", lose_the_answer)
    with pytest.raises(StoreUnavailable):
        edit(maya, garden, 2, "Half shade?")
    monkeypatch.undo()

    thread = edit(maya, garden, 2, "Half shade?")

    assert bodies(thread) == ["Shade?", "Ferns.", "Half shade?", "Prune in March."]
    assert len(thread.versions(thread.branch()[2])) == 2


def test_prompt_of_a_temporary_chat_is_edited(maya, model):
    held = maya.begin_temporary(reads_facts=False, is_there=lambda: True)
    assert held.chat.begin(None, "Shade?").wait(20)
    prompt = held.chat.open(held.id).messages[0]

    assert held.chat.edit_prompt(held.id, prompt.id, "Sun?").wait(20)

    thread = held.chat.open(held.id)
    assert bodies(thread) == ["Sun?", "Prune in March."]
    assert len(thread.versions(prompt)) == 2
