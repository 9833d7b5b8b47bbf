"""Deleted and restored messages, with the facts and the summary made from them."""

import threading
from dataclasses import replace

import pytest

from services.domain import Purpose, Usage
from services.domain.model_failures import ModelFailure, ModelUnavailable
from services.errors import Stale, StoreUnavailable, TooLate
from services.store.tables.schema import DOCUMENTS
from tests.chats import done
from tests.fakes import FakePerson
from tests.stack.apps import SECONDS, until
from tests.store.conformance.talk import SUMMARY, UNDO_SECONDS, a_fact, a_space

OF_ALL = replace(SUMMARY, up_to_seq=4)


@pytest.fixture
def garden(maya):
    return maya.database.hold("Garden", "Shade?", "Ferns.", "Sun?", "Sage.")


def delete(chat, conversation_id, number):
    """Delete the message of that number and all messages that follow it."""
    thread = chat.open(conversation_id)
    ids = {one.id for one in thread.from_on(thread.messages[number].id)}
    return chat.deletions.delete_messages(conversation_id, ids, UNDO_SECONDS)


def kept_fact(maya, garden, number):
    """Store a fact of the message of that number, and return it."""
    prompt = maya.chat.open(garden).messages[number]
    fact = a_fact(f"Likes {prompt.body}", source_id=prompt.id)
    maya.store.facts.keep(fact)
    return fact


@pytest.mark.parametrize(
    "forget",
    [
        lambda store, fact: store.facts.forget(fact.id),
        lambda store, _: store.facts.forget_all(),
        lambda store, fact: store.spaces.forget(fact.space_id),
    ],
    ids=["fact", "all facts", "space"],
)
def test_deleted_fact_that_is_put_back_stays_hidden(maya, forget):
    maya.store.spaces.keep(space := a_space())
    maya.store.facts.keep(fact := a_fact(space_id=space.id))
    assert maya.store.facts.fresh_facts() == (fact,)
    rows = [replace(one, epoch=9) for one in maya.database.tables.documents.values()]
    forget(maya.store, fact)

    maya.database.tables.store(DOCUMENTS, *rows)

    assert maya.store.facts.fresh_facts() == ()


def test_fact_noted_while_all_are_deleted_is_shown(maya):
    maya.store.facts.keep(a_fact())
    noted = a_fact("Grows peas.")
    maya.database.rows.after["delete_facts"] = lambda: maya.store.facts.keep(noted)

    maya.store.facts.forget_all()

    assert maya.store.facts.fresh_facts() == (noted,)


def test_fact_that_is_restored_is_shown(maya):
    maya.store.facts.keep(fact := a_fact())
    maya.store.facts.forget(fact.id)

    maya.store.facts.keep(fact)

    assert maya.store.facts.fresh_facts() == (fact,)


def test_failed_undo_can_be_repeated(maya, garden):
    before, made = maya.chat.open(garden), delete(maya.chat, garden, 2)
    rows = maya.database.rows
    rows.after["restore_messages"] = lambda: setattr(rows, "failure", StoreUnavailable())
    with pytest.raises(StoreUnavailable):
        maya.chat.deletions.restore_messages(garden, [made])

    rows.failure = None
    maya.chat.deletions.restore_messages(garden, [made])

    assert maya.chat.open(garden).messages == before.messages


def test_facts_and_summary_are_deleted_and_restored_with_messages(maya, garden):
    noted, other = (kept_fact(maya, garden, number) for number in (2, 0))
    maya.store.conversations.set_summary(maya.chat.open(garden), OF_ALL)

    made = delete(maya.chat, garden, 2)
    assert maya.store.facts.facts() == (other,)
    assert maya.chat.open(garden).summary is None
    maya.chat.deletions.restore_messages(garden, [made])

    assert set(maya.store.facts.facts()) == {noted, other}
    assert maya.chat.open(garden).summary == OF_ALL


