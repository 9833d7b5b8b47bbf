"""Races: two processes of one user at the same moment."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import pytest

from services.errors import Busy, Stale
from tests.store.conformance.talk import a_fact, bodies, choose, ending, left_micro, new_turn, texts


@pytest.fixture
def both(maya):
    """Return a function by which two processes act at once; it returns the result of each: a refusal, or None."""

    def both(act):
        at_once = Barrier(2)

        def once(user, number):
            at_once.wait()
            try:
                act(user, number)
            except (Busy, Stale) as refusal:
                return refusal
            return None

        with ThreadPoolExecutor(2) as threads:
            return list(threads.map(once, (maya, maya.elsewhere()), range(2)))

    return both


def test_one_of_two_prompts_begins(maya, garden_id, both):
    refusals = both(
        lambda user, number: user.turns.begin(
            new_turn(user.conversations.thread(garden_id), f"Prompt {number}")
        )
    )

    assert refusals.count(None) == 1
    assert len(maya.conversations.thread(garden_id).messages) == 5


def test_reply_finished_twice_is_stored_once(maya, garden, garden_id, both):
    turn, before = new_turn(garden, "And leeks?"), left_micro(maya)
    end = ending(turn, maya.turns.begin(turn), "In April.")

    assert both(lambda user, _: user.turns.finish(end)) == [None, None]

    thread = maya.elsewhere().conversations.thread(garden_id)
    assert thread.is_whole
    assert bodies(thread.messages)[4:] == ["And leeks?", "In April."]
    assert left_micro(maya) == before - end.settlement.cost_micro


def test_one_of_two_changes_of_a_fact_is_stored(maya, both):
    seen = a_fact()
    maya.facts.keep(seen)

    refusals = both(
        lambda user, number: user.facts.keep(replace(seen, text=f"Dog {number}"), replaces=seen)
    )

    assert refusals.count(None) == 1
    assert texts(maya.elsewhere()) == [f"Dog {refusals.index(None)}"]


def test_fact_stored_while_another_is_compared_stays(backend, maya):
    seen, other = a_fact(), maya.elsewhere()
    maya.facts.keep(seen)

    def store_first():
        other.facts.keep(replace(seen, text="Has a cat."), replaces=seen)

    with backend.after(maya, "documents", store_first), pytest.raises(Stale):
        maya.facts.keep(replace(seen, text="Has two dogs."), replaces=seen)

    assert texts(maya.elsewhere()) == ["Has a cat."]


def test_preference_stored_while_another_is_made_stays(maya):
    acts = [lambda: choose(maya.elsewhere(), instructions="Be brief.")]

    def change(now):
        while acts:
            acts.pop()()
        return replace(now, model="large")

    maya.preferences.change(change)

    stored = maya.elsewhere().preferences.preferences()
    assert (stored.model, stored.instructions) == ("large", "Be brief.")


def test_choice_stored_while_a_conversation_is_read_stays(backend, maya, garden_id):
    with backend.after(
        maya, "read_conversation", lambda: maya.conversations.set_model(garden_id, "large")
    ):
        maya.conversations.thread(garden_id)

    assert maya.conversations.cached(garden_id).conversation.model == "large"
