"""Attachments: listed by their message, read in pieces, and deleted with it."""

from dataclasses import replace
from uuid import uuid4

import pytest

from services.crypto import LARGEST_PIECE
from services.domain import AttachmentId
from services.errors import AccountFull, NotFound, Stale, Tampered
from tests.store.conformance.backends import Text
from tests.store.conformance.talk import (
    UNDO_SECONDS,
    answer,
    attached,
    bodies,
    delete,
    destroy,
    new_turn,
    say,
    unsaid,
    whole,
)

LEAF, ROOT = (b"\x89PNG\r\n", b"\xff\xfe and more"), (b"\0" * 5,)


@pytest.fixture(scope="module")
def maya(busy_user):
    return busy_user


@pytest.fixture
def drawn(maya, garden):
    """The garden with one more turn, whose prompt has two attachments."""
    turn = new_turn(garden, "What are these?")
    turn = attached(maya, attached(maya, turn, *LEAF), *ROOT, name="root.png")
    return answer(maya, turn, "A leaf and a root.")


@pytest.fixture
def its(drawn):
    """The id of the garden."""
    return drawn.conversation.id


def with_files(thread):
    return next(one for one in thread.messages if one.attachments)


def pieces(user, its, message, number=0):
    return tuple(user.attachments.read(its, message, message.attachments[number]))


def stored(user):
    return user.store.usage.stored().sealed_bytes


def test_attachments_are_read_as_they_were_stored(reader, drawn, its):
    message = with_files(whole(reader.conversations.thread(its)))

    assert message.attachments == with_files(drawn).attachments
    assert [(one.name, one.size) for one in message.attachments] == [
        ("leaf.png", len(b"".join(LEAF))),
        ("root.png", 5),
    ]
    assert pieces(reader, its, message) == LEAF
    assert pieces(reader, its, message, 1) == ROOT


