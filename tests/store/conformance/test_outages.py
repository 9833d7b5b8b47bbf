"""Outages: the data that is shown while the store is unavailable, and writes whose answer was lost."""

from contextlib import ExitStack, contextmanager

import pytest

from services.errors import StoreUnavailable
from tests.store.conformance.talk import (
    UNDO_SECONDS,
    a_fact,
    begun_with,
    bodies,
    choose,
    delete,
    ending,
    first_turn,
    new_turn,
    stored_space,
    texts,
    whole,
)

# --- unavailable

CALLS = {
    "thread": lambda user, garden: user.conversations.thread(garden.conversation.id),
    "first_turn": lambda user, _: user.turns.begin(first_turn("Hello")),
    "rename": lambda user, garden: user.conversations.rename(garden.conversation.id, "Other"),
    "begin_turn": lambda user, garden: user.turns.begin(new_turn(garden, "Hello")),
    "open_turn": lambda user, garden: user.turns.read(garden.conversation.id)[1],
    "discard_messages": lambda user, garden: delete(user, garden, 2),
    "keep_fact": lambda user, _: user.facts.keep(a_fact()),
    "fresh_facts": lambda user, _: user.facts.fresh_facts(),
    "spaces": lambda user, _: user.spaces.all(),
    "preferences": lambda user, _: user.preferences.preferences(),
    "choose": lambda user, _: choose(user, model="large"),
    "corpus": lambda user, _: user.corpus.conversations(),
}


@pytest.mark.parametrize("call", CALLS)
def test_call_of_an_unavailable_store_is_refused(backend, noah, pond, call):
    other = noah.elsewhere()
    other.conversations.thread(pond.conversation.id)

    with backend.unavailable(noah), pytest.raises(StoreUnavailable):
        CALLS[call](other, pond)

    assert noah.conversations.thread(pond.conversation.id) == pond


def test_reply_is_stored_when_the_outage_is_over(backend, maya, garden, garden_id):
    turn = new_turn(garden, "And leeks?")
    end = ending(turn, maya.turns.begin(turn), "In April.")
    with backend.unavailable(maya), pytest.raises(StoreUnavailable):
        maya.turns.finish(end)

    maya.turns.finish(end)

    assert bodies(maya.conversations.thread(garden_id).messages)[4:] == ["And leeks?", "In April."]


def test_lists_are_shown_as_read_last_during_an_outage(backend, maya):
    space = stored_space(maya)
    maya.conversations.move(begun_with(maya, "Peas").conversation.id, space.id)
    begun_with(maya, "Beans")
    of_space, every = maya.conversations.recent(space_id=space.id), maya.conversations.recent()

    with backend.unavailable(maya):
        assert maya.conversations.recent(space_id=space.id) == of_space
        assert maya.conversations.recent() == every
        with pytest.raises(StoreUnavailable):
            maya.conversations.recent(is_archived=True)


def test_cached_thread_is_shown_during_an_outage(backend, maya, garden, garden_id):
    with backend.unavailable(maya):
        assert maya.conversations.cached(garden_id) == garden


def test_documents_are_shown_as_read_last_during_an_outage(backend, maya):
    space = stored_space(maya)
    maya.facts.keep(a_fact())
    choose(maya, model="large")
    texts(maya), maya.spaces.all(), maya.preferences.preferences()
    backend.let_pass(120)

    with backend.unavailable(maya):
        assert texts(maya) == ["Has a dog called Rex."]
        assert [one.id for one in maya.spaces.all()] == [space.id]
        assert maya.preferences.preferences().model == "large"


def test_preferences_stored_last_are_shown_during_an_outage(backend, maya):
    choose(maya, model="large")

    with backend.unavailable(maya):
        assert maya.preferences.preferences().model == "large"


def test_deleted_facts_are_not_shown_during_an_outage(backend, maya):
    dog, cat = a_fact(), a_fact("Has a cat.")
    for fact in (dog, cat):
        maya.facts.keep(fact)
    assert len(texts(maya)) == 2

    maya.facts.forget(dog.id)

    with backend.unavailable(maya):
        assert texts(maya) == ["Has a cat."]
    maya.facts.forget_all()
    with backend.unavailable(maya):
        assert texts(maya) == []


