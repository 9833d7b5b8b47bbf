"""Thoughts as they are stored: sealed in a place of their own, and read apart from messages."""

import pytest

from services.domain import Outcome, Thoughts, Window
from services.store.conversations import Conversations
from services.store.turns import THOUGHTS
from tests.store.test_conversations import ending, new_turn

THOUGHT = Thoughts(text="Peas like it cold.", seconds=12, is_shortened=True)


def think(conversations, thread, *replies):
    for reply in replies:
        turn = new_turn(thread, "When?")
        begun = conversations.begin_turn(turn)
        conversations.finish_turn(ending(turn, begun, reply, thoughts=THOUGHT))
        thread = conversations.thread(thread.conversation.id)
    return thread


@pytest.fixture
def garden(conversations):
    return think(conversations, conversations.create("Garden", Window()), "In March.", "In May.")


def thoughts_for_a_newcomer(maya, garden):
    """Those of each reply, by a process that knows nothing."""
    kept = Conversations(maya)
    thread = kept.thread(garden.conversation.id)
    assert thread.is_whole
    known = kept.thoughts(thread.messages, garden.conversation.id)
    return [known[one.id] for one in thread.messages if one.has_thoughts]


def test_thoughts_are_there_again_for_a_reader_who_knows_nothing(garden, maya):
    assert thoughts_for_a_newcomer(maya, garden) == [THOUGHT, THOUGHT]


def test_thoughts_alone_are_a_message(conversations, maya):
    empty = think(conversations, conversations.create("Garden", Window()), "")

    assert thoughts_for_a_newcomer(maya, empty) == [THOUGHT]


def test_messages_without_thoughts_are_not_asked_for_them(garden, conversations, monkeypatch):
    monkeypatch.setattr(THOUGHTS, "rows_of", None)

    prompts = [one for one in garden.messages if not one.has_thoughts]
    assert conversations.thoughts(prompts, garden.conversation.id) == {}


@pytest.mark.parametrize("taken", ["thoughts", "body"])
def test_thoughts_open_in_their_own_place_alone(garden, maya, stack, taken):
    first, second = [one.id for one in garden.messages if one.has_thoughts]
    source = first if taken == "thoughts" else second
    with stack.connect() as database:
        database.execute(
            f"update public.messages set thoughts = (select {taken} from public.messages where id = %s)"
            " where id = %s",
            [source, second],
        )

    assert thoughts_for_a_newcomer(maya, garden) == [THOUGHT, Thoughts(is_verified=False)]


def test_partial_thoughts_outlive_a_checkpoint_without_any(conversations, maya, garden):
    turn = new_turn(garden, "Will this end?")
    begun = conversations.begin_turn(turn)
    here = garden.conversation.id
    conversations.checkpoint_turn(begun.turn_id, here, "", 30, THOUGHT)
    conversations.checkpoint_turn(begun.turn_id, here, "I", 30)

    left = Conversations(maya).open_turn(here)

    assert (left.said, left.thoughts) == ("I", THOUGHT)
    conversations.finish_turn(ending(turn, begun, "", outcome=Outcome.FAILED))
