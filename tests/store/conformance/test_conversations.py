"""Conversations: created, listed, found by title, changed, discarded and deleted."""

from uuid import uuid4

import pytest

from services.domain import ConversationId, Full, Retrieval, Summary, Window
from services.errors import BadInput, NotFound, SpaceGone
from tests.store.conformance.talk import (
    UNDO_SECONDS,
    begun_with,
    destroy,
    ending,
    new_turn,
    say,
    stored_space,
    titles,
)


@pytest.fixture
def create(maya):
    """Return a function that creates conversations and returns their ids by title."""

    def create(*names):
        return {name: begun_with(maya, name).conversation.id for name in names}

    return create


# --- create and read


def test_missing_conversation_is_not_found(noah):
    with pytest.raises(NotFound):
        noah.conversations.thread(ConversationId(uuid4()))


def test_some_returns_existing_conversations(maya, create):
    ids = create("One", "Two", "Three")
    maya.conversations.discard(ids["Two"], UNDO_SECONDS)

    found = maya.conversations.some([ids["One"], ids["Two"], ConversationId(uuid4())])

    assert titles(found) == ["One"]
    assert maya.conversations.some([ids["One"]])


def test_thread_read_last_is_cached(maya, garden, garden_id):
    assert maya.conversations.cached(garden_id) == garden
    assert maya.elsewhere().conversations.cached(garden_id) is None


# --- lists


def test_newest_conversation_is_listed_first(maya, create):
    create("One", "Two", "Three")
    first = maya.conversations.recent()[-1]

    say(maya, maya.conversations.thread(first.id), "And?", "Yes.")

    assert titles(maya.conversations.recent()) == ["One", "Three", "Two"]
    assert titles(maya.conversations.recent(2)) == ["One", "Three"]


def test_pinned_conversations_are_listed_first(maya, create):
    ids = create("One", "Two", "Three")
    maya.conversations.pin(ids["Two"])
    maya.conversations.pin(ids["One"])
    assert titles(maya.conversations.recent()) == ["One", "Two", "Three"]

    maya.conversations.pin(ids["Two"], is_pinned=False)

    assert titles(maya.conversations.recent()) == ["One", "Three", "Two"]


def test_archived_conversations_are_listed_apart_and_unpinned(maya, create):
    ids = create("One", "Two")
    maya.conversations.pin(ids["One"])

    maya.conversations.archive(ids["One"])

    assert titles(maya.conversations.recent()) == ["Two"]
    assert titles(maya.conversations.recent(is_archived=True)) == ["One"]
    assert maya.conversations.thread(ids["One"]).conversation.is_archived
    maya.conversations.archive(ids["One"], is_archived=False)
    assert titles(maya.conversations.recent()) == ["Two", "One"]


@pytest.fixture
def spanish(maya, create):
    """A space with two conversations and an archived one; another conversation is in no space."""
    space, ids = stored_space(maya), create("Peas", "Peas II", "Beans", "Peas of none")
    for name in ("Peas", "Peas II", "Beans"):
        maya.conversations.move(ids[name], space.id)
    maya.conversations.pin(ids["Peas"])
    maya.conversations.archive(ids["Beans"])
    return space


def test_conversations_of_a_space_are_listed(spanish, reader):
    stored = reader.conversations
    assert titles(stored.recent(space_id=spanish.id)) == ["Peas", "Peas II"]
    assert titles(stored.recent(1, space_id=spanish.id)) == ["Peas"]
    assert titles(stored.recent(is_archived=True, space_id=spanish.id)) == ["Beans"]
    assert titles(stored.titled("peas", space_id=spanish.id)) == ["Peas", "Peas II"]
    assert len(stored.titled("peas")) == 3


# --- titles


def test_conversations_are_found_by_words_of_their_titles(maya, create):
    ids = create("Peas in March", "Beans", "March hares", "A march in May")
    maya.conversations.archive(ids["Peas in March"])
    maya.conversations.discard(ids["A march in May"], UNDO_SECONDS)

    assert titles(maya.conversations.titled("mARCH")) == ["March hares", "Peas in March"]
    assert titles(maya.conversations.titled("march", 1)) == ["March hares"]
    assert titles(maya.conversations.titled("march in")) == ["Peas in March"]


