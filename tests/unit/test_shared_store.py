"""A store that several threads use: what one thread does in the middle of another's call."""

from threading import Thread

import pytest

from services.store.sealed.seals import ConversationSeals
from tests.stack.apps import SECONDS
from tests.store.conformance.talk import new_turn


@pytest.fixture
def garden(database):
    return database.hold("Garden", "When do I sow peas?", "In March.")


@pytest.fixture
def store(database):
    return database.store()


def beside(act):
    """Run *act* in another thread, and wait for its end."""
    thread = Thread(target=act)
    thread.start()
    thread.join(SECONDS)
    assert not thread.is_alive()


@pytest.fixture
def while_a_title_opens(monkeypatch):
    """Return a function that runs an act in another thread while the next title is opened."""
    acts, open_title = [], ConversationSeals.open_title

    def opened(self, sealed):
        while acts:
            beside(acts.pop())
        return open_title(self, sealed)

    monkeypatch.setattr(ConversationSeals, "open_title", opened)
    return acts.append


def test_conversation_opened_while_it_is_listed_stays_open(store, garden, while_a_title_opens):
    read = []
    while_a_title_opens(lambda: read.append(store.conversations.thread(garden)))

    store.conversations.recent()

    assert store.conversations.cached(garden) is read[0]
    store.turns.begin(new_turn(read[0], "And beans?"))


def test_conversation_renamed_elsewhere_stays_open(database, store, garden):
    thread = store.conversations.thread(garden)
    database.conversations.rename(garden, "Allotment")

    store.conversations.recent()

    assert store.conversations.cached(garden) is thread


def test_conversation_forgotten_while_it_is_listed_stays_forgotten(
    store, garden, while_a_title_opens
):
    store.conversations.thread(garden)
    store.conversations.rename(garden, "Allotment")
    while_a_title_opens(lambda: store.conversations.forget(garden))

    store.conversations.recent()

    assert store.conversations.cached_data().text_bytes == 0


@pytest.mark.parametrize("act", ["send", "edit", "delete"])
def test_forgotten_conversation_is_not_stale(store, garden, act):
    thread = store.conversations.thread(garden)

    store.conversations.forget(garden)

    if act == "send":
        store.turns.begin(new_turn(thread, "And beans?"))
    elif act == "edit":
        store.messages.edit_reply(thread, thread.messages[1], "In April.")
    else:
        store.messages.discard(thread, thread.messages, (), 20, drops_summary=False)


def test_earlier_read_does_not_replace_a_later_one(database, store, garden):
    store.conversations.thread(garden)

    def read_anew():
        store.conversations.forget(garden)
        store.conversations.set_model(garden, "large")
        store.conversations.thread(garden)

    database.rows.after["read_conversation"] = lambda: beside(read_anew)
    store.conversations.thread(garden)

    assert store.conversations.cached(garden).conversation.model == "large"


def test_choice_made_while_a_forgotten_conversation_is_read_is_seen(database, store, garden):
    database.rows.after["read_conversation"] = lambda: beside(
        lambda: store.conversations.set_model(garden, "large")
    )

    store.conversations.thread(garden)

    assert store.conversations.cached(garden).conversation.model == "large"


def test_instructions_replaced_while_they_are_read_are_verified(database, store, garden):
    texts = iter(["Be brief.", "Be kind.", "Be calm."])

    def replace():
        store.conversations.set_instructions(garden, next(texts))

    def replace_twice():
        beside(replace)
        database.rows.after["conversation"] = lambda: beside(replace)

    replace()
    store.conversations.forget(garden)
    database.rows.after["read_conversation"] = replace_twice
    thread = store.conversations.thread(garden)

    assert thread.are_instructions_verified
