"""Deleted and restored messages, with the facts and summary made of them."""

from dataclasses import replace
from uuid import uuid4

import pytest

from services.domain import Fact, FactId, Purpose, RunningSummary
from services.errors import (
    Busy,
    ModelFailure,
    ModelUnavailable,
    Stale,
    StoreUnavailable,
    TooLate,
)
from tests.fakes import NOON, FakePerson
from tests.stack.apps import until
from tests.store.conformance.talk import UNDO_SECONDS


@pytest.fixture
def garden(maya):
    return maya.database.hold("Garden", "Shade?", "Ferns.", "Sun?", "Sage.")


def delete(chat, conversation_id, number):
    """Delete the message of that number and what follows it."""
    thread = chat.open(conversation_id)
    ids = {one.id for one in thread.from_on(thread.messages[number].id)}
    return chat.deletions.delete_messages(conversation_id, ids, UNDO_SECONDS)


def bodies(thread):
    return [said.body for said in thread.branch()]


def test_destroyed_messages_are_not_restored(maya, garden):
    made = delete(maya.chat, garden, 2)
    maya.database.let_pass(UNDO_SECONDS + 1)

    with pytest.raises(TooLate):
        maya.chat.deletions.restore_messages(garden, [made])


def test_failed_undo_can_be_repeated(maya, garden):
    before, made = maya.chat.open(garden), delete(maya.chat, garden, 2)
    rows = maya.database.rows
    rows.after["restore_messages"] = lambda: setattr(rows, "failure", StoreUnavailable())
    with pytest.raises(StoreUnavailable):
        maya.chat.deletions.restore_messages(garden, [made])

    rows.failure = None
    maya.chat.deletions.restore_messages(garden, [made])

    assert maya.chat.open(garden).messages == before.messages


def test_next_prompt_follows_the_remaining_messages(maya, model, garden):
    delete(maya.chat, garden, 2)

    assert maya.chat.begin(garden, "Water?").wait(20)

    thread = maya.chat.open(garden)
    assert [said.body for said in model.seen[-1][1:]] == ["Shade?", "Ferns.", "Water?"]
    assert [said.seq for said in thread.messages] == [1, 2, 5, 6]  # none is given out twice


def test_facts_and_summary_are_deleted_and_restored_with_messages(maya, garden):
    thread = maya.chat.open(garden)
    noted, other = (
        Fact(id=FactId(uuid4()), text=f"Likes {each.body}", since=NOON, source_id=each.id)
        for each in (thread.messages[2], thread.messages[0])
    )
    for fact in (noted, other):
        maya.store.facts.keep(fact)
    summary = RunningSummary(text="Ferns and sage.", from_seq=1, up_to_seq=4, made_at=NOON)
    maya.store.conversations.set_summary(maya.chat.open(garden), summary)

    made = delete(maya.chat, garden, 2)
    assert maya.store.facts.facts() == (other,)
    assert maya.chat.open(garden).summary is None
    maya.chat.deletions.restore_messages(garden, [made])

    assert set(maya.store.facts.facts()) == {noted, other}
    assert maya.chat.open(garden).summary == summary


def test_facts_of_destroyed_messages_are_not_restored(maya, garden):
    thread = maya.chat.open(garden)
    older, newer = (
        Fact(id=FactId(uuid4()), text=f"Likes {each.body}", since=NOON, source_id=each.id)
        for each in (thread.messages[2], thread.messages[0])
    )
    for fact in (older, newer):
        maya.store.facts.keep(fact)
    made = [delete(maya.chat, garden, 2)]
    maya.database.let_pass(UNDO_SECONDS + 1)
    made.append(delete(maya.chat, garden, 0))

    maya.chat.deletions.restore_messages(garden, made)

    assert maya.store.facts.facts() == (newer,)


def test_facts_of_messages_restored_elsewhere_are_restored(maya, garden):
    prompt = maya.chat.open(garden).messages[2]
    fact = Fact(id=FactId(uuid4()), text="Likes the sun", since=NOON, source_id=prompt.id)
    maya.store.facts.keep(fact)
    made = delete(maya.chat, garden, 2)
    maya.chat.deletions.restore_messages(garden)

    maya.chat.deletions.restore_messages(garden, [made])

    assert maya.store.facts.facts() == (fact,)


def test_summary_of_earlier_messages_outlives_a_deletion(maya, garden):
    summary = RunningSummary(text="Ferns.", from_seq=1, up_to_seq=2, made_at=NOON)
    maya.store.conversations.set_summary(maya.chat.open(garden), summary)

    delete(maya.chat, garden, 2)

    assert maya.chat.open(garden).summary == summary


