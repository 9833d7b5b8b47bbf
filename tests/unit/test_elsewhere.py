"""Recall over other conversations: where the database is slow or away, and how all of them are read in pieces."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chat import Elsewhere, elsewhere
from services.domain import ConversationId, MessageId, Space, SpaceId
from services.store.sealed import corpus
from tests.fakes import NOON, MemoryConversations, MemoryCorpus

KUMQUAT = "My kumquat tree is called Zebedee."


@pytest.fixture
def store():
    store = MemoryConversations()
    store.hold("There", KUMQUAT, "I see.")
    return store


@pytest.fixture
def here(store):
    return store.thread(store.hold("Here", "My kumquat is ripe.", "Good."))


def found(searched, here):
    return [each.message.body for each in searched.ranked(here, here.messages, "kumquat")]


def test_a_prompt_waits_for_no_slow_reading(store, here, monkeypatch):
    monkeypatch.setattr(elsewhere, "_PATIENCE", 0.05)
    slow = MemoryCorpus(store)
    slow.may_read.clear()
    searched = Elsewhere(slow)

    assert found(searched, here) == ["My kumquat is ripe.", "Good."]
    slow.may_read.set()
    monkeypatch.setattr(elsewhere, "_PATIENCE", 20.0)

    assert KUMQUAT in found(searched, here)


def test_what_could_not_be_read_is_read_before_the_next_prompt(store, here):
    away = MemoryCorpus(store, failures=1)
    searched = Elsewhere(away)

    assert found(searched, here) == ["My kumquat is ripe.", "Good."]
    assert KUMQUAT in found(searched, here)


def test_only_the_first_places_are_for_what_was_said_elsewhere(store, here):
    for n in range(20):
        store.hold(f"There {n}", f"My kumquat number {n} has fruit.", "I see.")
    assert len(found(Elsewhere(MemoryCorpus(store)), here)) == 2 + 10


def test_what_was_moved_while_it_was_read_is_read_again(store, here, monkeypatch):
    monkeypatch.setattr(elsewhere, "_PATIENCE", 0.05)
    there, *_ = store.threads
    before = store.thread(there)  # as a page still has it
    a_space(store, there, here.conversation.id)

    def asked_in_between():
        asking = threading.Thread(target=lambda: found(searched, before))
        asking.start()
        asking.join(20)

    searched = Elsewhere(Interrupted(store, happens=asked_in_between))
    searched._read()

    monkeypatch.setattr(elsewhere, "_PATIENCE", 20.0)
    assert KUMQUAT in found(searched, store.thread(here.conversation.id))


def test_what_was_moved_away_while_others_are_read_is_not_brought_back(store, here, monkeypatch):
    there, *_ = store.threads
    slow = MemoryCorpus(store)
    searched = Elsewhere(slow)
    assert KUMQUAT in found(searched, here)
    monkeypatch.setattr(elsewhere, "_PATIENCE", 0.05)
    slow.may_read.clear()
    store.hold("New", "Hello.", "Hello.")
    assert KUMQUAT in found(searched, here)  # the new one is still being read

    a_space(store, there)

    assert KUMQUAT not in found(searched, here)
    slow.may_read.set()


def test_nothing_of_what_is_discarded_stays_in_memory(store, here):
    there, *_ = store.threads
    searched = Elsewhere(MemoryCorpus(store))
    [told] = [each for each in searched.ranked(here, here.messages, "Zebedee") if each.matched]

    searched.forget(there)

    assert searched._opened.get(told.message.id) is None
    assert searched.opened([told.message.id], here) == {}
    assert KUMQUAT in found(searched, here)  # brought back


def test_message_read_for_a_receipt_alone_leaves_the_memory_too(store, here):
    there, *_ = store.threads
    [told, _] = store.thread(there).messages
    searched = Elsewhere(MemoryCorpus(store))
    searched.opened([told.id], here)
    store.discard(there, 60)

    searched.forget(there)

    assert searched._opened.get(told.id) is None


def a_space(store, *conversations):
    """Put them into a new one."""
    space = Space(id=SpaceId(uuid4()), name="Orchard", created_at=NOON)
    store.spaces[space.id] = space
    for its in conversations:
        store.move(its, space.id)


def test_what_is_gone_is_asked_for_once_until_the_next_prompt(store, here, monkeypatch):
    there, *_ = store.threads
    [told, _] = store.thread(there).messages
    corpus = MemoryCorpus(store)
    searched, asked = Elsewhere(corpus), list[MessageId]()
    some = corpus.some
    monkeypatch.setattr(corpus, "some", lambda ids: asked.extend(ids) or some(ids))
    store.discard(there, 60)

    for _ in range(3):
        assert searched.opened([told.id], here) == {}
    assert asked == [told.id]

    store.restore(there)
    assert KUMQUAT in found(searched, here)


@dataclass
class Interrupted(MemoryCorpus):
    """Something happens once, when the first of all messages was read."""

    happens: Callable[[], None] = lambda: None

    def messages(self, wanted):
        for found in super().messages(wanted):
            for its, messages in found.items():
                for message in messages:
                    yield {its: [message]}
                    happens, self.happens = self.happens, lambda: None
                    happens()


LENGTHS = st.lists(
    st.tuples(st.integers(0, 3), st.one_of(st.integers(1, 20), st.integers(400, 1700))), max_size=12
)


@given(LENGTHS)
def test_each_message_is_asked_for_once(lengths):
    wanted = {
        ConversationId(UUID(int=n)): range(1 + 7 * known, 1 + 7 * known + new)
        for n, (known, new) in enumerate(lengths)
    }

    asked = set()
    for ids, seqs in corpus._batches(wanted):
        sent = {(its, seq) for its in ids for seq in seqs if seq < wanted[its].stop}
        assert len(sent) <= 2000
        assert len(ids) <= 100
        assert not sent & asked
        asked |= sent

    assert asked == {(its, seq) for its, seqs in wanted.items() for seq in seqs}
