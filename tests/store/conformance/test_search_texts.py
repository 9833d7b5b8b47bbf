"""Search texts: sealed copies of the messages of a range, which go with any of these messages."""

from dataclasses import replace
from uuid import uuid4

import pytest

from services.domain import ConversationId, SearchedMessage, SearchText
from services.errors import AccountFull, NotFound, Stale
from services.store.supabase import api
from services.store.supabase import rows as supabase_rows
from services.store.writes import PutSearchText
from tests.store.conformance.talk import (
    UNDO_SECONDS,
    begun_with,
    bodies,
    delete,
    destroy,
    say,
    unsaid,
    whole,
)

LARGEST = 262_144  # the most octets of a stored text
FIRST, SECOND, ALL = range(1, 3), range(3, 5), range(1, 5)


@pytest.fixture(scope="module")
def maya(busy_user):
    return busy_user


def listed(user, its):
    return user.corpus.conversations()[its]


def stored(user):
    return user.store.usage.stored().sealed_bytes


def put(user, its, seqs=ALL, replaces=()):
    """Store search texts of the messages with *seqs*."""
    [found] = [*user.corpus.messages({its: seqs})] or [{}]
    user.corpus.put_search_texts(listed(user, its), seqs, found.get(its, ()), replaces)


def texts(user, its):
    return user.corpus.search_texts([its]).get(its, [])


def ranges(user, its):
    return [text.seqs for text in texts(user, its)]


def sizes(user, its):
    """Return the sizes of the stored texts, by number."""
    return {row.number: len(row.body) for row in user.rows.search_texts([its])}


def long_messages(thread, *lengths):
    """Return messages with bodies of these *lengths*, from seq 1 on."""
    return [
        replace(thread.messages[0], seq=seq, body="x" * length)
        for seq, length in enumerate(lengths, 1)
    ]


# --- reading


def test_search_texts_are_read_in_the_order_of_seqs(reader, maya, garden, garden_id):
    put(maya, garden_id, SECOND)
    put(maya, garden_id, FIRST)

    first, second = texts(reader, garden_id)

    assert (first.seqs, second.seqs) == (FIRST, SECOND)
    assert bodies((*first.messages, *second.messages)) == bodies(garden.messages)
    one = garden.messages[0]
    own = {"id": one.id, "seq": 1, "role": one.role, "created_at": one.created_at}
    assert first.messages[0] == SearchedMessage(**own, body=one.body)


def test_search_texts_of_several_chats_are_read_at_once(maya, garden_id):
    other, none = begun_with(maya).conversation.id, begun_with(maya).conversation.id
    put(maya, garden_id)
    put(maya, other, range(1, 2))

    found = maya.corpus.search_texts([garden_id, other, none, ConversationId(uuid4())])

    assert {its: [text.seqs for text in texts] for its, texts in found.items()} == {
        garden_id: [ALL],
        other: [range(1, 2)],
    }


def test_many_search_texts_are_read_page_by_page(monkeypatch, maya, garden_id):
    for module in (api, supabase_rows):
        monkeypatch.setattr(module, "LEAST", 2)
    other = begun_with(maya).conversation.id
    each = [range(seq, seq + 1) for seq in ALL]
    for seqs in each:
        put(maya, garden_id, seqs)
    put(maya, other, range(1, 2))

    found = maya.corpus.search_texts([garden_id, other])

    assert [text.seqs for text in found[garden_id]] == each
    assert [text.seqs for text in found[other]] == [range(1, 2)]


# --- sizes


def test_long_messages_are_split_at_the_limit(maya, garden, garden_id):
    every = long_messages(garden, *[60_000] * 7)

    maya.corpus.put_search_texts(listed(maya, garden_id), range(1, 9), every)

    assert ranges(maya, garden_id) == [range(1, 4), range(4, 7), range(7, 9)]
    assert max(sizes(maya, garden_id).values()) <= LARGEST
    assert [message.seq for text in texts(maya, garden_id) for message in text.messages] == [
        *range(1, 8)
    ]


