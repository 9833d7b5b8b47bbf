"""Search in all messages of a user: what it finds, and when it forgets it."""

import threading
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from services.domain import (
    Fact,
    FactId,
    Preferences,
    Role,
    RunningSummary,
    Space,
    SpaceId,
    UserId,
)
from services.errors import SignedOut
from services.users.message_search import (
    SEARCH_THREAD,
    Asked,
    Chats,
    MessageSearch,
    MessageSearches,
    find_titles,
)
from tests.fakes import MAYA
from tests.stack.apps import until

NOW = datetime(2026, 5, 1, tzinfo=UTC)
OMAR = UserId(UUID(int=0xB))


@pytest.fixture
def store(database):
    return database.store()


@pytest.fixture
def search():
    return MessageSearch(lambda _: True)


@pytest.fixture
def find(store, search):
    def find(words="", **others):
        """Search once all chats are indexed."""
        asked = Asked(words=words, **others)
        until(lambda: (found := search.find(store, asked)).read == found.of)
        return search.find(store, asked)

    return find


def is_filling():
    return any(thread.name == SEARCH_THREAD for thread in threading.enumerate())


def shown(results):
    """Return the titles of the chats of the messages found, and these messages' snippets."""
    return [(hit.conversation.title, hit.snippet.text) for hit in results.messages]


def chats(results):
    return [hit.conversation.title for hit in results.messages]


def titles(results):
    return [hit.conversation.title for hit in results.titles]


def test_prompts_and_replies_are_found_newest_first(database, find):
    database.hold("Garden", "When do I sow peas?", "In March.", "And beans?", "Peas first.")
    database.hold("Kitchen", "How long do peas cook?", "Ten minutes.")

    results = find("peas")

    assert shown(results) == [
        ("Kitchen", "How long do peas cook?"),
        ("Garden", "Peas first."),
        ("Garden", "When do I sow peas?"),
    ]
    assert results.count == 3
    assert [hit.role for hit in results.messages] == [Role.USER, Role.ASSISTANT, Role.USER]


def test_message_stored_elsewhere_is_found_by_the_next_search(database, find, search, store):
    garden = database.hold("Garden", "When do I sow peas?", "In March.")
    find("peas")

    database.go_on(garden, "And leeks?", "In April.")

    assert shown(search.find(store, Asked(words="leeks"))) == [("Garden", "And leeks?")]


def test_conversation_begun_elsewhere_is_found_by_the_next_search(database, find, search, store):
    database.hold("Garden", "When do I sow peas?", "In March.")
    until(lambda: find("peas") and not is_filling())

    database.hold("Kitchen", "Peas again", "Yes.")

    assert chats(search.find(store, Asked(words="peas"))) == ["Kitchen", "Garden"]


def test_deleted_conversation_is_not_found_and_restored_one_is(database, find, search, store):
    garden = database.hold("Garden", "When do I sow peas?", "In March.")
    find("peas")

    database.conversations.discard(garden, 20)
    assert search.find(store, Asked(words="peas")).messages == ()

    database.conversations.restore(garden)
    assert chats(find("peas")) == ["Garden"]


def test_deleted_message_is_not_found(database, find, search, store):
    garden = database.hold("Garden", "When do I sow peas?", "In March.", "And leeks?", "In April.")
    find("leeks")
    thread = store.conversations.thread(garden)

    store.messages.discard(thread, thread.messages[2:], (), 20, drops_summary=False)

    assert find("leeks").messages == ()
    assert chats(find("peas")) == ["Garden"]


