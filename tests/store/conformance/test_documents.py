"""Documents: instructions, summaries, facts, spaces and preferences, each replaced only by a caller who has seen it."""

import time
from dataclasses import replace

import pytest

from services.domain import (
    Full,
    InstructionsAndSummary,
    NewConversation,
    Preferences,
    Retrieval,
    Window,
)
from services.domain.limits import LONGEST_FACT, LONGEST_INSTRUCTIONS, LONGEST_SPACE_NAME
from services.errors import BadInput, ChangedElsewhere, NotFound, SpaceGone, Stale
from tests.stack.apps import until
from tests.store.conformance.talk import (
    SUMMARY,
    UNDO_SECONDS,
    a_fact,
    a_space,
    begun_with,
    choose,
    delete,
    destroy,
    stored_space,
    texts,
)

# --- instructions and preferences


def test_instructions_of_a_conversation_are_stored(maya, garden_id):
    maya.conversations.set_instructions(garden_id, "  Answer in verse.\n")

    assert maya.conversations.cached(garden_id).instructions == "Answer in verse."
    other = maya.elsewhere().conversations
    assert other.thread(garden_id).instructions == "Answer in verse."
    assert other.instructions(garden_id) == "Answer in verse."


def test_empty_instructions_remove_them(maya, garden_id):
    maya.conversations.set_instructions(garden_id, "Answer in verse.")
    choose(maya, instructions="Be brief.")

    maya.conversations.set_instructions(garden_id, " ")
    choose(maya, instructions="")

    other = maya.elsewhere()
    assert other.conversations.thread(garden_id).instructions is None
    assert other.preferences.preferences() == Preferences()


@pytest.mark.parametrize(
    "chosen",
    [
        Preferences(model="large", instructions="Be brief.", policy=Retrieval()),
        Preferences(context_tokens=2000, reply_tokens=300, window_messages=8),
        Preferences(keeps_facts=False, recalls_elsewhere=True, theme="dark", has_title_in_tab=True),
    ],
)
def test_preferences_are_stored_and_taken_back(maya, chosen):
    maya.preferences.change(lambda _: chosen)
    assert maya.elsewhere().preferences.preferences() == chosen

    maya.preferences.change(lambda _: Preferences())
    assert maya.elsewhere().preferences.preferences() == Preferences()


def test_two_tabs_change_one_preference_each(maya):
    other = maya.elsewhere()
    assert maya.preferences.preferences() == other.preferences.preferences() == Preferences()

    choose(maya, model="large")
    choose(other, instructions="Be brief.")

    assert maya.elsewhere().preferences.preferences() == Preferences(
        model="large", instructions="Be brief."
    )


def test_preference_stored_elsewhere_meanwhile_is_read(backend, maya):
    other = maya.elsewhere()

    with backend.after(maya, "put_document", lambda: choose(other, keeps_facts=True)):
        choose(maya, model="large")

    assert maya.preferences.preferences() == Preferences(model="large", keeps_facts=True)


def test_preferences_changed_elsewhere_are_read_after_a_minute(backend, maya):
    assert maya.preferences.preferences() == Preferences()
    choose(maya.elsewhere(), model="large")

    backend.let_pass(61)

    assert maya.preferences.preferences().model == "large"


def put_preferences(user, _, text, seen):
    user.preferences.change(lambda now: replace(now, instructions=text), seen=seen)


def put_instructions(user, conversation_id, text, seen):
    user.conversations.set_instructions(conversation_id, text, seen)


@pytest.mark.parametrize("put", [put_preferences, put_instructions])
def test_instructions_changed_elsewhere_are_not_replaced(maya, garden_id, put):
    put(maya.elsewhere(), garden_id, "Be brief.", "")

    with pytest.raises(ChangedElsewhere) as refused:
        put(maya, garden_id, "Be kind.", "")

    assert refused.value.now == "Be brief."
    assert "Be brief." not in repr(refused.value)


@pytest.mark.parametrize("put", [put_preferences, put_instructions])
def test_seen_instructions_are_replaced(maya, garden_id, put):
    put(maya.elsewhere(), garden_id, "Be brief.", "")

    put(maya, garden_id, "Be kind.", "Be brief.")
    # repeated: the stored instructions are the wanted ones
    put(maya, garden_id, "Be kind.", "Be brief.")

    put(maya.elsewhere(), garden_id, "Be brief.", "Be kind.")


