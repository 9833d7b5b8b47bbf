"""The stored bytes of an account, and the rate of versions that its user writes."""

from dataclasses import replace

import pytest

from services.domain import Purpose
from services.errors import AccountFull, Cap, OverBudget
from tests.store.conformance.talk import (
    SUMMARY,
    UNDO_SECONDS,
    a_fact,
    answer_again,
    bodies,
    choose,
    destroy,
    ending,
    new_turn,
    say,
    stored_space,
    texts,
    unsaid,
)

MINUTE = 60


def fill(backend, user):
    """Let the account of *user* store as much as it may."""
    backend.bound(user, 1)
    backend.let_pass(MINUTE)


def note(user, thread):
    """Store a fact of the model, as at the end of a turn."""
    own = thread.conversation
    fact = a_fact(source_conversation_id=own.id)
    user.facts.keep(fact, cuts=own.rev - own.last_seq)


NEW = {
    "turn": lambda user, thread: say(user, thread, "And leeks?", "In April."),
    "chat": lambda user, thread: say(user, unsaid(), "And leeks?", "In April."),
    "reply": lambda user, thread: answer_again(user, thread, thread.messages[0], "In May."),
    "title": lambda user, thread: user.turns.begin(
        new_turn(thread, None, purpose=Purpose.TITLE, prompt_id=thread.messages[0].id)
    ),
    "version": lambda user, thread: user.messages.edit_reply(thread, thread.messages[1], "In May."),
    "fact": lambda user, thread: user.facts.keep(a_fact()),
    "space": lambda user, thread: stored_space(user),
    "instructions": lambda user, thread: user.conversations.set_instructions(
        thread.conversation.id, "Be brief.", seen=None
    ),
}


def test_full_account_stores_nothing_new(backend, maya, garden, garden_id):
    fill(backend, maya)

    for store in NEW.values():
        with pytest.raises(AccountFull):
            store(maya, garden)

    there = maya.elsewhere()
    assert there.conversations.thread(garden_id) == garden
    assert len(there.conversations.recent()) == 1
    assert not texts(there)
    assert not there.spaces.all()


def test_account_without_a_limit_stores_all(backend, maya, garden, garden_id):
    fill(backend, maya)
    backend.bound(maya, None)

    for store in NEW.values():
        store(maya, maya.conversations.thread(garden_id))


def test_begun_turns_end_in_a_full_account(backend, maya, garden, garden_id):
    turn = new_turn(garden, "And leeks?")
    begun = maya.turns.begin(turn)
    fill(backend, maya)

    maya.turns.finish(ending(turn, begun, "In April."))
    thread = maya.elsewhere().conversations.thread(garden_id)
    assert bodies(thread.messages)[-2:] == ["And leeks?", "In April."]

    maya.conversations.set_summary(thread, SUMMARY)
    note(maya, thread)
    there = maya.elsewhere()
    assert there.conversations.thread(garden_id).summary == SUMMARY
    assert len(texts(there)) == 1


def test_documents_of_a_full_account_can_be_changed_and_deleted(backend, maya):
    stored_space(maya)
    maya.facts.keep(fact := a_fact())
    fill(backend, maya)

    [space] = maya.spaces.all()
    maya.spaces.keep(replace(space, name="Latin"), replaces=space)
    maya.facts.forget(fact.id)

    there = maya.elsewhere()
    assert [one.name for one in there.spaces.all()] == ["Latin"]
    assert texts(there) == []


def test_full_account_takes_its_first_preferences(backend, maya, garden):
    fill(backend, maya)

    choose(maya, keeps_facts=False)

    assert maya.elsewhere().preferences.preferences().keeps_facts is False


def test_deletion_frees_the_account(backend, maya, garden):
    other = say(maya, unsaid(), "Hello", "Hello!")
    backend.bound(maya, maya.store.usage.stored().sealed_bytes)
    backend.let_pass(MINUTE)
    with pytest.raises(AccountFull):
        say(maya, other, "And leeks?", "In April.")

    destroy(backend, maya, garden.conversation.id)
    backend.let_pass(MINUTE)

    say(maya, other, "And leeks?", "In April.")


def test_deleted_messages_free_what_they_took(backend, maya, garden, garden_id):
    before = maya.store.usage.stored().sealed_bytes
    turn = new_turn(garden, "And leeks?", receipt="{}")
    begun = maya.turns.begin(turn)
    maya.turns.finish(ending(turn, begun, "In April."))
    thread = maya.conversations.thread(garden_id)
    assert maya.store.usage.stored().sealed_bytes > before

    maya.messages.discard(thread, thread.messages[-2:], (), UNDO_SECONDS, drops_summary=False)
    backend.let_pass(UNDO_SECONDS + 1)
    backend.sweep()

    assert maya.store.usage.stored().sealed_bytes == before


def test_versions_count_as_messages_a_minute(backend, maya, garden, garden_id):
    backend.set_caps(maya, turns_a_minute=0)

    with pytest.raises(OverBudget) as refused:
        maya.messages.edit_reply(garden, garden.messages[1], "In May.")

    assert refused.value.cap is Cap.TURNS_A_MINUTE
    assert "0 messages a minute" in refused.value.public
    assert maya.elsewhere().conversations.thread(garden_id) == garden


def test_versions_of_a_temporary_chat_count_as_messages_a_minute(backend, maya):
    chat = maya.temporary()
    thread = say(chat, unsaid("Garden"), "When do I sow peas?", "In March.")
    chat.messages.edit_reply(thread, thread.messages[1], "In April.")
    backend.set_caps(maya, turns_a_minute=2)

    with pytest.raises(OverBudget) as refused:
        chat.messages.edit_reply(
            chat.conversations.thread(thread.conversation.id), thread.messages[1], "In May."
        )

    assert refused.value.cap is Cap.TURNS_A_MINUTE
    assert "April" not in backend.stored_text()