def test_deleted_space_is_not_shown_during_an_outage(backend, maya):
    spanish = stored_space(maya)
    stored_space(maya, "Greek")
    maya.facts.keep(a_fact(space_id=spanish.id))
    assert len(maya.spaces.all()) == 2
    assert len(texts(maya)) == 1

    maya.spaces.forget(spanish.id)

    with backend.unavailable(maya):
        assert [space.name for space in maya.spaces.all()] == ["Greek"]
        assert texts(maya) == []


def test_deleted_conversation_is_not_shown_during_an_outage(backend, maya, garden_id):
    maya.facts.keep(a_fact(conversation_id=garden_id))
    assert len(maya.conversations.recent()) == len(maya.conversations.titled("garden")) == 1
    assert len(texts(maya)) == 1

    maya.conversations.discard(garden_id, UNDO_SECONDS)

    with backend.unavailable(maya):
        assert maya.conversations.recent() == maya.conversations.titled("garden") == []
        assert maya.conversations.cached(garden_id) is None
        assert texts(maya) == []


# --- lost answers


def test_edit_whose_answer_was_lost_is_stored_once(backend, maya, garden, garden_id):
    with backend.lose_answer(maya, "edit_reply"):
        maya.messages.edit_reply(garden, garden.messages[1], "In April.")

    thread = maya.elsewhere().conversations.thread(garden_id)
    assert bodies(whole(thread).messages)[4:] == ["In April."]


def test_delete_whose_answer_was_lost_is_done_once(backend, maya, garden, garden_id):
    with backend.lose_answer(maya, "discard_messages"):
        delete(maya, garden, 2)

    assert maya.elsewhere().conversations.thread(garden_id).messages == garden.messages[:2]


def test_undo_whose_answer_was_lost_is_done_once(backend, maya, garden, garden_id):
    delete(maya, garden, 2)

    with backend.lose_answer(maya, "restore_messages"):
        maya.messages.restore(garden_id)

    thread = maya.elsewhere().conversations.thread(garden_id)
    assert (thread.is_whole, thread.messages) == (True, garden.messages)


def test_undo_of_a_deleted_conversation_whose_answer_was_lost_is_done(
    backend, maya, garden, garden_id
):
    maya.conversations.discard(garden_id, UNDO_SECONDS)

    with backend.lose_answer(maya, "restore_conversation"):
        maya.conversations.restore(garden_id)

    assert maya.elsewhere().conversations.thread(garden_id) == garden


PUT = {
    "fact": lambda user, _: user.facts.keep(a_fact()),
    "preferences": lambda user, _: choose(user, model="large"),
    "instructions": lambda user, its: user.conversations.set_instructions(its, "Be brief."),
}


@pytest.mark.parametrize("kind", PUT)
def test_document_whose_answer_was_lost_is_stored_once(backend, maya, garden_id, kind):
    with backend.lose_answer(maya, "put_document"):
        PUT[kind](maya, garden_id)

    other = maya.elsewhere()
    stored = {
        "fact": texts(other) == ["Has a dog called Rex."],
        "preferences": other.preferences.preferences().model == "large",
        "instructions": other.conversations.instructions(garden_id) == "Be brief.",
    }
    assert [each for each, is_stored in stored.items() if is_stored] == [kind]


@contextmanager
def outage_after(backend, user, verb):
    """Execute the next *verb* of *user*, and lose its answer and all later calls."""
    with ExitStack() as outage:

        def begin():
            outage.enter_context(backend.unavailable(user))
            raise backend.lost

        with backend.after(user, verb, begin), pytest.raises(StoreUnavailable):
            yield


def test_fact_whose_answer_was_lost_is_read_again(backend, maya):
    assert texts(maya) == []

    with outage_after(backend, maya, "put_document"):
        maya.facts.keep(a_fact())

    assert texts(maya) == ["Has a dog called Rex."]


def test_preferences_whose_answer_was_lost_are_read_again(backend, maya):
    assert maya.preferences.preferences().model is None

    with outage_after(backend, maya, "put_document"):
        choose(maya, model="large")

    assert maya.preferences.preferences().model == "large"
