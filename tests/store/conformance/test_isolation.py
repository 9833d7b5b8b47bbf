"""Isolation: one user's rows are missing for every other user."""

import pytest

from services.domain import Full, Preferences
from services.domain.turns import Lease
from services.errors import NotFound, Stale
from services.store.writes import FinishTurn
from tests.store.conformance.talk import (
    SUMMARY,
    THOUGHTS,
    UNDO_SECONDS,
    a_fact,
    answer,
    begun_with,
    choose,
    delete,
    ending,
    new_turn,
    stored_space,
    texts,
)


def of_conversations(verb, *arguments):
    return lambda user, garden: getattr(user.conversations, verb)(
        garden.conversation.id, *arguments
    )


ATTEMPTS = {
    verb: of_conversations(verb, *arguments)
    for verb, *arguments in (
        ("thread",),
        ("rename", "Mine"),
        ("give_title", "Mine"),
        ("discard", UNDO_SECONDS),
        ("restore",),
        ("pin",),
        ("archive",),
        ("set_policy", Full()),
        ("set_model", "large"),
        ("instructions",),
        ("set_instructions", "Mine now."),
        ("move", None),
    )
} | {
    "set_summary": lambda user, garden: user.conversations.set_summary(garden, SUMMARY),
    "start_anew": lambda user, garden: user.conversations.start_anew(garden),
    "mark_read": lambda user, garden: user.conversations.mark_read(garden),
    "discard_messages": lambda user, garden: delete(user, garden, 2),
    "restore_messages": lambda user, garden: user.messages.restore(garden.conversation.id),
    "edit_reply": lambda user, garden: user.messages.edit_reply(garden, garden.messages[1], "No."),
    "begin_turn": lambda user, garden: user.turns.begin(new_turn(garden, "Hello")),
    "keep_fact": lambda user, garden: user.facts.keep(
        a_fact(conversation_id=garden.conversation.id)
    ),
}


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_conversation_of_another_user_is_not_found(noah, pond, zoe, attempt):
    with pytest.raises((NotFound, Stale)):  # Stale, because the conversation was never read
        ATTEMPTS[attempt](zoe, pond)

    assert noah.conversations.thread(pond.conversation.id) == pond


def test_lists_hold_no_conversation_of_another_user(pond, zoe):
    assert zoe.conversations.recent() == []
    assert zoe.conversations.titled("garden") == []
    assert zoe.conversations.some([pond.conversation.id]) == []
    assert zoe.conversations.cached(pond.conversation.id) is None


def test_turn_of_another_user_is_neither_read_nor_ended(maya, omar, garden, garden_id):
    turn = new_turn(garden, "And leeks?", receipt="Leeks!")
    begun = maya.turns.begin(turn)
    with pytest.raises(NotFound):
        omar.turns.read(garden_id)

    omar.turns.stop(garden_id, begun.turn_id)
    theirs = ending(turn, begun, "Mine.")
    omar.turns.finish(theirs)
    with pytest.raises(NotFound):
        omar.rows.finish_turn(
            FinishTurn(conversation_id=garden_id, settlement=theirs.settlement, reply=None)
        )

    assert maya.turns.checkpoint(begun.turn_id, garden_id, "In A", 30) is Lease.HELD


def test_costs_receipts_and_thoughts_of_another_user_are_missing(maya, omar, garden, garden_id):
    turn = new_turn(garden, "And leeks?", receipt="Leeks!")
    messages = answer(maya, turn, "In April.", thoughts=THOUGHTS).messages

    for read in (omar.turns.costs, omar.turns.receipts, omar.turns.thoughts):
        try:
            assert read(messages, garden_id) == {}
        except NotFound:
            continue


def test_deleted_messages_of_another_user_are_not_restored(maya, omar, garden, garden_id):
    delete(maya, garden, 2)

    with pytest.raises(NotFound):
        omar.messages.restore(garden_id)

    assert not omar.messages.can_restore(garden_id)
    assert len(maya.conversations.thread(garden_id).messages) == 2


def test_deletion_destroys_no_fact_of_another_user(maya, omar, garden):
    fact = a_fact()
    omar.facts.keep(fact)

    delete(maya, garden, 2, facts=[fact.id])

    assert texts(omar.elsewhere()) == [fact.text]


def test_facts_and_spaces_of_another_user_are_safe(maya, omar):
    fact, space = a_fact(), stored_space(maya)
    maya.facts.keep(fact)
    assert (texts(omar), omar.spaces.all()) == ([], ())

    omar.facts.forget(fact.id)
    omar.facts.forget_all()
    omar.spaces.forget(space.id)
    for document in (fact, space):
        with pytest.raises(NotFound):
            omar.rows.delete_document(document.id)

    other = maya.elsewhere()
    assert (texts(other), len(other.spaces.all())) == ([fact.text], 1)


def test_space_of_another_user_holds_nothing(maya, omar):
    space = stored_space(maya)
    thread = begun_with(omar)

    with pytest.raises(NotFound):
        omar.facts.keep(a_fact(space_id=space.id))
    with pytest.raises(NotFound):
        omar.conversations.move(thread.conversation.id, space.id)


def test_messages_of_another_user_are_not_in_the_corpus(pond, zoe):
    assert zoe.corpus.conversations() == {}
    assert (
        zoe.corpus.some(dict.fromkeys((one.id for one in pond.messages), pond.conversation.id))
        == {}
    )
    assert not any(zoe.corpus.messages({pond.conversation.id: range(1, 5)}))


def test_preferences_of_another_user_are_unread(maya, omar):
    choose(maya, instructions="Be brief.")

    assert omar.preferences.preferences() == Preferences()