def test_changed_titles_are_found_at_once(maya, create):
    ids = create("Beans", "A march in May")
    maya.conversations.discard(ids["A march in May"], UNDO_SECONDS)
    assert titles(maya.conversations.titled("may")) == []

    maya.conversations.rename(ids["Beans"], "Beans in May")
    maya.conversations.restore(ids["A march in May"])

    assert titles(maya.conversations.titled("may")) == ["A march in May", "Beans in May"]


def test_title_changed_elsewhere_is_found_after_ten_seconds(backend, maya, garden_id):
    assert titles(maya.conversations.titled("garden")) == ["Garden"]
    maya.elsewhere().conversations.rename(garden_id, "Orchard")

    backend.let_pass(11)

    assert titles(maya.conversations.titled("orchard")) == ["Orchard"]


def test_title_is_stored_on_one_line(maya, garden_id):
    maya.conversations.rename(garden_id, "  The \n  garden ")

    assert titles(maya.elsewhere().conversations.recent()) == ["The garden"]


@pytest.mark.parametrize("title", ["   ", "\x00", "x" * 121, "half \ud800"])
def test_invalid_title_is_refused(noah, pond, title):
    with pytest.raises(BadInput):
        noah.conversations.rename(pond.conversation.id, title)


def test_models_title_replaces_the_first_words(maya, garden, garden_id):
    assert not garden.conversation.is_titled

    assert maya.conversations.give_title(garden_id, "Sowing peas") is True

    conversation = maya.elsewhere().conversations.thread(garden_id).conversation
    assert (conversation.title, conversation.is_titled) == ("Sowing peas", True)


def test_models_title_replaces_no_other_title(maya, garden_id):
    maya.conversations.give_title(garden_id, "Garden II")

    assert maya.conversations.give_title(garden_id, "Sowing peas") is False
    assert titles(maya.conversations.recent()) == ["Garden II"]
    maya.conversations.rename(garden_id, "My garden")
    assert maya.conversations.give_title(garden_id, "Sowing peas") is False
    assert titles(maya.conversations.recent()) == ["My garden"]


# --- model, memory policy and context, space, unread


def test_model_and_memory_policy_are_stored(maya, garden_id):
    for name, value in (
        ("model", "meta-llama/Llama-3.3-70B"),
        ("model", None),
        *[("policy", policy) for policy in (Full(), Window(8), Summary(), Retrieval())],
    ):
        getattr(maya.conversations, f"set_{name}")(garden_id, value)

        stored = maya.elsewhere().conversations.thread(garden_id)
        for thread in (maya.conversations.cached(garden_id), stored):
            assert getattr(thread.conversation, name) == value, (name, value)


def starts(user, conversation_id):
    """Return the starts of the context and of the view, after a check that the cached ones equal the stored ones."""
    cached = user.conversations.cached(conversation_id).conversation
    assert user.elsewhere().conversations.thread(conversation_id).conversation == cached
    return cached.reset_seq, cached.start_seq


def test_cleared_context_starts_after_the_newest_message(maya, garden, garden_id):
    maya.conversations.start_anew(garden)
    assert starts(maya, garden_id) == (4, 4)

    maya.conversations.take_back_reset(garden)
    assert starts(maya, garden_id) == (0, 0)


def test_new_policy_moves_the_view_to_the_context_start(maya, garden, garden_id):
    maya.conversations.start_anew(garden)
    thread = say(maya, maya.conversations.thread(garden_id), "Leeks?", "Yes.")
    begun = maya.turns.begin(turn := new_turn(thread, "And?", start_seq=6))
    maya.turns.finish(ending(turn, begun, "No."))
    maya.conversations.thread(garden_id)
    assert starts(maya, garden_id) == (4, 6)

    maya.conversations.set_policy(garden_id, Full())

    assert starts(maya, garden_id) == (4, 4)


def test_conversation_moves_between_spaces(maya, garden_id):
    for space_id in (stored_space(maya).id, stored_space(maya, "Greek").id, None):
        maya.conversations.move(garden_id, space_id)

        assert maya.conversations.cached(garden_id).conversation.space_id == space_id
        assert maya.elsewhere().conversations.recent()[0].space_id == space_id


def test_conversation_stays_when_its_space_is_deleted(maya, garden_id):
    space = stored_space(maya)
    maya.conversations.move(garden_id, space.id)

    maya.spaces.forget(space.id)

    assert maya.elsewhere().conversations.thread(garden_id).conversation.space_id is None
    with pytest.raises(SpaceGone):
        maya.conversations.move(garden_id, space.id)


