"""What a process holds of a conversation: all of it while it is there, and nothing once it is deleted."""

import random
from uuid import uuid4

import pytest

from services.domain import (
    Fact,
    FactId,
    Purpose,
    Retrieval,
    RunningSummary,
)
from services.domain import Summary as SummaryPolicy
from services.llm import Models, Offer
from services.settings import Settings
from services.store.supabase.rows import SupabaseRows
from services.users import Shared
from tests import leaks
from tests.fakes import NOON, choose
from tests.store.conftest import done
from tests.store.test_summaries import SMALL, settled


@pytest.fixture
def shared(sessions, model):
    settings = Settings(instructions="Be kind.", titles=False)
    return Shared(sessions, settings, Models(Offer(SMALL, model)))


def fill(person, policy, server, canary):
    """A conversation with *canary* in every text that it can have, after all that reads them has read them."""
    kept, chat, long = person.store.conversations, person.chat, "peas " * 150
    choose(person.store.profile, recalls_elsewhere=True)
    choose(person.store.profile, policy=policy)
    thought = f"{canary} thoughts "
    server.script(reply=f"{canary} reply", thoughts=2, thought=thought, fault="drop", after=2)
    conversation_id = done(chat.begin(None, f"{canary} title and prompt {long}")).conversation_id
    kept.set_instructions(conversation_id, f"{canary} instructions")
    summary = RunningSummary(text=f"{canary} summary", from_seq=1, up_to_seq=1, made_at=NOON)
    kept.set_summary(kept.thread(conversation_id), summary)
    fact = Fact(
        id=FactId(uuid4()), text=f"{canary} fact", since=NOON, conversation_id=conversation_id
    )
    person.store.facts.keep(fact)
    server.script_summaries(reply=f"{canary} so far", fault="drop", after=2)
    for _ in range(4):
        chat.open(conversation_id)
        assert done(chat.begin(conversation_id, f"{canary} prompt {long}")).failure
        thread = settled(chat, conversation_id)
    assert bool(chat.background.failure(Purpose.SUMMARY, conversation_id)) is isinstance(
        policy, SummaryPolicy
    )
    person.store.turns.receipts(thread.messages, conversation_id)
    person.store.turns.thoughts(thread.messages, conversation_id)
    look_around(person, server)
    kept.recent()
    kept.titled(canary)
    chat.open(conversation_id)
    return conversation_id


def look_around(person, server):
    """Do what reads all of a person's conversations; the server forgets what it was asked."""
    server.script()
    server.script_summaries()
    person.store.facts.facts()
    person.chat.open(done(person.chat.begin(None, "Other")).conversation_id)
    for requests in (server.requests, *server.asides.values()):
        requests.clear()


@pytest.mark.parametrize("policy", [Retrieval(), SummaryPolicy()])
def test_of_what_is_deleted_neither_key_nor_text_stays_in_the_memory(person, maya, server, policy):
    canary = "".join(["q", *random.choices("bcdfghjkmpvwxz", k=6)])  # short: as long as a stem
    conversation_id = fill(person, policy, server, canary)
    row = SupabaseRows(maya).conversation(conversation_id)
    key = maya.user_keys.unwrap(
        row.wrapped_key, row.user_key_version, conversation_id, row.key_version
    )
    assert leaks.found(key)
    texts = " ".join(leaks.found(canary))
    for kind in (
        "title",
        "prompt",
        "reply",
        "thoughts",
        "instructions",
        "summary",
        "fact",
        '"policy"',
    ):
        assert kind in texts

    person.chat.deletions.discard(conversation_id, 20)
    look_around(person, server)

    assert leaks.found(canary, key) == set()
