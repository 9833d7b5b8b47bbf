"""Tampering: data that were changed, swapped or put back outside the app are detected."""

from dataclasses import replace

import pytest

from services.domain import Preferences, Thoughts
from services.errors import Tampered
from tests.store.conformance.backends import Text
from tests.store.conformance.talk import (
    SUMMARY,
    THOUGHTS,
    a_fact,
    a_space,
    answer,
    begun_with,
    bodies,
    choose,
    delete,
    new_turn,
    say,
    stored_space,
    texts,
    unsaid,
    whole,
)

CHANGES = {  # changes of a conversation with four messages
    "deleted message": lambda store, its, _: store.delete_message(its, 2),
    "moved message": lambda store, its, _: store.change_message(its, 2, seq=9),
    "other role": lambda store, its, _: store.change_message(its, 2, role="system"),
    "other body": lambda store, _, messages: store.copy(
        Text("message", messages[3].id), Text("message", messages[1].id)
    ),
    "other revision": lambda store, its, _: store.change_conversation(its, rev=5),
    "other last seq": lambda store, its, _: store.change_conversation(its, last_seq=5),
    "forged head": lambda store, its, _: store.forge_head(its),
}
UNREADABLE = {"moved message", "other role", "other body"}


@pytest.mark.parametrize("change", CHANGES)
def test_only_changed_messages_are_unreadable(backend, maya, garden, garden_id, change):
    CHANGES[change](backend, garden_id, garden.messages)

    thread = maya.elsewhere().conversations.thread(garden_id)

    assert not thread.is_whole
    unverified = [message for message in thread.messages if not message.is_verified]
    assert bodies(unverified) == ([""] if change in UNREADABLE else [])
    written = {message.id: message.body for message in garden.messages}
    verified = [message for message in thread.messages if message.is_verified]
    assert thread.messages[0] in verified
    assert all(message.body == written[message.id] for message in verified)


def test_messages_swapped_between_conversations_do_not_open(backend, maya, garden, garden_id):
    other = say(maya, unsaid(), "Hello", "Hi.")
    backend.copy(Text("message", other.messages[0].id), Text("message", garden.messages[0].id))

    thread = maya.elsewhere().conversations.thread(garden_id)

    assert not thread.is_whole
    assert "Hello" not in bodies(thread.messages)


def test_no_turn_begins_in_a_conversation_with_forged_head(backend, maya, garden, garden_id):
    backend.forge_head(garden_id)
    other = maya.elsewhere()
    thread = other.conversations.thread(garden_id)

    with pytest.raises(Tampered):
        other.turns.begin(new_turn(thread, "And leeks?"))
    with pytest.raises(Tampered):  # another reply
        other.turns.begin(new_turn(thread, None, prompt_id=garden.messages[-2].id))


def test_conversation_set_back_is_noticed_from_then_on(backend, maya, garden, garden_id):
    with backend.set_back(garden_id):
        say(maya, garden, "More", "More.")

    assert not maya.conversations.thread(garden_id).is_whole
    assert not maya.conversations.thread(garden_id).is_whole
    thread = maya.conversations.thread(garden_id)
    for _ in range(2):
        thread = say(maya, thread, "On", "On.")
    assert not thread.is_whole


CHANGES_AFTER_DELETION = {  # changes after the deletion of messages 3 and 4
    "deleted message": lambda store, its: store.delete_message(its, 2),
    "restored message": lambda store, its: store.change_message(its, 4, is_deleted=False),
    "hidden message": lambda store, its: store.change_message(its, 2, is_deleted=True),
    "other last seq": lambda store, its: store.change_conversation(its, last_seq=5),
}


@pytest.mark.parametrize("change", CHANGES_AFTER_DELETION)
def test_change_after_a_deletion_is_noticed(backend, maya, garden, garden_id, change):
    delete(maya, garden, 2)

    CHANGES_AFTER_DELETION[change](backend, garden_id)

    assert not maya.elsewhere().conversations.thread(garden_id).is_whole


def test_changed_messages_are_not_restored(backend, maya, garden, garden_id):
    delete(maya, garden, 2)
    backend.copy(Text("message", garden.messages[1].id), Text("message", garden.messages[3].id))

    with pytest.raises(Tampered):
        maya.messages.restore(garden_id)


# --- titles, instructions, summaries


@pytest.fixture
def swapped(backend, maya, garden_id):
    """A conversation whose title, instructions and summary were swapped with another's."""
    other = begun_with(maya)
    for thread in (maya.conversations.thread(garden_id), other):
        maya.conversations.set_instructions(thread.conversation.id, "Answer in verse.")
        maya.conversations.set_summary(thread, SUMMARY)
    for column in ("title", "instructions", "summary"):
        backend.copy(
            Text("conversation", other.conversation.id, column),
            Text("conversation", garden_id, column),
        )
    return maya.elsewhere().conversations