def test_instructions_stored_while_others_are_compared_stay(backend, maya, garden_id):
    other, mine = maya.elsewhere().conversations, "Answer in verse."

    def store_mine():
        other.set_instructions(garden_id, mine)

    with backend.after(maya, "conversation", store_mine), pytest.raises(ChangedElsewhere):
        maya.conversations.set_instructions(garden_id, "Be kind.", "")

    assert maya.conversations.instructions(garden_id) == mine


def tell_all(user, conversation_id, text):
    """Return the functions that store instructions."""
    return (
        lambda: user.conversations.set_instructions(conversation_id, text),
        lambda: user.spaces.keep(a_space(instructions=text)),
        lambda: choose(user, instructions=text),
    )


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x" * (LONGEST_INSTRUCTIONS + 1), "at most 8,000 characters"),
        ("\ud83d", "cannot be stored"),
    ],
)
def test_invalid_instructions_are_refused(noah, pond, number, text, says):
    with pytest.raises(BadInput, match=says):
        tell_all(noah, pond.conversation.id, text)[number]()


def test_longest_instructions_of_any_script_are_stored(maya):
    longest = "\N{GRINNING FACE}" * LONGEST_INSTRUCTIONS
    begun_with(maya, new=NewConversation(instructions=longest))
    second = begun_with(maya).conversation.id

    for tell in tell_all(maya, second, longest):
        tell()

    other = maya.elsewhere()
    for conversation in other.conversations.recent():
        assert other.conversations.instructions(conversation.id) == longest
    assert other.spaces.all()[0].instructions == longest
    assert other.preferences.preferences().instructions == longest


# --- summaries


def test_summary_is_stored_beside_the_messages(maya, garden, garden_id):
    maya.conversations.set_summary(garden, SUMMARY)

    assert maya.conversations.cached(garden_id).summary == SUMMARY
    assert maya.elsewhere().conversations.thread(garden_id) == replace(garden, summary=SUMMARY)


def test_summaries_and_instructions_are_read_for_search(maya, garden, garden_id):
    assert maya.corpus.conversations()[garden_id].summary_rev == 0
    maya.conversations.set_summary(garden, SUMMARY)
    maya.conversations.set_instructions(garden_id, "Speak of peas.")

    other = maya.elsewhere().corpus
    listed = other.conversations()[garden_id]

    assert listed.instructions_rev > 0
    assert listed.summary_rev > 0
    assert other.instructions_and_summaries([garden_id]) == {
        garden_id: InstructionsAndSummary(instructions="Speak of peas.", summary=SUMMARY.text)
    }


def test_summary_changed_elsewhere_is_not_replaced(maya, garden, garden_id):
    maya.conversations.set_summary(garden, SUMMARY)
    edited = replace(SUMMARY, text="They sow peas in March.", is_edited=True)
    other = maya.elsewhere().conversations
    other.set_summary(other.thread(garden_id), edited)

    with pytest.raises(Stale):
        maya.conversations.set_summary(replace(garden, summary=SUMMARY), None)

    assert maya.conversations.thread(garden_id).summary == edited


def test_summary_is_removed(maya, garden, garden_id):
    maya.conversations.set_summary(garden, SUMMARY)

    maya.conversations.set_summary(replace(garden, summary=SUMMARY), None)

    assert maya.elsewhere().conversations.thread(garden_id).summary is None


@pytest.mark.parametrize("drops_summary", [False, True])
def test_summary_outlives_deleted_messages_unless_dropped(maya, garden, garden_id, drops_summary):
    maya.conversations.set_summary(garden, SUMMARY)

    delete(maya, maya.conversations.thread(garden_id), 2, drops_summary=drops_summary)

    left = maya.conversations.thread(garden_id).summary
    assert left == (None if drops_summary else SUMMARY)


def test_summary_made_around_a_deletion_is_dropped(maya, garden, garden_id):
    other = maya.elsewhere().conversations
    seen = other.thread(garden_id)
    other.set_summary(seen, SUMMARY)

    delete(maya, garden, 2)

    assert maya.conversations.thread(garden_id).summary is None
    with pytest.raises(Stale):
        other.set_summary(seen, SUMMARY)


# --- facts