def test_more_conversations_than_are_read_at_once_are_all_indexed(database, find):
    for number in range(45):
        database.hold(f"Garden {number}", f"Peas {number}", "Yes.")

    results = find("peas")

    assert (results.read, results.of, results.count) == (45, 45, 45)
    assert len(results.messages) == 20
    more = find("peas", below=results.next_below)
    assert {hit.message_id for hit in more.messages}.isdisjoint(
        hit.message_id for hit in results.messages
    )
    assert (len(more.messages), more.titles) == (20, ())
    assert find("peas", below=more.next_below).next_below is None


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"role": Role.USER}, ["When do I sow peas?"]),
        ({"role": Role.ASSISTANT}, ["Peas: in March."]),
        ({"since": NOW + timedelta(days=10_000)}, []),
        ({"until": NOW - timedelta(days=10_000)}, []),
        ({"chats": Chats.ARCHIVED}, []),
        ({"chats": Chats.PINNED}, []),
        ({"chats": Chats.ACTIVE}, ["Peas: in March.", "When do I sow peas?"]),
        ({"space_id": SpaceId(OMAR)}, []),
    ],
    ids=str,
)
def test_filters_leave_messages_out(database, find, asked, found):
    database.hold("Garden", "When do I sow peas?", "Peas: in March.")

    results = find("peas", **asked)

    assert [hit.snippet.text for hit in results.messages] == found
    assert results.count == len(found)


def test_archived_and_pinned_conversations_are_found(database, find):
    database.conversations.archive(database.hold("Garden", "Peas?", "Yes."))
    database.conversations.pin(database.hold("Kitchen", "Peas?", "Yes."))

    assert chats(find("peas")) == ["Kitchen", "Garden"]
    assert chats(find("peas", chats=Chats.ARCHIVED)) == ["Garden"]
    assert chats(find("peas", chats=Chats.PINNED)) == ["Kitchen"]


def test_ranked_search_finds_the_best_message_first(database, find):
    database.hold("Garden", "Peas, peas and peas", "Yes.")
    database.hold("Kitchen", "Some long text about beans, leeks and, well, peas", "Yes.")

    assert chats(find("peas")) == ["Kitchen", "Garden"]
    assert chats(find("peas", order="best")) == ["Garden", "Kitchen"]


def test_ranked_search_continues_after_the_hits_so_far(database, find):
    for number in range(45):
        database.hold(f"Garden {number}", "Peas " * (number + 1), "Yes.")

    pages, below = list[list[str]](), None
    while not pages or below is not None:
        results = find("peas", order="best", below=below)
        pages.append(chats(results))
        below = results.next_below

    assert [len(page) for page in pages] == [20, 20, 5]
    assert len({title for page in pages for title in page}) == 45


def test_best_title_comes_first(database, find):
    database.hold("Peas", "One", "Two")
    database.hold("Peas and beans", "One", "Two")
    database.hold("Beans and peas", "One", "Two")

    assert titles(find("peas")) == ["Peas", "Peas and beans", "Beans and peas"]


def test_empty_search_lists_the_newest_titles(database, find):
    database.hold("Garden", "One", "Two")
    database.hold("Kitchen", "One", "Two")

    results = find()

    assert titles(results) == ["Kitchen", "Garden"]
    assert (results.messages, results.memories, results.count) == ((), (), 0)


@pytest.mark.parametrize(
    ("title", "words"),
    [("Café", "cafe"), ("A road trip", '"road trip"'), ("Budget of May", "budget -june")],
)
def test_title_is_found_by_its_folded_words(database, find, title, words):
    database.hold(title, "One", "Two")

    assert titles(find(words)) == [title]


def test_title_with_an_excluded_word_is_not_found(database, find):
    database.hold("Budget of June", "One", "Two")

    assert titles(find("budget -june")) == []


def test_filter_of_messages_leaves_titles_and_memories_out(database, store, find):
    database.hold("Peas", "Peas?", "Yes.")
    store.facts.keep(Fact(id=FactId(UUID(int=0xF)), text="Grows peas", since=NOW))

    results = find("peas", role=Role.USER)

    assert (results.titles, results.memories, len(results.messages)) == ((), (), 1)


def test_chat_that_is_far_ahead_is_read_again_and_loses_deleted_messages(
    database, find, search, store
):
    garden = database.hold("Garden", "Peas?", "Yes.")
    find("peas")
    for number in range(101):
        database.go_on(garden, f"Beans {number}", "Yes.")
    thread = store.conversations.thread(garden)
    search.find(store, Asked(words="peas"))

    store.messages.discard(thread, thread.messages, (), 20, drops_summary=False)

    assert search.find(store, Asked(words="peas")).messages == ()
    assert find("peas").messages == ()


