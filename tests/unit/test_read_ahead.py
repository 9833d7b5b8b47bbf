"""Reads that begin before their result is requested, or while the value is changed."""

from dataclasses import replace
from itertools import count
from threading import Barrier, Event
from types import SimpleNamespace

import httpx
import pytest
from pydantic import SecretStr

from services import caches
from services.caches import CachedRead
from services.domain import Preferences
from services.errors import StoreUnavailable
from services.store.sealed import sealed_store, throwaway_keys
from services.store.sealed.opened import OpenedConversations
from services.store.supabase.api import Gateway
from services.store.supabase.rows import SupabaseRows
from tests.fakes import MAYA
from tests.stack.apps import SECONDS
from tests.store.conformance.talk import a_fact
from tests.stores import InMemoryDatabase


def test_value_is_read_ahead_once():
    numbers = count()
    read = CachedRead(lambda: next(numbers), seconds=0.0)
    read.read_ahead()
    read.read_ahead()

    assert [read.get(), read.get()] == [0, 1]


@pytest.mark.parametrize("reason", ["old", "changed", "failed"])
def test_spoilt_value_is_read_again(monkeypatch, reason):
    numbers, has_read = count(), Event()

    def next_number():
        number = next(numbers)
        has_read.set()
        if (reason, number) == ("failed", 0):
            raise StoreUnavailable
        return number

    read = CachedRead(next_number, seconds=0.0)
    read.read_ahead()
    assert has_read.wait(SECONDS)
    if reason == "old":
        monkeypatch.setattr(caches, "_AHEAD_SECONDS", -1.0)
    if reason == "changed":
        read.outdate()

    assert read.get() == 1


def test_reads_of_the_first_page_go_at_once():
    every = Barrier(4)

    def answer(request):
        every.wait(SECONDS)
        return httpx.Response(200, json=[])

    gateway = Gateway.to("http://database.test", SecretStr("key"), httpx.MockTransport(answer))
    calls = SimpleNamespace(client=gateway.client(), user_id=MAYA)
    store = sealed_store(SupabaseRows(calls), throwaway_keys(MAYA))

    for read in (store.profile, store.spaces, store.facts, store.conversations):
        read.read_ahead()

    assert store.profile.preferences() == Preferences()
    assert store.spaces.all() == store.facts.facts() == ()
    assert store.conversations.recent(31) == []


@pytest.fixture
def garden(database):
    return database.hold("Garden", "When do I sow peas?", "In March.")


def test_conversation_is_read_ahead_once(database, garden):
    store, has_read = database.store(), Event()
    database.rows.after["read_conversation"] = has_read.set
    store.turns.read_ahead(garden)
    assert has_read.wait(SECONDS)

    with database.no_answers("read_conversation"):
        thread, _ = store.turns.read(garden)
        assert [message.body for message in thread.messages] == ["When do I sow peas?", "In March."]
        with pytest.raises(StoreUnavailable):
            store.turns.read(garden)


@pytest.mark.parametrize("does_forget", [True, False])
def test_conversation_known_or_forgotten_since_is_read_again(database, garden, does_forget):
    store = database.store()
    store.turns.read_ahead(garden)
    if does_forget:
        store.conversations.forget(garden)
    else:
        store.turns.read(garden)
        store.turns.read_ahead(garden)
    database.go_on(garden, "And beans?", "In May.")

    assert len(store.turns.read(garden)[0].messages) == 4


def test_list_read_while_a_title_is_stored_is_read_again():
    database = InMemoryDatabase(MAYA)
    garden = database.hold("Garden", "When do I sow peas?", "In March.")
    conversations = database.store().conversations

    def titles():
        return [one.title for one in conversations.recent(500)]

    database.rows.before["change_conversation"] = titles
    conversations.rename(garden, "Peas")

    assert titles() == ["Peas"]


def test_memory_changed_while_an_export_reads_it_is_in_the_export():
    keys = throwaway_keys(MAYA)
    database = InMemoryDatabase(MAYA, keys=lambda _: keys)
    garden, seen = database.hold("Garden", "When do I sow peas?", "In March."), a_fact()
    of_pages = OpenedConversations(database.rows, keys)
    pages = sealed_store(database.rows, keys, of_pages)
    pages.facts.keep(seen)
    pages.facts.keep(replace(a_fact("A note."), conversation_id=garden))
    of_export = OpenedConversations(database.rows, keys, of_pages)
    export = sealed_store(database.rows, keys, of_export)

    new = replace(seen, text="Rex is a dog.")
    database.rows.before["conversations"] = lambda: pages.facts.keep(new, replaces=seen)

    assert {one.text for one in export.facts.facts()} == {"A note.", "Rex is a dog."}