def test_facts_are_stored_with_scope_and_source(maya, garden, garden_id):
    source = {"source_id": garden.messages[0].id, "source_conversation_id": garden_id}
    kept = (
        a_fact("one", **source),
        a_fact("two", space_id=stored_space(maya).id),
        a_fact("three", conversation_id=garden_id),
    )

    for fact in kept:
        maya.facts.keep(fact)

    assert maya.elsewhere().facts.facts() == maya.facts.facts() == kept


def test_facts_are_listed_oldest_first(maya):
    new, old = (a_fact(text) for text in ("new", "old"))
    old = replace(old, since=old.since.replace(year=2020))

    for fact in (new, old):
        maya.facts.keep(fact)

    assert texts(maya) == ["old", "new"]


def test_fact_is_stored_on_one_line(maya):
    maya.facts.keep(a_fact("  Has a \n dog. "))

    assert texts(maya.elsewhere()) == ["Has a dog."]


def test_fact_changed_elsewhere_is_not_replaced(maya):
    seen, other = a_fact(), maya.elsewhere()
    maya.facts.keep(seen)
    maya.facts.keep(replace(seen, text="Has two dogs."), replaces=seen)

    with pytest.raises(ChangedElsewhere):
        other.facts.keep(replace(seen, text="Has a cat."), replaces=seen)

    assert texts(maya.elsewhere()) == ["Has two dogs."]


def test_replacement_does_not_move_a_fact(maya, garden_id):
    seen = a_fact(conversation_id=garden_id)
    maya.facts.keep(seen)

    with pytest.raises(ChangedElsewhere):
        maya.facts.keep(replace(seen, conversation_id=None), replaces=seen)

    assert maya.elsewhere().facts.facts() == (seen,)


def test_deleted_fact_is_not_replaced(maya):
    seen = a_fact()
    maya.facts.keep(seen)
    for _ in range(2):
        maya.facts.forget(seen.id)

    with pytest.raises(ChangedElsewhere):
        maya.facts.keep(replace(seen, text="other"), replaces=seen)

    assert texts(maya) == texts(maya.elsewhere()) == []


def test_deleted_fact_is_restored(maya):
    seen, other = a_fact(), maya.elsewhere()
    maya.facts.keep(seen)
    changed = replace(seen, text="Has two dogs.")
    maya.facts.keep(changed, replaces=seen)
    assert texts(maya) == texts(other) == [changed.text]
    maya.facts.forget(seen.id)
    forgotten_at = time.time()
    until(lambda: time.time() > forgotten_at + 0.005)  # revisions are times in milliseconds

    maya.elsewhere().facts.keep(changed)

    assert maya.facts.facts() == other.facts.fresh_facts() == (changed,)


def test_fact_kept_elsewhere_is_read_at_once_when_asked(maya):
    assert texts(maya) == []
    maya.elsewhere().facts.keep(a_fact())

    assert [fact.text for fact in maya.facts.fresh_facts()] == ["Has a dog called Rex."]


def test_all_facts_are_deleted_at_once(maya, garden_id):
    maya.facts.keep(a_fact())
    maya.facts.keep(a_fact(conversation_id=garden_id))

    maya.facts.forget_all()

    assert texts(maya) == texts(maya.elsewhere()) == []


def test_facts_are_deleted_with_their_conversation_or_space(backend, maya, garden_id):
    space = stored_space(maya)
    maya.facts.keep(a_fact("of the conversation", conversation_id=garden_id))
    maya.facts.keep(a_fact("of the space", space_id=space.id))
    maya.facts.keep(a_fact("of the user", source_conversation_id=garden_id))

    destroy(backend, maya, garden_id)
    maya.spaces.forget(space.id)

    assert texts(maya) == texts(maya.elsewhere()) == ["of the user"]
    with pytest.raises(NotFound):
        maya.facts.keep(a_fact(conversation_id=garden_id))


def test_facts_are_restored_with_their_conversation(maya, garden_id):
    maya.facts.keep(a_fact(conversation_id=garden_id))

    maya.conversations.discard(garden_id, UNDO_SECONDS)
    assert texts(maya) == texts(maya.elsewhere()) == []

    maya.conversations.restore(garden_id)
    assert texts(maya) == texts(maya.elsewhere()) == ["Has a dog called Rex."]