def test_new_chat_is_found_though_older_ones_have_no_room(database, store):
    for number in range(25):
        database.hold(f"Garden {number}", f"Peas {number}", "Yes.")
    search = MessageSearch(lambda _: False)
    until(lambda: search.find(store, Asked(words="peas")).is_full and not is_filling())

    database.hold("Kitchen", "Peas again", "Yes.")

    results = search.find(store, Asked(words="peas"))
    assert (results.messages[0].conversation.title, results.count) == ("Kitchen", 21)


def test_only_excluded_words_find_nothing_and_that_is_said(database, find):
    database.hold("Garden", "Peas?", "Yes.")

    results = find("-beans")

    assert (results.messages, results.has_only_excluded) == ((), True)


def test_memories_and_instructions_are_found(store, find):
    space = Space(id=SpaceId(OMAR), name="Allotment", instructions="Peas only.", created_at=NOW)
    store.spaces.keep(space)
    store.facts.keep(Fact(id=FactId(UUID(int=0xF)), text="Grows peas", since=NOW))
    store.profile.change(lambda _: Preferences(instructions="Say peas."))

    results = find("peas")

    assert [
        (hit.kind, hit.space and hit.space.name, hit.snippet.text) for hit in results.memories
    ] == [
        ("fact", None, "Grows peas"),
        ("instructions", None, "Say peas."),
        ("instructions", "Allotment", "Peas only."),
    ]
    assert find("peas -grows").memories[0].snippet.text == "Say peas."
    assert find("peas beans").memories == ()


def test_instructions_summary_and_note_of_a_chat_are_found_as_they_change(database, store, find):
    garden = database.hold("Garden", "When?", "In March.", "And then?", "Water.")
    find("leeks")
    store.conversations.set_instructions(garden, "Speak of leeks.")
    thread = store.conversations.thread(garden)
    summary = RunningSummary(text="Leeks were sown.", from_seq=1, up_to_seq=2, made_at=NOW)
    store.conversations.set_summary(thread, summary)
    note = Fact(id=FactId(UUID(int=0xF)), text="Likes leeks", since=NOW, conversation_id=garden)
    store.facts.keep(note)

    found = find("leeks").memories

    assert [(hit.kind, hit.conversation.id, hit.snippet.text) for hit in found] == [
        ("fact", garden, "Likes leeks"),
        ("instructions", garden, "Speak of leeks."),
        ("summary", garden, "Leeks were sown."),
    ]
    store.conversations.set_instructions(garden, "Speak of beans.")
    assert [hit.kind for hit in find("leeks").memories] == ["fact", "summary"]


def test_search_in_titles_alone_reads_no_message(database, store, monkeypatch):
    database.hold("Peas", "Beans?", "Yes.")
    monkeypatch.delattr(type(store.corpus), "messages")

    results = find_titles(store, Asked(words="peas"))

    assert titles(results) == ["Peas"]
    assert find_titles(store, Asked(words="beans")).messages == ()


def test_search_without_room_says_so_and_reads_no_further(database, store):
    for number in range(45):
        database.hold(f"Garden {number}", f"Peas {number}", "Yes.")
    search = MessageSearch(lambda _: False)

    until(lambda: search.find(store, Asked(words="peas")).is_full)

    results = search.find(store, Asked(words="peas"))
    assert (results.count, results.read) == (20, 20)
    assert results.messages[0].conversation.title == "Garden 44"


def test_search_used_longest_ago_gives_its_room(database, store):
    database.hold("Garden", "Peas?", "Yes.")
    searches = MessageSearches(most_bytes=1)
    for user_id in (OMAR, MAYA):
        search = searches.of(user_id, lambda: True)
        until(lambda search=search: search.find(store, Asked()).read)

    assert searches.find(OMAR) is None
    assert searches.find(MAYA) is not None


def test_search_of_a_user_who_has_left_is_dropped():
    searches = MessageSearches(most_bytes=1_000_000)

    with pytest.raises(SignedOut):
        searches.of(MAYA, lambda: False)

    assert searches.find(MAYA) is None


def test_stopped_search_indexes_nothing_more(database, store, search):
    database.hold("Garden", "Peas?", "Yes.")
    search.stop()

    search.find(store, Asked(words="peas"))

    assert search.find(store, Asked(words="peas")).count == 0
