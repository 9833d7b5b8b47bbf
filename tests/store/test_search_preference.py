"""The preference "Search titles only"."""

from dataclasses import replace

from services.users import message_search
from services.users.message_search import Asked
from tests.stack.apps import until
from tests.store.conformance.talk import say, unsaid


def test_titles_only_leaves_neither_an_index_nor_search_texts(person, shared, monkeypatch):
    monkeypatch.setattr(message_search, "_SEALING_SECONDS", 0.0)
    monkeypatch.setattr(shared, "is_here", lambda user: True)  # no route opened the session
    store = person.store
    chat_id = say(store, unsaid("Garden"), "When do I sow peas?", "In March.").conversation.id
    until(lambda: person.search(Asked(words="peas")).count)
    until(lambda: store.corpus.search_texts([chat_id]))
    assert person.search_bytes > 0

    person.profile.change(lambda now: replace(now, searches_titles_only=True))
    person.search_titles_only()

    assert store.corpus.search_texts([chat_id]) == {}
    found = person.search(Asked(words="peas"))
    assert (found.messages, found.is_of_titles, person.search_bytes) == ((), True, 0)
    assert [hit.title.text for hit in person.search(Asked(words="garden")).titles] == ["Garden"]