def test_facts_of_a_conversation_deleted_elsewhere_are_hidden(maya, garden_id):
    kept, other = a_fact(conversation_id=garden_id), maya.elsewhere()
    maya.facts.keep(kept)
    assert maya.facts.fresh_facts() == (kept,)

    other.conversations.discard(garden_id, UNDO_SECONDS)
    assert maya.facts.fresh_facts() == ()

    other.conversations.restore(garden_id)
    assert maya.facts.fresh_facts() == (kept,)


def test_facts_of_deleted_messages_are_deleted_at_once(maya, garden):
    noted, other = a_fact("noted"), a_fact("other")
    for fact in (noted, other):
        maya.facts.keep(fact)

    delete(maya, garden, 2, facts=[noted.id])

    assert texts(maya.elsewhere()) == ["other"]


def test_fact_noted_before_a_deletion_is_refused(maya, garden, garden_id):
    fact = a_fact(source_conversation_id=garden_id)
    delete(maya, garden, 2)

    with pytest.raises(NotFound):
        maya.facts.keep(fact, cuts=garden.conversation.cuts)

    maya.facts.keep(fact, cuts=maya.conversations.thread(garden_id).conversation.cuts)
    assert texts(maya) == [fact.text]


def test_fact_noted_from_a_deleted_chat_is_refused(maya, garden, garden_id):
    fact, cuts = a_fact(source_conversation_id=garden_id), garden.conversation.cuts
    maya.conversations.discard(garden_id, UNDO_SECONDS)

    with pytest.raises(NotFound):
        maya.facts.keep(fact, cuts=cuts)

    maya.conversations.restore(garden_id)
    maya.facts.keep(fact, cuts=cuts)
    assert texts(maya) == [fact.text]


# --- spaces


def test_spaces_are_stored_and_listed_by_name(maya):
    spanish = a_space(instructions="Speak Spanish.", policy=Window(12), uses_personal_facts=False)
    for space in (spanish, a_space("greek"), a_space("Latin")):
        maya.spaces.keep(space)

    stored = maya.elsewhere().spaces.all()

    assert [space.name for space in stored] == ["greek", "Latin", "Spanish"]
    assert replace(stored[-1], created_at=spanish.created_at) == spanish


def test_space_changed_elsewhere_is_not_replaced(maya):
    stored_space(maya)
    (seen,), other = maya.spaces.all(), maya.elsewhere()
    maya.spaces.keep(replace(seen, name="Español", policy=Full(), is_archived=True), replaces=seen)

    with pytest.raises(ChangedElsewhere):
        other.spaces.keep(replace(seen, name="Late"), replaces=seen)

    space = maya.elsewhere().spaces.find(seen.id)
    assert (space.name, space.policy, space.is_archived) == ("Español", Full(), True)


def test_space_whose_answer_was_lost_can_be_stored_again(maya):
    space = a_space()
    maya.spaces.keep(space)
    edited = replace(space, name="Greek")
    (seen,) = maya.spaces.all()
    maya.spaces.keep(replace(edited, created_at=seen.created_at), replaces=seen)

    maya.elsewhere().spaces.keep(edited)
    maya.elsewhere().spaces.keep(edited, replaces=space)

    assert [one.name for one in maya.spaces.all()] == ["Greek"]


def test_space_that_was_deleted_elsewhere_is_gone(maya):
    stored_space(maya)
    (seen,) = maya.spaces.all()
    maya.elsewhere().spaces.forget(seen.id)

    with pytest.raises(SpaceGone):
        maya.spaces.keep(replace(seen, name="Greek"), replaces=seen)


@pytest.mark.parametrize("text", ["", " \n", "too long", "half \ud800"])
@pytest.mark.parametrize("kind", ["fact", "space"])
def test_invalid_fact_or_name_of_a_space_is_refused(noah, kind, text):
    longest = LONGEST_FACT if kind == "fact" else LONGEST_SPACE_NAME
    text = "x" * (longest + 1) if text == "too long" else text

    with pytest.raises(BadInput):
        noah.facts.keep(a_fact(text)) if kind == "fact" else noah.spaces.keep(a_space(text))


def test_deleted_space_is_not_found(maya):
    space = stored_space(maya)

    for _ in range(2):
        maya.spaces.forget(space.id)

    assert maya.spaces.find(space.id) is None
    assert maya.elsewhere().spaces.all() == ()
