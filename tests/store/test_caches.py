"""Caches of the store, and reads page by page."""

from datetime import datetime, timedelta

import httpx
import pytest

from services.store.sealed import messages, opened
from tests.store.conformance.talk import (
    THOUGHTS,
    a_fact,
    answer,
    begun_with,
    bodies,
    delete,
    ending,
    first_turn,
    new_turn,
    say,
    titles,
    unsaid,
)
from tests.stores import store_of


@pytest.fixture
def user(maya):
    return store_of(maya)


@pytest.fixture
def garden(user):
    thread = unsaid("Garden")
    for n in range(2):
        turn = new_turn(thread, f"p{n}", receipt=f"receipt {n}")
        thread = answer(user, turn, f"r{n}", thoughts=THOUGHTS)
    return thread


@pytest.fixture
def asked(monkeypatch):
    """The paths of all requests."""
    asked, send = [], httpx.Client.send

    def counted(self, request, **more):
        asked.append(request.url.path)
        return send(self, request, **more)

    monkeypatch.setattr(httpx.Client, "send", counted)
    return asked


@pytest.mark.parametrize(("kind", "calls"), [("costs", 0), ("receipts", 1), ("thoughts", 1)])
def test_costs_receipts_and_thoughts_are_read_once(maya, garden, asked, kind, calls):
    store, its = store_of(maya), garden.conversation.id
    store.conversations.thread(its)
    read = getattr(store.turns, kind)
    asked.clear()

    assert len(read(garden.messages, its)) == len(read(garden.messages, its)) == 2
    assert len(asked) == calls  # the costs were read with the thread


def test_thoughts_of_messages_without_any_are_not_asked_for(maya, garden, asked):
    prompts = [message for message in garden.messages if not message.has_thoughts]

    assert store_of(maya).turns.thoughts(prompts, garden.conversation.id) == {}
    assert asked == []


@pytest.mark.parametrize("kind", ["RECEIPTS", "THOUGHTS"])
def test_receipts_and_thoughts_beyond_the_cache_are_read(maya, garden, monkeypatch, kind):
    monkeypatch.setattr(opened, f"_MOST_{kind}", 1)
    reader, its = store_of(maya).turns, garden.conversation.id

    for _ in range(2):
        receipts = reader.receipts(garden.messages, its)
        assert sorted(receipts.values()) == ["receipt 0", "receipt 1"]
        assert list(reader.thoughts(garden.messages, its).values()) == [THOUGHTS, THOUGHTS]


@pytest.mark.parametrize(  # the client counts its calls, and the rows are too few for a second page
    "stack", ["embedded_stack"], indirect=True, ids=["embedded"], scope="session"
)
def test_facts_of_many_conversations_are_read_in_few_calls(maya, user, asked, stack):
    with stack.connect() as database:
        pace = "update private.budgets set max_per_minute = 1000 where user_id = %s"
        database.execute(pace, [maya.user_id])
    for number in range(60):  # more conversations than have a cached key
        thread = begun_with(user, f"Ticket {number}")
        user.facts.keep(a_fact(f"Fact {number}", conversation_id=thread.conversation.id))
    reader = store_of(maya).facts
    asked.clear()

    assert len(reader.fresh_facts()) == 60
    assert len(asked) == 2
    assert len(reader.fresh_facts()) == 60
    # one call for the facts, and one for their chats, which another device may have deleted
    assert len(asked) == 4


def test_turn_ends_in_a_conversation_evicted_from_the_cache(maya, monkeypatch):
    monkeypatch.setattr(opened, "_MOST_TITLES", 2 * opened.OPENED)
    user = store_of(maya)
    conversations = user.conversations
    turn = first_turn("Will you remember?", title="First")
    its, begun = turn.thread.conversation.id, user.turns.begin(turn)
    for n in range(3):
        say(user, unsaid(f"Other {n}"), "One", "Two")
    assert conversations.cached(its) is None

    user.turns.checkpoint(begun.turn_id, its, "I", 30)
    user.turns.finish(ending(turn, begun, "I will."))

    thread = say(user, conversations.thread(its), "Still?", "Still.")
    assert (thread.is_whole, thread.conversation.title) == (True, "First")
    assert bodies(thread.branch()) == ["Will you remember?", "I will.", "Still?", "Still."]


def test_messages_and_titles_are_read_page_by_page(user, garden, maya, monkeypatch):
    monkeypatch.setattr("services.store.supabase.api.PAGE", 3)  # in place of 1,000 rows
    for n in range(4):
        begun_with(user, f"Other {n}")

    reader = store_of(maya).conversations

    assert reader.thread(garden.conversation.id).messages == garden.messages
    assert titles(reader.titled("")) == ["Other 3", "Other 2", "Other 1", "Other 0", "Garden"]


@pytest.mark.parametrize("fast_seconds", [3600, -3600])
def test_clock_of_the_database_decides_on_undo(user, garden, stack, monkeypatch, fast_seconds):
    class AppClock(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(seconds=fast_seconds)

    monkeypatch.setattr(messages, "datetime", AppClock, raising=False)
    its = garden.conversation.id
    delete(user, garden, 3)
    with stack.connect() as database:
        database.execute(
            "update public.messages set destroy_at = now() where conversation_id = %s and destroy_at is not null",
            [its],
        )
    assert not user.messages.can_restore(its)

    delete(user, user.conversations.thread(its), 2)

    assert user.messages.can_restore(its)
