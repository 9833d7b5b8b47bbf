"""Deletions together with other changes: streaming replies, messages that follow, other deletions."""

from dataclasses import replace
from uuid import uuid4

import pytest

from services.domain import MessageId
from services.errors import AppError, NotFound, TooLate
from tests.store.conformance.talk import (
    UNDO_SECONDS,
    answer,
    bodies,
    crash,
    delete,
    ending,
    new_turn,
    recovery,
    say,
    whole,
)


@pytest.fixture(scope="module")
def maya(busy_user):
    return busy_user


def test_other_messages_are_deleted_while_a_reply_is_coming(maya, garden, garden_id):
    maya.turns.begin(new_turn(garden, None, prompt_id=garden.messages[0].id))

    delete(maya, maya.conversations.thread(garden_id), 2)

    assert maya.conversations.thread(garden_id).messages == garden.messages[:2]


@pytest.mark.parametrize(("first", "last"), [(0, 3), (1, 2)])
def test_message_is_not_deleted_without_its_followers(maya, garden, garden_id, first, last):
    with pytest.raises(AppError):
        delete(maya, garden, first, last)

    assert maya.elsewhere().conversations.thread(garden_id) == garden


def test_messages_deleted_again_outlive_the_first_undo_period(backend, maya, garden, garden_id):
    delete(maya, garden, 2)
    backend.let_pass(UNDO_SECONDS - 5)
    maya.messages.restore(garden_id)
    delete(maya, maya.conversations.thread(garden_id), 2)
    backend.let_pass(10)
    backend.sweep()

    maya.messages.restore(garden_id)

    assert maya.conversations.thread(garden_id).messages == garden.messages


def test_one_undo_restores_messages_of_an_earlier_deletion(backend, maya, garden, garden_id):
    delete(maya, garden, 3)
    backend.let_pass(UNDO_SECONDS - 5)
    delete(maya, maya.conversations.thread(garden_id), 2)
    backend.let_pass(10)
    backend.sweep()

    maya.messages.restore(garden_id)

    assert maya.conversations.thread(garden_id).messages == garden.messages


def test_restored_messages_have_their_receipts(maya, garden, garden_id):
    thread = answer(maya, new_turn(garden, "And leeks?", receipt="Leeks!"), "In April.")
    delete(maya, thread, 4)

    maya.messages.restore(garden_id)

    found = maya.elsewhere().turns.receipts(thread.messages, garden_id)
    assert found == {thread.tip.turn_id: "Leeks!"}


def test_receipt_stays_with_the_whole_version_of_a_reply(backend, maya, garden, garden_id):
    turn, begun = crash(backend, maya, garden, "Half a", receipt="Leeks!")
    backend.sweep()
    partial = recovery(turn, begun, "Half a")
    maya.turns.finish(partial)
    late = replace(partial, reply="Half a reply.", reply_id=MessageId(uuid4()))
    maya.turns.finish(replace(late, settlement=ending(turn, begun, "").settlement))
    other = maya.elsewhere()
    delete(other, whole(other.conversations.thread(garden_id)), 5, 6)
    backend.let_pass(UNDO_SECONDS + 1)
    backend.sweep()

    thread = whole(maya.elsewhere().conversations.thread(garden_id))
    assert bodies(thread.messages)[4:] == ["Will this end?", "Half a reply."]
    assert other.turns.receipts(thread.messages, garden_id) == {begun.turn_id: "Leeks!"}


def test_messages_of_a_discarded_conversation_are_not_deleted(maya, garden, garden_id):
    maya.elsewhere().conversations.discard(garden_id, UNDO_SECONDS)

    with pytest.raises(NotFound):
        delete(maya, garden, 2)


def test_messages_are_restored_though_a_prompt_comes_meanwhile(backend, maya, garden, garden_id):
    other = maya.elsewhere()
    delete(maya, garden, 3)

    def go_on():
        say(other, other.conversations.thread(garden_id), "And leeks?", "In June.")

    with backend.after(maya, "discarded_messages", go_on):
        maya.messages.restore(garden_id)

    thread = whole(maya.conversations.thread(garden_id))
    assert garden.messages[3] in thread.messages


def test_messages_whose_time_ends_meanwhile_are_not_restored(backend, maya, garden, garden_id):
    delete(maya, garden, 2)

    with (
        backend.after(maya, "discarded_messages", lambda: backend.let_pass(UNDO_SECONDS + 1)),
        pytest.raises(TooLate),
    ):
        maya.messages.restore(garden_id)

    assert whole(maya.conversations.thread(garden_id)).messages == garden.messages[:2]
