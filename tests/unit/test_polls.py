"""Polls with a single process: they read the store only after a change by this process, or after a minute."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import uuid4

import pytest

from services.crypto import RootKeys, new_key
from services.domain import AccountRole
from services.domain.revisions import OpenPlace
from services.errors import SignedOut, StoreUnavailable
from services.store.tables.backend import TablesBackend
from services.store.tables.in_memory import InMemoryStore
from services.store.tables.polls import NotedStore
from services.store.tables.schema import ACCOUNTS, CONVERSATIONS
from tests.store.conformance.talk import begun_with, new_turn
from tests.stores import WholeAccounts, cheap_hashes, store_of

PLACE = OpenPlace()


class CountedStore(InMemoryStore):
    """A store that counts its blocks, and may lose their answers."""

    blocks, loses_answers = 0, False

    def of(self, user_id):
        return _LostAnswers(self, super().of(user_id))


class _LostAnswers:
    def __init__(self, store, tables):
        self._store, self._tables = store, tables

    def run(self, work, *, is_lasting=True):
        self._store.blocks += 1
        answer = self._tables.run(work)
        if self._store.loses_answers:
            raise StoreUnavailable
        return answer


@pytest.fixture
def store():
    return CountedStore()


class Clock:
    """A clock of the process."""

    elapsed = timedelta()

    def now(self):
        return datetime.now(UTC) + self.elapsed


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def accounts(store, clock):
    ring = RootKeys({1: new_key()}, 1)
    with cheap_hashes():
        yield WholeAccounts(TablesBackend(store, clock.now), ring, 86400, 86400)


@pytest.fixture
def sign_up(accounts):
    return lambda name: accounts.sign_up_with(f"{name}@daybook.test", "correct horse battery")


@pytest.fixture
def maya(sign_up):
    return sign_up("maya")


@pytest.fixture
def tab(maya):
    """An open tab: the store of its session, after a first poll."""
    tab = store_of(maya[1])
    tab.conversations.poll(PLACE)
    return tab


@pytest.fixture
def elsewhere(accounts, maya):
    """The store of another session of Maya."""
    return store_of(accounts.open(maya[0]))


def change(tables, table, key, **columns):
    """Change a stored row without the app."""

    def work(block):
        block.put(table, replace(block.get(table, key), **columns))

    tables.run(work)


def test_poll_reads_nothing_while_nothing_changes(store, tab, accounts, maya, sign_up):
    first = tab.conversations.poll(PLACE)
    _, omar = sign_up("omar")
    begun_with(store_of(omar))
    assert accounts.backend.is_alive(maya[0].hash)  # counts the session as used
    tab.conversations.poll(PLACE)  # an account was created since
    before = store.blocks

    assert [tab.conversations.poll(PLACE) for _ in range(3)] == [first] * 3
    assert store.blocks == before
    begun_with(store_of(omar))
    assert accounts.backend.is_alive(maya[0].hash)
    before = store.blocks
    tab.conversations.poll(PLACE)
    assert store.blocks == before


def test_poll_hears_of_each_change_by_this_process(tab, elsewhere):
    answers = [tab.conversations.poll(PLACE)]
    thread = begun_with(elsewhere)
    answers.append(tab.conversations.poll(PLACE))
    elsewhere.turns.begin(new_turn(thread, "And leeks?"))
    answers.append(tab.conversations.poll(PLACE))
    elsewhere.conversations.pin(thread.conversation.id)
    answers.append(tab.conversations.poll(PLACE))
    elsewhere.profile.change(lambda now: replace(now, instructions="Be brief."))
    answers.append(tab.conversations.poll(PLACE))

    assert all(one != other for one, other in pairwise(answers))
    assert answers[2].running == {thread.conversation.id}


def test_poll_hears_of_roles_and_models(store, tab, maya, sign_up):
    _, ruth = sign_up("ruth")
    change(store.of(None), ACCOUNTS, ruth.user_id, role=AccountRole.ADMIN)
    before = tab.conversations.poll(PLACE)

    ruth.backend.administration.set_role(maya[1].user_id, AccountRole.ADMIN)
    ruth.backend.administration.set_model("scripted", {"is_offered": False})

    after = tab.conversations.poll(PLACE)
    assert (before.is_admin, after.is_admin) == (False, True)
    assert before.settings != after.settings


def test_each_place_has_an_answer_of_its_own(tab, elsewhere):
    thread = begun_with(elsewhere)
    place = OpenPlace(conversation_id=thread.conversation.id)

    assert tab.conversations.poll(place).chat == thread.conversation.rev
    assert tab.conversations.poll(PLACE).chat is None
    assert tab.conversations.poll(place).chat == thread.conversation.rev


def test_ended_session_is_refused_at_its_next_poll(tab, accounts, maya):
    accounts.end(maya[0])

    with pytest.raises(SignedOut):
        tab.conversations.poll(PLACE)


def test_change_beside_the_app_is_heard_after_a_minute(store, tab, maya, clock):
    change(store.of(None), ACCOUNTS, maya[1].user_id, role=AccountRole.ADMIN)

    clock.elapsed += timedelta(seconds=55)
    assert not tab.conversations.poll(PLACE).is_admin
    clock.elapsed += timedelta(seconds=5)
    assert tab.conversations.poll(PLACE).is_admin


def test_clock_that_was_set_back_keeps_no_answer(store, tab, maya, clock):
    change(store.of(None), ACCOUNTS, maya[1].user_id, role=AccountRole.ADMIN)

    clock.elapsed -= timedelta(seconds=1)

    assert tab.conversations.poll(PLACE).is_admin


def test_write_whose_answer_was_lost_is_a_change(store, tab, maya):
    noted = NotedStore(store)
    before = noted.changes.seen(maya[1].user_id)
    store.loses_answers = True

    with pytest.raises(StoreUnavailable):
        noted.of(maya[1].user_id).run(lambda block: block.delete(CONVERSATIONS, uuid4()))

    assert noted.changes.seen(maya[1].user_id) != before
