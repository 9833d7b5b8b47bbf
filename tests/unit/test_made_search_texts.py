"""Search texts: which messages lack one, how they are made, and an index that is filled from them."""

import threading

import pytest

from services.domain import SearchText
from services.errors import AccountFull, StoreUnavailable
from services.users import message_search
from services.users.message_search import SEALING_THREAD, SEARCH_THREAD, Asked, MessageSearch
from services.users.search_texts import complete, missing
from tests.stack.apps import until


@pytest.fixture
def store(database):
    return database.store()


@pytest.fixture
def texts(store):
    """Return the ranges of a conversation's search texts, after those that lack were made."""

    def texts(conversation_id):
        complete(store.corpus, store.corpus.conversations()[conversation_id])
        return ranges(store, conversation_id)

    return texts


def ranges(store, conversation_id):
    return [
        text.seqs for text in store.corpus.search_texts([conversation_id]).get(conversation_id, ())
    ]


def searched(store, words):
    """Search in a new index once it has all chats."""
    search = MessageSearch(lambda _: True)
    until(lambda: (found := search.find(store, Asked(words=words))).read == found.of)
    return [hit.snippet.text for hit in search.find(store, Asked(words=words)).messages], search


def is_busy():
    return any(thread.name == SEALING_THREAD for thread in threading.enumerate())


def is_filling():
    return any(thread.name == SEARCH_THREAD for thread in threading.enumerate())


@pytest.mark.parametrize(
    ("known", "asked", "found"),
    [
        ([], range(1, 5), [range(1, 5)]),
        ([range(1, 5)], range(1, 5), []),
        ([range(1, 3)], range(1, 5), [range(3, 5)]),
        ([range(2, 3)], range(1, 5), [range(1, 2), range(3, 5)]),
        ([range(1, 2), range(4, 9)], range(1, 11), [range(2, 4), range(9, 11)]),
        ([range(1, 9)], range(1, 5), []),
        ([range(6, 9)], range(1, 5), [range(1, 5)]),
    ],
    ids=str,
)
def test_ranges_without_a_text_are_found(known, asked, found):
    assert [*missing([SearchText(seqs=seqs, messages=()) for seqs in known], asked)] == found


def test_new_messages_get_a_text_and_ten_short_ones_become_one(database, texts):
    garden = database.hold("Garden", "Peas?", "Yes.")
    assert texts(garden) == [range(1, 3)]
    assert texts(garden) == [range(1, 3)]

    for last in range(5, 21, 2):
        database.go_on(garden, "And?", "Yes.")
        assert texts(garden)[-1] == range(last - 2, last)
    database.go_on(garden, "And?", "Yes.")

    assert texts(garden) == [range(1, 21)]


def test_text_that_a_deletion_dropped_is_made_again(database, store, texts):
    garden = database.hold("Garden", "Peas?", "Yes.", "And leeks?", "Yes.")
    assert texts(garden) == [range(1, 5)]
    database.go_on(garden, "And beans?", "Yes.")
    assert texts(garden) == [range(1, 5), range(5, 7)]
    thread = store.conversations.thread(garden)

    store.messages.discard(thread, thread.messages[4:], (), 20, drops_summary=False)

    assert ranges(store, garden) == [range(1, 5)]
    assert texts(garden) == [range(1, 5), range(5, 7)]
    assert searched(store, "beans")[0] == []


def test_index_is_filled_from_texts_alone(database, store, texts, monkeypatch):
    garden = database.hold("Garden", "Peas?", "Yes, peas.")
    texts(garden)
    monkeypatch.setattr(type(store.corpus), "messages", lambda *_: pytest.fail("it read messages"))

    assert searched(store, "peas")[0] == ["Yes, peas.", "Peas?"]


def test_messages_without_a_text_are_read_beside_texts(database, store, texts):
    garden = database.hold("Garden", "Peas?", "Yes.")
    texts(garden)
    database.go_on(garden, "And peas?", "No.")

    assert searched(store, "peas")[0] == ["And peas?", "Peas?"]


def test_search_makes_the_texts_that_are_missing(database, store, monkeypatch):
    monkeypatch.setattr(message_search, "_SEALING_SECONDS", 0.0)
    chats = [database.hold(f"Garden {number}", "Peas?", "Yes.") for number in range(3)]

    _, search = searched(store, "peas")

    until(lambda: search.find(store, Asked()) and all(ranges(store, chat) for chat in chats))
    database.go_on(chats[0], "And?", "Yes.")
    until(lambda: search.find(store, Asked()) and len(ranges(store, chats[0])) == 2)


def test_only_search_of_a_session_makes_the_texts(database, store, monkeypatch):
    monkeypatch.setattr(message_search, "_SEALING_SECONDS", 0.0)
    garden = database.hold("Garden", "Peas?", "Yes.")

    MessageSearch(lambda _: True).find(store, Asked(words="peas"))

    until(lambda: ranges(store, garden))


def test_full_index_asks_for_no_text_of_a_new_chat(database, store, monkeypatch):
    database.hold("Garden", "Peas?", "Yes.")
    _, search = searched(store, "peas")
    until(lambda: not is_filling())
    monkeypatch.setattr(type(store.corpus), "search_texts", lambda *_: pytest.fail("it asked"))

    database.hold("Kitchen", "Leeks?", "No.")

    assert search.find(store, Asked(words="leeks")).count == 1


@pytest.mark.parametrize("failure", [AccountFull, StoreUnavailable])
def test_search_goes_on_without_texts(database, store, monkeypatch, failure):
    calls = []

    def fail(_, listed, *others):
        calls.append(listed.id)
        raise failure

    monkeypatch.setattr(message_search, "_SEALING_SECONDS", 0.0)
    monkeypatch.setattr(type(store.corpus), "put_search_texts", fail)
    garden = database.hold("Garden", "Peas?", "Yes.")

    _, search = searched(store, "peas")
    until(lambda: search.find(store, Asked()) and garden in calls)

    until(lambda: not is_busy())
    assert search.find(store, Asked(words="peas")).count == 1
    assert calls.count(garden) == 1  # threads of other tests may go on


def test_stopped_search_makes_no_texts(database, store, monkeypatch):
    monkeypatch.setattr(message_search, "_SEALING_SECONDS", 0.05)
    garden = database.hold("Garden", "Peas?", "Yes.")
    _, search = searched(store, "peas")
    until(lambda: search.find(store, Asked()) and is_busy())

    search.stop()

    until(lambda: not is_busy())
    assert ranges(store, garden) == []