def test_delete_of_changed_messages_is_stale(maya, garden):
    thread = maya.chat.open(garden)
    seen = {one.id for one in thread.from_on(thread.messages[2].id)}
    assert maya.chat.begin(garden, "Water?").wait(20)

    with pytest.raises(Stale):
        maya.chat.deletions.delete_messages(garden, seen, 20)
    delete(maya.chat, garden, 2)
    with pytest.raises(Stale):
        maya.chat.deletions.delete_messages(garden, seen, 20)


def test_prompt_after_a_message_deleted_elsewhere_is_stale(maya, garden):
    seen = maya.chat.open(garden)
    delete(maya.chat, garden, 2)

    with pytest.raises(Stale):
        maya.chat.begin(garden, "Why?", seen_rev=seen.conversation.rev, tip_id=seen.messages[-1].id)


def test_messages_with_a_coming_reply_are_not_deleted(maya, model, garden):
    model.gate.clear()
    turn = maya.chat.retry(garden)

    with pytest.raises(Busy):
        delete(maya.chat, garden, 2)

    model.gate.set()
    assert turn.wait(20)


def test_failure_of_a_deleted_prompt_is_forgotten(maya, model, garden):
    model.failure = ModelUnavailable(ModelFailure.BROKEN)
    maya.chat.open(garden)
    assert maya.chat.begin(garden, "Water?").wait(20)
    assert maya.chat.failure(garden)

    delete(maya.chat, garden, 4)

    assert maya.chat.failure(garden) is None


def test_deleted_messages_are_recalled_in_no_conversation(maya, model):
    birds = maya.database.hold("Birds", "Kestrels?", "In towers.", "And owls?", "In barns.")
    other = maya.chat.open(maya.database.hold("Other"))
    device = FakePerson(maya.database, model)  # that searched before, too

    def recalled(chat):
        ranked = chat.elsewhere.ranked(other, (), "Where are kestrels and owls?")
        return [one.message.body for one in ranked if one.matched]

    for chat in (maya.chat, device.chat):
        assert sorted(recalled(chat)) == ["And owls?", "Kestrels?"]
    delete(maya.chat, birds, 2)

    for chat in (maya.chat, device.chat):
        assert recalled(chat) == ["Kestrels?"]


def test_deleted_messages_leave_their_conversations_index(maya, garden):
    device = FakePerson(maya.database, maya.model)
    before = device.chat.open(garden)
    assert device.chat.recollection.ranked(before, before.messages, "sage")
    delete(maya.chat, garden, 2)
    thread = device.chat.open(garden)

    device.chat.recollection.ranked(thread, thread.messages, "sage")

    assert device.chat.recollection.ranked(thread, before.messages, "sage") == ()


@pytest.mark.parametrize("is_deleted", [False, True])
def test_fact_of_a_prompt_deleted_meanwhile_is_not_noted(maya, model, monkeypatch, is_deleted):
    maya.store.profile.change(lambda now: replace(now, keeps_facts=True))
    garden = maya.database.hold("Garden", "Shade?", "Ferns.")
    model.pieces = ('{"add": ["Has a dog."], "replace": []}',)
    begin = maya.store.turns.begin

    def begin_meanwhile(turn):
        if is_deleted and turn.purpose is Purpose.FACTS:
            delete(maya.chat, garden, 2)
        return begin(turn)

    monkeypatch.setattr(maya.store.turns, "begin", begin_meanwhile)
    maya.chat.open(garden)

    assert maya.chat.begin(garden, "I have a dog.").wait(20)

    until(lambda: len(model.seen) == 2 and not maya.chat.coming(Purpose.FACTS))
    assert len(maya.store.facts.facts()) == (0 if is_deleted else 1)


def test_facts_noted_during_a_deletion_are_deleted(maya, garden):
    prompt = maya.chat.open(garden).messages[2]
    fact = Fact(id=FactId(uuid4()), text="Likes the sun", since=NOON, source_id=prompt.id)
    summary = RunningSummary(text="Ferns and sage.", from_seq=1, up_to_seq=4, made_at=NOON)
    device = FakePerson(maya.database, maya.model)

    def note():
        device.store.facts.keep(fact)
        device.store.conversations.set_summary(device.chat.open(garden), summary)

    maya.database.rows.before["discard_messages"] = note

    made = delete(maya.chat, garden, 2)

    assert (maya.store.facts.facts(), maya.chat.open(garden).summary) == ((), None)
    maya.chat.deletions.restore_messages(garden, [made])
    assert maya.store.facts.facts() == (fact,)