def test_large_attachment_is_read_in_its_order(maya, garden, garden_id):
    large = bytes(range(256)) * (LARGEST_PIECE // 256)
    every = (large, *(bytes([number]) for number in range(1, 19)))
    thread = answer(maya, attached(maya, new_turn(garden, "Look"), *every), "I see.")

    assert pieces(maya, garden_id, with_files(thread)) == every


def test_first_prompt_of_a_branch_keeps_its_attachments(maya, drawn, its):
    again = answer(maya, new_turn(drawn, None, prompt_id=with_files(drawn).id), "A weed.")

    assert whole(again).messages[-1].parent_id == with_files(again).id
    assert with_files(again) == with_files(drawn)


def test_thread_is_whole_without_a_piece_read(backend, maya, drawn, its):
    for one in with_files(drawn).attachments:
        backend.delete_pieces(one.id)

    thread = whole(maya.elsewhere().conversations.thread(its))

    assert with_files(thread).attachments == with_files(drawn).attachments


# --- tampering


def leaf_and_root(message):
    return [one.id for one in message.attachments]


def other_message(backend, maya, omar, thread):
    """Replace a piece of the first message by a piece with the same content of another message of the chat."""
    turn = attached(maya, new_turn(thread, "What are these?"), *LEAF)
    later = answer(maya, turn, "Leaves.").messages[-2]
    backend.copy_piece((later.attachments[0].id, 1), (leaf_and_root(with_files(thread))[0], 1))


def other_user(backend, maya, omar, thread):
    turn = new_turn(say(omar, unsaid(), "Hello", "Hi."), "What is this?")
    theirs = attached(omar, turn, *LEAF).attachments[0].id
    backend.copy_piece((theirs, 1), (leaf_and_root(with_files(thread))[0], 1))


def between_attachments(backend, maya, omar, thread):
    leaf, root = leaf_and_root(with_files(thread))
    backend.copy_piece((root, 1), (leaf, 1))


def between_numbers(backend, maya, omar, thread):
    leaf, _ = leaf_and_root(with_files(thread))
    backend.copy_piece((leaf, 2), (leaf, 1))


def missing(backend, maya, omar, thread):
    backend.delete_pieces(leaf_and_root(with_files(thread))[0])


@pytest.mark.parametrize(
    "change", [other_message, other_user, between_attachments, between_numbers, missing]
)
def test_changed_piece_does_not_open(backend, maya, omar, drawn, its, change):
    change(backend, maya, omar, drawn)

    there = maya.elsewhere()
    message = with_files(whole(there.conversations.thread(its)))

    with pytest.raises(Tampered):
        pieces(there, its, message)
    assert pieces(there, its, message, 1) == ROOT


def test_piece_sealed_again_is_not_the_one_listed(maya, drawn, its):
    message = with_files(drawn)
    leaf, root = message.attachments
    listed = replace(leaf, macs=(leaf.macs[0], root.macs[0]))

    with pytest.raises(Tampered):
        pieces(maya, its, replace(message, attachments=(listed,)))


def without_list(thread):
    return thread.messages[0]


def other_list(maya, thread):
    turn = attached(maya, new_turn(thread, "What are these?"), *LEAF)
    return answer(maya, turn, "Leaves.").messages[-2]


@pytest.mark.parametrize("is_removed", [True, False])
def test_message_with_another_list_is_unreadable(backend, maya, drawn, its, is_removed):
    source = without_list(drawn) if is_removed else other_list(maya, drawn)
    message = with_files(drawn)
    backend.copy(
        Text("message", source.id, "attachments"), Text("message", message.id, "attachments")
    )

    there = maya.elsewhere()
    thread = there.conversations.thread(its)

    assert not thread.is_whole
    [unread] = [one for one in thread.messages if not one.is_verified]
    assert (unread.id, unread.body, unread.attachments) == (message.id, "", ())
    assert message.id not in there.corpus.some({message.id: its})


def test_list_added_to_a_message_is_noticed(backend, maya, drawn, its):
    first, message = drawn.messages[0], with_files(drawn)
    backend.copy(
        Text("message", message.id, "attachments"), Text("message", first.id, "attachments")
    )

    thread = maya.elsewhere().conversations.thread(its)

    assert not thread.is_whole
    assert not thread.messages[0].is_verified


def test_deleted_message_is_not_restored_without_its_list(backend, maya, drawn, its):
    delete(maya, drawn, 4)
    first, message = drawn.messages[0], with_files(drawn)
    backend.copy(
        Text("message", first.id, "attachments"), Text("message", message.id, "attachments")
    )

    with pytest.raises(Tampered):
        maya.messages.restore(its)


# --- storing


def test_piece_is_stored_once_though_the_answer_was_lost(backend, maya, garden, garden_id):
    turn, before = new_turn(garden, "Look"), stored(maya)
    with backend.lose_answer(maya, "put_piece"):
        turn = attached(maya, turn, LEAF[0])

    thread = answer(maya, turn, "I see.")

    assert pieces(maya.elsewhere(), garden_id, with_files(thread)) == LEAF[:1]
    assert stored(maya) > before


def test_number_of_a_piece_is_given_once(maya, drawn, its):
    message = with_files(drawn)

    with pytest.raises(Stale):
        maya.attachments.put_piece(its, message.id, message.attachments[0].id, 1, b"other")

    assert pieces(maya, its, message) == LEAF


def test_chat_of_another_user_takes_no_piece(maya, omar, drawn, its):
    with pytest.raises(NotFound):
        omar.attachments.put_piece(its, with_files(drawn).id, AttachmentId(uuid4()), 1, b"mine")
    with pytest.raises(NotFound):
        pieces(omar, its, with_files(drawn))


def test_full_account_takes_no_piece(backend, omar):
    thread = say(omar, unsaid(), "Hello", "Hi.")
    before = stored(omar)
    backend.bound(omar, 1)
    backend.let_pass(60)

    with pytest.raises(AccountFull):
        attached(omar, new_turn(thread, "Look"), *LEAF)

    assert stored(omar) == before


# --- deletion


def test_deleted_messages_take_their_pieces_with_them(backend, omar):
    garden = say(omar, unsaid(), "Hello", "Hi.")
    before = stored(omar)
    thread = answer(omar, attached(omar, new_turn(garden, "Look"), *LEAF, *ROOT), "I see.")
    its = str(with_files(thread).attachments[0].id)
    assert its in backend.stored_text()
    delete(omar, thread, 2)
    assert stored(omar) > before

    backend.let_pass(UNDO_SECONDS + 1)
    backend.sweep()

    assert its not in backend.stored_text()
    assert stored(omar) == before


def test_restored_messages_have_their_attachments(maya, drawn, its):
    delete(maya, drawn, 4)

    maya.messages.restore(its)

    thread = whole(maya.elsewhere().conversations.thread(its))
    assert bodies(thread.messages) == bodies(drawn.messages)
    assert pieces(maya.elsewhere(), its, with_files(thread)) == LEAF


@pytest.mark.parametrize("is_sent", [True, False])
def test_deleted_chat_leaves_no_piece(backend, omar, is_sent):
    before = stored(omar)
    thread = say(omar, unsaid(), "Hello", "Hi.")
    turn = attached(omar, new_turn(thread, "Look"), *(bytes([n]) for n in range(70)))
    if is_sent:
        answer(omar, turn, "I see.")
    its = str(turn.attachments[0].id)
    assert its in backend.stored_text()

    destroy(backend, omar, thread.conversation.id)

    assert its not in backend.stored_text()
    assert stored(omar) == before
