"""Search texts: one for each conversation, stored apart from it, and deleted with its messages."""

from dataclasses import replace

import pytest

from services.domain import SearchText
from services.errors import NotFound, Stale
from tests.store.conformance.backends import Text
from tests.store.conformance.talk import begun_with, delete, destroy, say, whole

WORDS = "sow peas march beans may"


@pytest.fixture(scope="module")
def maya(busy_user):
    return busy_user


def listed(user, its):
    return user.corpus.conversations()[its]


def put(user, its, text=WORDS, seen=None):
    return user.corpus.put_search_text(listed(user, its), text, seen)


def found(user, its):
    return user.corpus.search_texts([its]).get(its)


def test_search_text_is_read_with_the_revision_that_it_is_of(reader, maya, garden, garden_id):
    first = put(maya, garden_id)
    say(maya, garden, "And leeks?", "In April.")

    assert found(reader, garden_id) == first
    assert (first.text, first.conversation_rev) == (WORDS, garden.conversation.rev)

    second = put(maya, garden_id, f"{WORDS} leeks april", first)

    assert found(reader, garden_id) == second
    assert second.conversation_rev == listed(maya, garden_id).rev


def test_conversation_without_a_search_text_has_none(maya, garden_id):
    assert maya.corpus.search_texts([garden_id]) == {}


def test_search_text_is_replaced_by_who_has_seen_it(maya, garden_id):
    first = put(maya, garden_id)
    second = put(maya.elsewhere(), garden_id, "peas", first)

    for seen in (None, first):
        with pytest.raises(Stale):
            put(maya, garden_id, "beans", seen)

    assert found(maya, garden_id) == second


def test_lost_answer_stores_one_search_text(backend, maya, garden_id):
    with backend.lose_answer(maya, "put_document"):
        put(maya, garden_id)

    assert found(maya.elsewhere(), garden_id).text == WORDS


def test_deleted_messages_take_the_search_text_with_them(maya, garden, garden_id):
    put(maya, garden_id)
    before = listed(maya, garden_id)

    delete(maya, garden, 2)

    assert found(maya.elsewhere(), garden_id) is None
    with pytest.raises(NotFound):
        maya.corpus.put_search_text(before, WORDS, None)
    assert put(maya, garden_id, "peas").text == "peas"


def test_discarded_chat_has_no_search_text(maya, garden_id):
    put(maya, garden_id)

    maya.conversations.discard(garden_id, 20)

    assert found(maya, garden_id) is None


def test_deleted_chat_leaves_no_search_text(backend, omar):
    before = omar.store.usage.stored()
    its = begun_with(omar).conversation.id
    without = omar.store.usage.stored().sealed_bytes
    put(omar, its)
    assert omar.store.usage.stored().sealed_bytes > without

    destroy(backend, omar, its)

    after = omar.store.usage.stored()
    assert (after.sealed_bytes, after.facts) == (before.sealed_bytes, before.facts)
    assert str(its) not in backend.stored_text()


def test_no_user_reads_or_writes_that_of_another(maya, omar, garden_id):
    first = put(maya, garden_id)

    assert found(omar, garden_id) is None
    with pytest.raises(NotFound):
        omar.corpus.put_search_text(listed(maya, garden_id), "mine", first)


def test_other_search_text_does_not_open_and_is_replaced(backend, maya, garden_id):
    other = begun_with(maya).conversation.id
    mine, theirs = put(maya, garden_id), put(maya, other, "other words")
    backend.copy(Text("search_text", other), Text("search_text", garden_id))

    there = maya.elsewhere()
    unread = found(there, garden_id)

    assert unread == SearchText(text="", conversation_rev=0, rev=mine.rev)
    assert found(there, other) == theirs
    # reading a thread never reads its search text
    assert whole(there.conversations.thread(garden_id))
    assert found(there, garden_id) == unread
    put(there, garden_id, "new", unread)
    assert found(there, garden_id).text == "new"


def test_earlier_search_text_is_noticed_with_its_revision(backend, maya, garden_id):
    place = Text("search_text", garden_id)
    first = put(maya, garden_id)
    with backend.set_back_text(place, place._replace(field="rev")):
        put(maya, garden_id, "peas", first)

    assert found(maya, garden_id) == replace(first, text="", conversation_rev=0)