def test_facts_are_deleted_and_restored_with_their_whole_conversation(maya, garden):
    noted, other = kept_fact(maya, garden, 0), a_fact()
    maya.store.facts.keep(other)
    ids = [message.id for message in maya.chat.open(garden).messages]

    made = maya.deletions.discard(garden, facts_of=ids)
    assert maya.store.facts.fresh_facts() == (other,)
    maya.store.conversations.restore(garden)
    maya.deletions.restore_facts(garden, made.facts)

    assert set(maya.store.facts.fresh_facts()) == {noted, other}


def test_undo_of_a_whole_chat_restores_no_message_that_was_deleted_before(maya, garden):
    kept_fact(maya, garden, 0)
    delete(maya.chat, garden, 2)
    left = maya.chat.open(garden).messages

    made = maya.deletions.discard(garden, facts_of=[message.id for message in left])
    maya.store.conversations.restore(garden)
    maya.deletions.restore_facts(garden, made.facts)

    assert made.facts == maya.store.facts.fresh_facts() != ()
    assert maya.store.conversations.thread(garden).messages == left


def test_conversation_is_not_deleted_while_its_facts_cannot_be_read(maya, garden, monkeypatch):
    kept_fact(maya, garden, 0)
    ids = [message.id for message in maya.chat.open(garden).messages]
    with monkeypatch.context() as outage, pytest.raises(StoreUnavailable):
        outage.setattr(type(maya.store.facts), "fresh_facts", failing)
        maya.deletions.discard(garden, facts_of=ids)

    assert [message.id for message in maya.store.conversations.thread(garden).messages] == ids


def test_facts_deleted_before_an_outage_can_be_restored(maya, garden, monkeypatch):
    facts = [kept_fact(maya, garden, number) for number in (0, 2)]
    ids = [message.id for message in maya.chat.open(garden).messages]
    forget = type(maya.store.facts).forget
    forgotten = []

    def forget_one(store, fact_id):
        if forgotten:
            raise StoreUnavailable
        forgotten.append(fact_id)
        forget(store, fact_id)

    monkeypatch.setattr(type(maya.store.facts), "forget", forget_one)

    made = maya.deletions.discard(garden, facts_of=ids)

    assert [fact.id for fact in made.facts] == forgotten
    assert forgotten[0] in {fact.id for fact in facts}


def failing(_):
    raise StoreUnavailable


def test_summary_of_deleted_messages_is_not_restored(maya, garden):
    conversations, deletions = maya.store.conversations, maya.chat.deletions
    conversations.set_summary(maya.chat.open(garden), SUMMARY)
    conversations.set_summary(maya.chat.open(garden), None)
    deletions.restore_summary(garden, SUMMARY)
    assert maya.chat.open(garden).summary == SUMMARY
    conversations.set_summary(maya.chat.open(garden), None)
    delete(maya.chat, garden, 0)

    with pytest.raises(TooLate):
        deletions.restore_summary(garden, SUMMARY)

    assert maya.chat.open(garden).summary is None


def test_facts_of_destroyed_messages_are_not_restored(maya, garden):
    _, newer = (kept_fact(maya, garden, number) for number in (2, 0))
    made = [delete(maya.chat, garden, 2)]
    maya.database.let_pass(UNDO_SECONDS + 1)
    made.append(delete(maya.chat, garden, 0))

    maya.chat.deletions.restore_messages(garden, made)

    assert maya.store.facts.facts() == (newer,)


def test_facts_of_messages_restored_elsewhere_are_restored(maya, garden):
    fact = kept_fact(maya, garden, 2)
    made = delete(maya.chat, garden, 2)
    maya.chat.deletions.restore_messages(garden)

    maya.chat.deletions.restore_messages(garden, [made])

    assert maya.store.facts.facts() == (fact,)


def test_facts_are_restored_in_a_full_account(maya, garden):
    prompt = maya.chat.open(garden).messages[2]
    noted = a_fact(source_id=prompt.id, source_conversation_id=garden)
    maya.store.facts.keep(noted)
    maya.database.bounded_rows.most_bytes = 1
    maya.database.let_pass(60)
    made = delete(maya.chat, garden, 2)

    maya.chat.deletions.restore_messages(garden, [made])

    assert maya.store.facts.facts() == (noted,)