def test_swapped_texts_of_a_conversation_do_not_open(swapped, garden_id):
    thread = swapped.thread(garden_id)

    assert (whole(thread).conversation.title, thread.conversation.is_verified) == ("", False)
    assert (thread.instructions, thread.are_instructions_verified) == (None, False)
    assert (thread.summary, thread.is_summary_verified) == (None, False)
    with pytest.raises(Tampered):
        swapped.instructions(garden_id)


def test_swapped_texts_are_written_anew(swapped, maya, garden_id):
    swapped.rename(garden_id, "Garden")
    swapped.set_instructions(garden_id, "Answer in prose.")
    swapped.set_summary(swapped.thread(garden_id), SUMMARY)

    thread = maya.elsewhere().conversations.thread(garden_id)
    assert (thread.conversation.title, thread.conversation.is_verified) == ("Garden", True)
    assert (thread.instructions, thread.are_instructions_verified) == ("Answer in prose.", True)
    assert (thread.summary, thread.is_summary_verified) == (SUMMARY, True)


def test_texts_of_one_conversation_are_not_interchangeable(backend, maya, garden_id):
    maya.conversations.set_instructions(garden_id, "Answer in verse.")
    backend.copy(
        Text("conversation", garden_id, "title"), Text("conversation", garden_id, "instructions")
    )

    thread = maya.elsewhere().conversations.thread(garden_id)

    assert (thread.instructions, thread.are_instructions_verified) == (None, False)


# --- turns: partial replies, thoughts, receipts


@pytest.mark.parametrize("field", ["thoughts", "body"])
def test_thoughts_open_only_in_their_own_place(backend, maya, garden, garden_id, field):
    thread = say(maya, garden, "And leeks?", "In April.", thoughts=THOUGHTS)
    thread = say(maya, thread, "And kale?", "In June.", thoughts=THOUGHTS)
    first, second = (message.id for message in thread.messages if message.has_thoughts)
    source = first if field == "thoughts" else second
    backend.copy(Text("message", source, field), Text("message", second, "thoughts"))

    found = maya.elsewhere().turns.thoughts(thread.messages, garden_id)

    assert found == {first: THOUGHTS, second: Thoughts(is_verified=False)}


def test_swapped_receipt_does_not_open(backend, maya, garden, garden_id):
    thread = answer(maya, new_turn(garden, "And leeks?", receipt="Leeks!"), "In April.")
    first = thread.tip.turn_id
    thread = answer(maya, new_turn(thread, "And kale?", receipt="Kale!"), "In June.")
    backend.copy(Text("receipt", thread.tip.turn_id), Text("receipt", first))

    found = maya.elsewhere().turns.receipts(thread.messages, garden_id)

    assert found == {thread.tip.turn_id: "Kale!"}


def test_swapped_partial_reply_is_as_good_as_none(backend, maya, garden, garden_id):
    begun = maya.turns.begin(new_turn(garden, "And leeks?"))
    maya.turns.checkpoint(begun.turn_id, garden_id, "In A", 30, THOUGHTS)
    backend.copy(
        Text("turn", begun.turn_id, "partial_thoughts"), Text("turn", begun.turn_id, "partial")
    )

    left = maya.elsewhere().turns.read(garden_id)[1]

    assert (left.partial, left.thoughts) == ("", THOUGHTS)


# --- facts, spaces, preferences


def test_swapped_fact_is_not_shown(backend, maya):
    first, second = a_fact("first"), a_fact("second")
    for fact in (first, second):
        maya.facts.keep(fact)
    backend.copy(Text("fact", first.id), Text("fact", second.id))

    assert texts(maya.elsewhere()) == ["first"]


def test_fact_moved_to_another_scope_is_not_shown(backend, maya):
    fact = a_fact(space_id=stored_space(maya).id)
    maya.facts.keep(fact)
    assert texts(maya) == [fact.text]
    backend.move_fact(fact.id)

    assert maya.facts.fresh_facts() == ()
    assert texts(maya.elsewhere()) == []


def test_swapped_space_is_shown_without_its_name(backend, maya):
    first, second = a_space("first"), a_space("second")
    for space in (first, second):
        maya.spaces.keep(space)
    backend.copy(Text("space", first.id), Text("space", second.id))

    spaces = maya.elsewhere().spaces

    assert spaces.find(first.id).is_verified
    assert (spaces.find(second.id).name, spaces.find(second.id).is_verified) == ("", False)


def test_swapped_preferences_are_replaced_by_new_ones(backend, maya, omar):
    choose(omar, instructions="Theirs.")
    choose(maya, instructions="Mine.")
    backend.copy(Text("preferences", omar.user_id), Text("preferences", maya.user_id))

    other = maya.elsewhere()
    assert other.preferences.preferences() == Preferences(is_verified=False)
    choose(other, model="large")
    assert maya.elsewhere().preferences.preferences() == Preferences(model="large")