def test_deleted_conversation_moves_nowhere(backend, maya, garden_id):
    space = stored_space(maya)
    destroy(backend, maya, garden_id)

    with pytest.raises(NotFound) as gone:
        maya.conversations.move(garden_id, space.id)

    assert gone.type is NotFound


def test_reply_is_unread_until_it_is_marked(maya, garden, garden_id):
    assert maya.conversations.recent()[0].is_unread
    assert garden.conversation.is_unread

    maya.conversations.mark_read(garden)

    assert not maya.conversations.recent()[0].is_unread
    assert not maya.elsewhere().conversations.thread(garden_id).conversation.is_unread


def test_reading_goes_neither_back_nor_beyond(maya, garden, garden_id):
    newer = say(maya, garden, "And leeks?", "In April.")
    maya.conversations.mark_read(newer)

    maya.conversations.mark_read(garden)

    assert not maya.conversations.thread(garden_id).conversation.is_unread
    assert say(maya, newer, "And kale?", "In June.").conversation.is_unread


def test_choices_make_nothing_stale_or_newer(maya, garden, garden_id):
    begun_with(maya)
    maya.conversations.set_model(garden_id, "large")
    maya.conversations.set_instructions(garden_id, "Answer in verse.")
    maya.conversations.rename(garden_id, "Garden II")
    assert titles(maya.conversations.recent()) == ["Other", "Garden II"]

    assert say(maya, garden, "And leeks?", "In April.").is_whole


def test_prompt_marks_older_messages_as_read(maya, garden, garden_id):
    maya.turns.begin(new_turn(garden, "And leeks?"))

    assert not maya.conversations.thread(garden_id).conversation.is_unread


# --- discard, restore and delete


def test_discarded_conversation_is_not_found(maya, garden_id, reader):
    stored = reader.conversations
    stored.thread(garden_id)
    maya.conversations.read_ahead()

    maya.conversations.discard(garden_id, UNDO_SECONDS)

    assert maya.conversations.recent(31) == []
    assert stored.recent() == stored.recent(is_archived=True) == []
    with pytest.raises(NotFound):
        stored.thread(garden_id)
    assert stored.cached(garden_id) is None
    assert stored.some([garden_id]) == []


def test_restored_conversation_is_unchanged(backend, maya, garden, garden_id):
    maya.conversations.pin(garden_id)
    before = maya.conversations.thread(garden_id)
    maya.conversations.discard(garden_id, UNDO_SECONDS)
    backend.sweep()

    maya.conversations.restore(garden_id)

    assert maya.elsewhere().conversations.thread(garden_id) == before
    assert titles(maya.elsewhere().conversations.recent()) == ["Garden"]
    maya.conversations.restore(garden_id)  # a second call changes nothing
    assert maya.elsewhere().conversations.thread(garden_id) == before


def test_discarded_conversation_is_destroyed_after_the_undo_period(backend, maya, garden_id):
    maya.conversations.discard(garden_id, UNDO_SECONDS)
    maya.conversations.discard(garden_id, 3600)  # a second call does not prolong the time
    backend.let_pass(UNDO_SECONDS + 1)

    backend.sweep()

    assert str(garden_id) not in backend.stored_text()
    with pytest.raises(NotFound):
        maya.conversations.restore(garden_id)


def test_no_turn_begins_in_a_discarded_conversation(maya, garden_id):
    other = maya.elsewhere()
    thread = other.conversations.thread(garden_id)
    maya.conversations.discard(garden_id, UNDO_SECONDS)

    with pytest.raises(NotFound):
        other.turns.begin(new_turn(thread, "Are you there?"))


@pytest.mark.parametrize("verb", ["rename", "pin", "archive", "set_model"])
def test_deleted_conversation_is_not_changed(backend, maya, garden_id, verb):
    destroy(backend, maya, garden_id)
    arguments = {"rename": ["Other"], "set_model": ["large"]}.get(verb, [])

    with pytest.raises(NotFound):
        getattr(maya.conversations, verb)(garden_id, *arguments)


def test_prompts_that_facts_were_noted_of_are_marked(maya, garden, garden_id):
    thread = maya.conversations.thread(garden_id)

    for seq, marked in (
        (1, 1),
        (99, thread.conversation.last_seq),
        (1, thread.conversation.last_seq),
    ):
        maya.conversations.mark_facts_noted(garden_id, seq)
        assert maya.elsewhere().conversations.thread(garden_id).conversation.facts_seq == marked