def test_summary_of_earlier_messages_outlives_a_deletion(maya, garden):
    maya.store.conversations.set_summary(maya.chat.open(garden), SUMMARY)

    delete(maya.chat, garden, 2)

    assert maya.chat.open(garden).summary == SUMMARY


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


def test_failure_of_a_deleted_prompt_is_forgotten(maya, model, garden):
    model.failure = ModelUnavailable(ModelFailure.BROKEN)
    maya.chat.open(garden)
    assert maya.chat.begin(garden, "Water?").wait(20)
    assert maya.chat.failure(garden)

    delete(maya.chat, garden, 4)

    assert maya.chat.failure(garden) is None


def test_deleted_messages_leave_their_conversations_index(maya, garden):
    device = FakePerson(maya.database, maya.model)
    before = device.chat.open(garden)
    assert device.search.ranked(before, before.messages, "sage")
    delete(maya.chat, garden, 2)
    thread = device.chat.open(garden)

    device.search.ranked(thread, thread.messages, "sage")

    assert device.search.ranked(thread, before.messages, "sage") == ()


@pytest.mark.parametrize("is_deleted", [False, True])
def test_fact_of_a_prompt_deleted_meanwhile_is_not_noted(maya, model, monkeypatch, is_deleted):
    maya.store.profile.change(lambda now: replace(now, keeps_facts=True))
    garden = maya.database.hold("Garden", "Shade?", "Ferns.")
    model.pieces = ('{"add": ["Has a dog."], "replace": []}',)
    begin = maya.store.turns.begin

    def begin_meanwhile(turn):
        if is_deleted and turn.reservation.purpose is Purpose.FACTS:
            delete(maya.chat, garden, 2)
        return begin(turn)

    monkeypatch.setattr(maya.store.turns, "begin", begin_meanwhile)
    maya.chat.open(garden)

    assert maya.chat.begin(garden, "I have a dog.").wait(20)

    until(lambda: len(model.seen) == 2 and not maya.chat.coming(Purpose.FACTS))
    assert len(maya.store.facts.facts()) == (0 if is_deleted else 1)


def test_facts_noted_during_a_deletion_are_deleted(maya, garden):
    device, facts = FakePerson(maya.database, maya.model), []

    def note():
        facts.append(kept_fact(device, garden, 2))
        device.store.conversations.set_summary(device.chat.open(garden), OF_ALL)

    maya.database.rows.before["discard_messages"] = note

    made = delete(maya.chat, garden, 2)

    assert (maya.store.facts.facts(), maya.chat.open(garden).summary) == ((), None)
    maya.chat.deletions.restore_messages(garden, [made])
    assert maya.store.facts.facts() == tuple(facts)


@pytest.mark.slow
def test_reply_stored_after_its_chat_is_deleted_is_not_cached(maya, model, database):
    model.pieces = (*model.pieces, Usage(90, 5))
    may_end, began = threading.Event(), threading.Event()

    def wait():
        began.set()
        may_end.wait(SECONDS)

    garden = done(maya.chat.begin(None, "Shade?")).conversation_id
    maya.chat.open(garden)
    database.rows.before["read_conversation"] = wait
    turn = maya.chat.begin(garden, "Sun?")
    assert began.wait(SECONDS)

    maya.deletions.discard(garden, UNDO_SECONDS)
    may_end.set()
    done(turn)

    assert maya.conversations.cached_data().messages == 0
    assert not maya.chat._counting._calls.items()


def test_deletions_tell_how_long_they_can_be_undone(maya, garden):
    told = []
    deletions = replace(maya.chat.deletions, on_deleted=told.append)

    deletions.delete_messages(
        garden, {message.id for message in maya.chat.open(garden).messages}, 20
    )
    deletions.discard(garden, 60)

    assert told == [20, 60]