def test_message_that_is_too_long_is_in_no_text(maya, garden, garden_id):
    every = long_messages(garden, 10, 200_000, 190_000, 10)

    maya.corpus.put_search_texts(listed(maya, garden_id), ALL, every)

    assert ranges(maya, garden_id) == [range(1, 2), range(3, 5)]
    assert sizes(maya, garden_id)[3] <= LARGEST


# --- storing


def test_text_takes_the_place_of_those_that_it_replaces(backend, maya, garden_id):
    before = stored(maya)
    put(maya, garden_id, FIRST)
    put(maya, garden_id, SECOND)

    with backend.lose_answer(maya, "put_search_text"):
        put(maya, garden_id, ALL, [1, 3, 99])

    assert ranges(maya.elsewhere(), garden_id) == [ALL]
    assert stored(maya) == before + sum(sizes(maya, garden_id).values())


def test_repeated_call_changes_nothing(backend, maya, garden_id):
    with backend.lose_answer(maya, "put_search_text"):
        put(maya, garden_id)
    before, rows = stored(maya), maya.rows.search_texts([garden_id])

    put(maya.elsewhere(), garden_id)

    assert maya.rows.search_texts([garden_id]) == rows
    assert stored(maya) == before


@pytest.mark.parametrize("seqs", [range(2, 4), range(1, 5), range(2, 3)])
def test_text_that_overlaps_another_is_refused(maya, garden_id, seqs):
    put(maya, garden_id, FIRST)

    with pytest.raises(Stale):
        put(maya, garden_id, seqs, [3])

    assert ranges(maya, garden_id) == [FIRST]


def test_text_of_earlier_messages_is_refused(maya, garden, garden_id):
    before = listed(maya, garden_id)
    delete(maya, garden, 2)

    with pytest.raises(Stale):
        maya.corpus.put_search_texts(before, ALL, garden.messages)

    assert texts(maya, garden_id) == []
    put(maya, garden_id)
    assert bodies(texts(maya, garden_id)[0].messages) == bodies(garden.messages[:2])


def test_full_account_takes_no_search_text(backend, omar):
    its = begun_with(omar).conversation.id
    before = stored(omar)
    backend.bound(omar, 1)
    backend.let_pass(60)

    with pytest.raises(AccountFull):
        put(omar, its, range(1, 2))

    assert (texts(omar, its), stored(omar)) == ([], before)


def test_other_user_reads_writes_and_deletes_no_search_text(maya, omar, garden, garden_id):
    put(maya, garden_id)

    assert texts(omar, garden_id) == []
    with pytest.raises(NotFound):
        omar.corpus.put_search_texts(listed(maya, garden_id), range(5, 6), garden.messages)
    omar.corpus.delete_search_texts()
    assert ranges(maya, garden_id) == [ALL]


# --- deletion


def test_deleted_messages_take_their_search_texts_with_them(maya, garden, garden_id):
    later = range(5, 7)
    for seqs in (FIRST, later):
        put(maya, garden_id, seqs)
    before = stored(maya)
    put(maya, garden_id, SECOND)

    delete(maya, garden, 3)

    assert ranges(maya.elsewhere(), garden_id) == [FIRST, later]
    assert stored(maya) == before


def test_restored_messages_drop_the_texts_without_them(maya, garden, garden_id):
    put(maya, garden_id, FIRST)
    before = stored(maya)
    delete(maya, garden, 2)
    put(maya, garden_id, SECOND)
    assert texts(maya, garden_id)[1] == SearchText(seqs=SECOND, messages=())

    maya.messages.restore(garden_id)

    assert ranges(maya.elsewhere(), garden_id) == [FIRST]
    assert stored(maya) == before


