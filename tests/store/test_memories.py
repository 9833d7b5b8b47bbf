"""What is remembered beside the messages: facts, spaces, summaries and receipts, sealed and replaced with care."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import httpx
import pytest

from services.domain import (
    Fact,
    FactId,
    Full,
    MessageId,
    RunningSummary,
    Space,
    SpaceId,
    Window,
)
from services.errors import BadInput, NotFound, SpaceGone, Stale, StoreUnavailable
from services.store.conversations import Conversations
from services.store.memories import LONGEST_FACT, Memories
from services.store.spaces import LONGEST_NAME, Spaces
from services.store.threads import Threads
from tests.store.test_conversations import _everything, ending, new_turn

CANARY = "kumquat-7781"
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
SUMMARY = RunningSummary(text="They sow peas.", from_seq=1, up_to_seq=2, made_at=NOW)


def memories_of(session):
    return Memories(session, Threads(session))


@pytest.fixture
def memories(maya):
    return memories_of(maya)


@pytest.fixture
def spaces(maya):
    return Spaces(maya)


@pytest.fixture
def garden(conversations):
    thread = conversations.create("Garden", Window())
    turn = new_turn(thread, "When do I sow peas?")
    conversations.finish_turn(ending(turn, conversations.begin_turn(turn), "In March."))
    return conversations.thread(thread.conversation.id)


def a_fact(text="Has a dog called Rex.", **changes):
    return Fact(**({"id": FactId(uuid4()), "text": text, "since": NOW} | changes))


def a_space(name="Spanish", **changes):
    return Space(**({"id": SpaceId(uuid4()), "name": name, "created_at": NOW} | changes))


def texts(memories):
    return [fact.text for fact in memories.facts()]


def test_facts_are_there_for_a_reader_who_knows_nothing(maya, memories, spaces, garden):
    space, source = a_space(), MessageId(uuid4())
    spaces.keep(space)
    memories.keep(a_fact("one", source_id=source, source_conversation_id=garden.conversation.id))
    memories.keep(a_fact("  two\n", space_id=space.id))
    memories.keep(a_fact("three", conversation_id=garden.conversation.id))

    one, two, three = memories_of(maya).facts()

    assert (one.text, one.source_id) == ("one", source)
    assert one.source_conversation_id == garden.conversation.id
    assert (two.text, two.space_id, two.conversation_id) == ("two", space.id, None)
    assert (three.text, three.conversation_id) == ("three", garden.conversation.id)


def test_facts_of_many_conversations_are_read_in_few_questions(
    maya, memories, conversations, asked
):
    for number in range(60):  # more than there are keys at hand
        thread = conversations.create(f"Ticket {number}", Window())
        memories.keep(a_fact(f"Fact {number}", conversation_id=thread.conversation.id))
    reader = memories_of(maya)
    asked.clear()

    assert sorted(texts(reader)) == sorted(f"Fact {number}" for number in range(60))
    assert len(asked) == 2
    reader._known.outdate()
    assert len(texts(reader)) == 60
    assert len(asked) == 3


@pytest.fixture
def asked(monkeypatch):
    """The addresses that were asked for."""
    asked = []
    send = httpx.Client.send

    def counted(self, request, **more):
        asked.append(request.url.path)
        return send(self, request, **more)

    monkeypatch.setattr(httpx.Client, "send", counted)
    return asked


def test_a_fact_is_replaced_by_who_has_seen_it(maya, memories):
    memories.keep(a_fact())
    (seen,) = memories.facts()

    memories.keep(replace(seen, text="Has two dogs."), replaces=seen)

    with pytest.raises(Stale):
        memories_of(maya).keep(replace(seen, text="Has a cat."), replaces=seen)
    assert texts(memories_of(maya)) == ["Has two dogs."]


def test_a_fact_that_is_gone_is_not_replaced(memories):
    memories.keep(a_fact())
    (seen,) = memories.facts()
    memories.forget(seen.id)
    memories.forget(seen.id)

    with pytest.raises(Stale):
        memories.keep(replace(seen, text="other"), replaces=seen)

    assert texts(memories) == []


def test_all_is_forgotten_at_once(maya, memories, garden):
    memories.keep(a_fact())
    memories.keep(a_fact(conversation_id=garden.conversation.id))

    memories.forget_all()

    assert texts(memories_of(maya)) == []


def test_after_a_change_that_is_followed_by_an_outage_what_was_read_last_is_shown(
    memories, spaces, monkeypatch
):
    dog, cat = a_fact(), a_fact("Has a cat.")
    spanish, greek = a_space(), a_space("Greek")
    for fact, space in ((dog, spanish), (cat, greek)):
        memories.keep(fact)
        spaces.keep(space)
    assert (len(memories.facts()), len(spaces.all())) == (2, 2)
    monkeypatch.setattr(memories._known, "_ask", fail)
    monkeypatch.setattr(spaces._known, "_ask", fail)

    memories.keep(a_fact("Has a bird."))
    spaces.keep(a_space("Latin"))
    memories.forget(dog.id)
    spaces.forget(spanish.id)

    assert texts(memories) == ["Has a cat."]
    assert [space.name for space in spaces.all()] == ["Greek"]
    memories.forget_all()
    assert texts(memories) == []


def test_what_was_kept_without_an_answer_is_read_again(maya, memories, monkeypatch):
    assert texts(memories) == []
    call = maya.calls.call

    def kept_but_lost(verb, /, **arguments):
        call(verb, **arguments)
        raise StoreUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(type(maya.calls), "call", lambda _, verb, **more: kept_but_lost(verb, **more))
        with pytest.raises(StoreUnavailable):
            memories.keep(a_fact())

    assert texts(memories) == ["Has a dog called Rex."]


def fail(*_, **__):
    raise StoreUnavailable


@pytest.mark.parametrize("text", ["", " \n", "x" * (LONGEST_FACT + 1), "half \ud800"])
def test_what_is_no_fact_is_refused(memories, text):
    with pytest.raises(BadInput):
        memories.keep(a_fact(text))


def test_facts_of_what_is_gone_go_with_it(maya, conversations, memories, spaces, garden):
    space = a_space()
    spaces.keep(space)
    memories.keep(a_fact("of the conversation", conversation_id=garden.conversation.id))
    memories.keep(a_fact("of the space", space_id=space.id))
    memories.keep(a_fact("of the person", source_conversation_id=garden.conversation.id))

    conversations.delete(garden.conversation.id)
    spaces.forget(space.id)

    assert texts(memories_of(maya)) == ["of the person"]
    with pytest.raises(NotFound):
        memories.keep(a_fact(conversation_id=garden.conversation.id))


def test_facts_of_a_discarded_conversation_are_back_when_it_is(maya, garden):
    threads = Threads(maya)
    conversations, memories = Conversations(maya, threads), Memories(maya, threads)
    memories.keep(a_fact("There", conversation_id=garden.conversation.id))

    conversations.discard(garden.conversation.id, 20)
    assert texts(memories) == []

    conversations.restore(garden.conversation.id)
    assert texts(memories) == ["There"]


def test_nobody_reads_or_changes_the_facts_and_spaces_of_another(memories, spaces, omar):
    space = a_space()
    memories.keep(a_fact())
    spaces.keep(space)
    (fact,) = memories.facts()

    assert texts(memories_of(omar)) == []
    assert Spaces(omar).all() == ()
    memories_of(omar).forget(fact.id)
    Spaces(omar).forget(space.id)
    with pytest.raises(NotFound):
        memories_of(omar).keep(a_fact(space_id=space.id))

    assert texts(memories) == ["Has a dog called Rex."]
    assert len(spaces.all()) == 1


def test_what_a_database_owner_swaps_is_not_taken_for_true(maya, memories, spaces, stack):
    for name in ("first", "second"):
        memories.keep(a_fact(name))
        spaces.keep(a_space(name))

    with stack.connect() as database:
        for table in ("memories", "spaces"):
            database.execute(
                f"update public.{table} set body = (select max(body) from public.{table}"
                " where user_id = %(person)s) where user_id = %(person)s",
                {"person": maya.user_id},
            )

    assert len(texts(memories_of(maya))) == 1
    assert sorted(space.is_verified for space in Spaces(maya).all()) == [False, True]


def test_a_fact_that_was_moved_into_another_scope_does_not_open(maya, memories, spaces, stack):
    space = a_space()
    spaces.keep(space)
    memories.keep(a_fact(space_id=space.id))

    assert texts(memories) == ["Has a dog called Rex."]

    with stack.connect() as database:
        database.execute(
            "update public.memories set space_id = null where user_id = %s", [maya.user_id]
        )

    memories._known.outdate()
    assert texts(memories) == texts(memories_of(maya)) == []


def test_a_space_is_changed_by_who_has_seen_it(maya, spaces):
    spaces.keep(a_space(instructions="Speak Spanish.", policy=Window(12)))
    (seen,) = spaces.all()

    spaces.keep(replace(seen, name="Español", policy=Full(), is_archived=True), replaces=seen)

    with pytest.raises(Stale):
        Spaces(maya).keep(replace(seen, name="Late"), replaces=seen)
    (space,) = Spaces(maya).all()
    assert (space.name, space.instructions, space.policy) == ("Español", "Speak Spanish.", Full())
    assert space.is_archived


@pytest.mark.parametrize("name", ["", " \n", "x" * (LONGEST_NAME + 1), "half \ud800"])
def test_what_is_no_name_is_refused(spaces, name):
    with pytest.raises(BadInput):
        spaces.keep(a_space(name))


def test_the_list_of_a_space_is_paged_by_itself(maya, conversations, spaces):
    space, other = a_space(), a_space("Greek")
    spaces.keep(space)
    spaces.keep(other)
    ids = {
        name: conversations.create(name, Window()).conversation.id
        for name in ("Peas", "Peas II", "Peas III", "Beans", "Elsewhere")
    }
    for name, conversation_id in ids.items():
        conversations.move(conversation_id, other.id if name == "Elsewhere" else space.id)
    conversations.create("Peas of none", Window())
    conversations.pin(ids["Peas"])
    conversations.archive(ids["Beans"])

    def names(found):
        return [one.title for one in found]

    for reader in (conversations, Conversations(maya)):
        assert names(reader.recent(2, space_id=space.id)) == ["Peas", "Peas III"]
        assert names(reader.recent(space_id=other.id)) == ["Elsewhere"]
        assert names(reader.recent(is_archived=True, space_id=space.id)) == ["Beans"]
        assert names(reader.recent(is_archived=True, space_id=other.id)) == []
        assert len(reader.recent()) == 5
        assert names(reader.titled("peas", space_id=space.id)) == ["Peas", "Peas III", "Peas II"]
        assert len(reader.titled("peas")) == 4


def test_while_the_database_is_away_each_list_is_as_it_was_read(conversations, spaces, monkeypatch):
    space = a_space()
    spaces.keep(space)
    conversations.move(conversations.create("Peas", Window()).conversation.id, space.id)
    conversations.create("Beans", Window())
    of_space, every = conversations.recent(space_id=space.id), conversations.recent()

    monkeypatch.setattr(conversations, "_read_recent", fail)

    assert conversations.recent(space_id=space.id) == of_space
    assert conversations.recent() == every
    with pytest.raises(StoreUnavailable):
        conversations.recent(is_archived=True, space_id=space.id)


def test_a_conversation_moves_and_stays_when_its_space_goes(maya, conversations, spaces, garden):
    space = a_space()
    spaces.keep(space)
    conversations.move(garden.conversation.id, space.id)
    assert conversations.cached(garden.conversation.id).conversation.space_id == space.id
    assert Conversations(maya).recent()[0].space_id == space.id

    spaces.forget(space.id)

    assert Conversations(maya).thread(garden.conversation.id).conversation.space_id is None
    with pytest.raises(SpaceGone):
        conversations.move(garden.conversation.id, space.id)
    conversations.delete(garden.conversation.id)
    with pytest.raises(NotFound) as gone:
        conversations.move(garden.conversation.id, space.id)
    assert gone.type is NotFound


def test_a_summary_is_there_again_and_replaced_by_who_has_seen_it(maya, conversations, garden):
    conversations.set_summary(garden, SUMMARY)
    edited = replace(SUMMARY, text="They sow peas in March.", is_edited=True)
    assert conversations.cached(garden.conversation.id).summary == SUMMARY

    seen = replace(garden, summary=SUMMARY)
    other = Conversations(maya)
    other.set_summary(other.thread(garden.conversation.id), edited)

    with pytest.raises(Stale):
        conversations.set_summary(seen, None)
    thread = conversations.thread(garden.conversation.id)
    assert thread.summary == edited
    assert thread.conversation.rev == garden.conversation.rev
    conversations.set_summary(thread, None)
    assert Conversations(maya).thread(garden.conversation.id).summary is None


def test_a_summary_that_was_swapped_is_said_and_can_be_made_anew(
    maya, conversations, garden, stack
):
    conversations.set_summary(garden, SUMMARY)
    with stack.connect() as database:
        database.execute(
            "update public.conversations set summary = title where id = %s",
            [garden.conversation.id],
        )

    thread = Conversations(maya).thread(garden.conversation.id)
    assert (thread.summary, thread.is_summary_verified) == (None, False)
    assert thread.is_whole

    conversations.set_summary(garden, SUMMARY)
    assert Conversations(maya).thread(garden.conversation.id).summary == SUMMARY


def test_a_receipt_is_there_again_and_does_not_open_elsewhere(maya, conversations, garden, stack):
    for prompt in ("And beans?", "And leeks?"):
        turn = new_turn(conversations.thread(garden.conversation.id), prompt, receipt=f"{prompt}!")
        conversations.finish_turn(ending(turn, conversations.begin_turn(turn), "In May."))
    messages = conversations.thread(garden.conversation.id).messages

    def shown(reader):
        found = reader.receipts(messages, garden.conversation.id)
        return [found.get(message.turn_id) for message in messages[1::2]]

    assert shown(Conversations(maya)) == [None, "And beans?!", "And leeks?!"]
    with stack.connect() as database:
        database.execute(
            "update public.receipts set body = (select max(body) from public.receipts"
            " where conversation_id = %(one)s) where conversation_id = %(one)s",
            {"one": garden.conversation.id},
        )
    assert len([each for each in shown(Conversations(maya)) if each]) == 1


def test_nothing_that_is_remembered_is_readable_in_the_database(
    conversations, memories, spaces, garden, stack
):
    memories.keep(a_fact(f"{CANARY} one"))
    memories.keep(a_fact(f"{CANARY} two", conversation_id=garden.conversation.id))
    spaces.keep(a_space(f"{CANARY} space", instructions=f"{CANARY} instructions"))
    summary = replace(SUMMARY, text=f"{CANARY} summary")
    conversations.set_summary(garden, summary)

    with stack.connect() as database:
        assert CANARY not in _everything(database)