# --- earlier texts put back


def put_fact(user, text, seen):
    facts = user.facts.facts()
    fact = replace(facts[0], text=text) if facts else a_fact(text)
    user.facts.keep(fact, replaces=facts[0] if facts else None)
    return Text("fact", fact.id)


def put_space(user, text, seen):
    spaces = user.spaces.all()
    space = replace(spaces[0], name=text) if spaces else a_space(text)
    user.spaces.keep(space, replaces=spaces[0] if spaces else None)
    return Text("space", space.id)


def put_preferences(user, text, seen):
    choose(user, instructions=text)
    return Text("preferences", user.user_id)


def put_instructions(user, text, conversation_id):
    user.conversations.set_instructions(conversation_id, text)
    return Text("conversation", conversation_id, "instructions")


def put_summary(user, text, conversation_id):
    thread = user.conversations.thread(conversation_id)
    user.conversations.set_summary(thread, replace(SUMMARY, text=text))
    return Text("conversation", conversation_id, "summary")


DOCUMENTS = {  # functions that store a text, and functions that read it
    "fact": (put_fact, lambda user, _: [fact.text for fact in user.facts.fresh_facts()]),
    "space": (
        put_space,
        lambda user, _: [one.name for one in user.spaces.all() if one.is_verified],
    ),
    "preferences": (put_preferences, lambda user, _: [user.preferences.preferences().instructions]),
    "instructions": (
        put_instructions,
        lambda user, its: [user.conversations.thread(its).instructions],
    ),
    "summary": (put_summary, lambda user, its: [user.conversations.thread(its).summary]),
}
MISSING = [], [None]


@pytest.fixture(params=DOCUMENTS)
def document(request, maya, garden_id):
    """Two functions: one stores a text in a document, one reads it."""
    put, read = DOCUMENTS[request.param]
    return lambda user, text: put(user, text, garden_id), lambda user: read(user, garden_id)


def test_earlier_text_put_back_does_not_open(backend, maya, document):
    put, read = document
    place = put(maya, "Earlier.")

    with backend.set_back_text(place):
        put(maya, "Later.")

    assert read(maya.elsewhere()) in MISSING


def test_text_put_back_with_its_revision_is_noticed(backend, maya, document):
    put, read = document
    place = put(maya, "Earlier.")
    rev = "rev" if place.kind != "conversation" else f"{place.field}_rev"

    with backend.set_back_text(place, place._replace(field=rev)):
        put(maya, "Later.")
        assert read(maya) not in MISSING
    backend.let_pass(61)

    assert read(maya) in MISSING
    assert read(maya) in MISSING


def test_text_that_was_put_back_is_replaced(backend, maya, garden_id):
    choose(maya, instructions="Earlier.")
    place = put_instructions(maya, "Earlier.", garden_id)
    mine = Text("preferences", maya.user_id)
    revisions = place._replace(field="instructions_rev"), mine._replace(field="rev")
    with backend.set_back_text(place, mine, *revisions):
        choose(maya, instructions="Later.")
        put_instructions(maya, "Later.", garden_id)
    backend.let_pass(61)
    assert not maya.conversations.thread(garden_id).are_instructions_verified

    choose(maya, instructions="New.")
    put_instructions(maya, "New.", garden_id)

    assert maya.conversations.thread(garden_id).instructions == "New."
    assert maya.preferences.preferences().instructions == "New."


def test_deleted_summary_put_back_does_not_open(backend, maya, garden, garden_id):
    with backend.set_back_text(put_summary(maya, "They sow peas.", garden_id)):
        delete(maya, maya.conversations.thread(garden_id), 2, drops_summary=True)

    thread = maya.elsewhere().conversations.thread(garden_id)

    assert (thread.summary, thread.is_summary_verified) == (None, False)


def test_deleted_summary_put_back_with_its_revision_is_noticed(backend, maya, garden, garden_id):
    place = put_summary(maya, "They sow peas.", garden_id)
    with backend.set_back_text(place, place._replace(field="summary_rev")):
        delete(maya, maya.conversations.thread(garden_id), 2, drops_summary=True)
        assert maya.conversations.thread(garden_id).is_summary_verified

    thread = maya.conversations.thread(garden_id)

    assert (thread.summary, thread.is_summary_verified) == (None, False)


def test_unreadable_message_is_left_out_of_the_corpus(backend, maya, garden):
    first, _, third, _ = garden.messages
    backend.copy(Text("message", third.id), Text("message", first.id))

    found = maya.elsewhere().corpus.some(
        dict.fromkeys((first.id, third.id), garden.conversation.id)
    )

    assert found == {third.id: (garden.conversation.id, replace(third))}