def test_deletion_drops_more_texts_than_one_block_destroys(maya):
    thread = unsaid()
    for number in range(11):
        thread = say(maya, thread, f"Question {number}", f"Answer {number}")
    its, before = thread.conversation.id, stored(maya)
    for seq in range(1, 23):
        put(maya, its, range(seq, seq + 1))
    assert len(texts(maya, its)) == 22

    delete(maya, thread, 0)

    assert (texts(maya, its), stored(maya)) == ([], before)


def test_discarded_chat_keeps_its_search_texts_hidden(maya, garden_id):
    put(maya, garden_id)

    maya.conversations.discard(garden_id, UNDO_SECONDS)

    assert texts(maya, garden_id) == []
    maya.conversations.restore(garden_id)
    assert ranges(maya, garden_id) == [ALL]


def test_discarded_chat_takes_no_search_text(maya, garden, garden_id):
    before = listed(maya, garden_id)
    put(maya, garden_id, FIRST)
    [row] = maya.rows.search_texts([garden_id])
    other = PutSearchText(row=replace(row, number=3, last_seq=4), replaced=(), cuts=before.cuts)
    maya.conversations.discard(garden_id, UNDO_SECONDS)

    with pytest.raises(NotFound):
        maya.corpus.put_search_texts(before, SECOND, garden.messages[2:])
    with pytest.raises(NotFound):
        maya.rows.put_search_text(other)


def test_deleted_chat_leaves_no_search_text(backend, omar):
    before = stored(omar)
    thread = say(omar, unsaid(), "Hello", "Hi.")
    its = thread.conversation.id
    for seq in range(1, 26):  # more than one block destroys
        omar.corpus.put_search_texts(listed(omar, its), range(seq, seq + 1), thread.messages[:0])
    assert len(texts(omar, its)) == 25

    destroy(backend, omar, its)

    assert stored(omar) == before
    assert str(its) not in backend.stored_text()


def test_all_search_texts_of_a_user_are_destroyed(backend, omar):
    one, other, gone = (begun_with(omar).conversation.id for _ in range(3))
    before = stored(omar)
    for its in (one, other, gone):
        put(omar, its, range(1, 2))
    omar.conversations.discard(gone, UNDO_SECONDS)

    omar.corpus.delete_search_texts()

    assert omar.rows.search_texts([one, other, gone]) == []
    assert stored(omar) == before
    put(omar, one, range(1, 2))
    assert ranges(omar, one) == [range(1, 2)]


# --- attacks


@pytest.fixture
def in_parts(maya, garden_id):
    """The garden's id; it has a text of each turn."""
    put(maya, garden_id, FIRST)
    put(maya, garden_id, SECOND)
    return garden_id


def test_swapped_search_text_is_left_out(backend, maya, in_parts):
    first, second = sorted(maya.rows.search_texts([in_parts]), key=lambda row: row.number)

    backend.change_search_text(in_parts, 1, body=second.body)

    assert ranges(maya, in_parts) == [SECOND]
    assert whole(maya.elsewhere().conversations.thread(in_parts))
    backend.change_search_text(in_parts, 3, body=first.body)
    assert texts(maya.elsewhere(), in_parts) == []


def test_search_text_of_another_chat_is_left_out(backend, maya, in_parts):
    other = begun_with(maya).conversation.id
    put(maya, other, FIRST)
    [theirs] = maya.rows.search_texts([other])

    backend.change_search_text(in_parts, 1, body=theirs.body)

    assert ranges(maya, in_parts) == [SECOND]
    assert ranges(maya, other) == [FIRST]


def test_unreadable_search_text_is_replaced(backend, maya, in_parts):
    [other] = [row for row in maya.rows.search_texts([in_parts]) if row.number == 3]
    backend.change_search_text(in_parts, 1, body=other.body)

    put(maya, in_parts, FIRST, FIRST)

    assert ranges(maya, in_parts) == [FIRST, SECOND]


def test_range_of_a_search_text_is_authenticated(backend, maya, in_parts):
    backend.change_search_text(in_parts, 3, last_seq=9)

    assert ranges(maya, in_parts) == [FIRST]
