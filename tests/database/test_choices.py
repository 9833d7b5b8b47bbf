"""A conversation's model and instructions, and what a person prefers: bounded, sealed, and one's own."""

import json

import pytest

from tests.database.people import sealed

BAD_NAMES = ["", " mini", "a model", "m\n", "-", "x" * 101, "kumquat\u00e9"]


@pytest.fixture
def maya(world):
    return world.person()


@pytest.fixture
def garden(maya):
    return maya.create_conversation()


def choices(world, conversation):
    return world.one(
        "select model, instructions from public.conversations where id = %s", conversation
    )


def preferences(world, person):
    return world.one("select preferences from public.profiles where user_id = %s", person.id)


def test_a_conversation_begins_without_a_choice_and_can_go_back_to_none(world, maya, garden):
    assert choices(world, garden) == (None, None)
    told = sealed("instructions")

    before = None
    for name, text in (("gpt-5-mini", told), ("meta-llama/Llama-3.3-70B", told), (None, None)):
        assert maya.change(garden, model=name)["ok"]
        assert maya.call(
            "set_conversation_instructions",
            conversation=garden,
            new_instructions=text,
            replaces=before,
        )["ok"]
        assert choices(world, garden) == (name, text)
        before = text


def test_a_choice_makes_nothing_stale_and_nothing_newer(world, maya, garden):
    def rest():
        return world.one(
            "select to_jsonb(c) - 'model' - 'instructions' from public.conversations c where id = %s",
            garden,
        )

    before = rest()
    maya.change(garden, model="mini")
    maya.call(
        "set_conversation_instructions",
        conversation=garden,
        new_instructions=sealed("told"),
        replaces=None,
    )

    assert rest() == before


@pytest.mark.parametrize("name", BAD_NAMES)
def test_what_no_model_can_be_called_is_refused(world, maya, garden, name):
    changes = json.dumps({"model": name})

    refusal = maya.refusal("change_conversation", conversation=garden, changes=changes)
    assert refusal == "23514"
    assert choices(world, garden) == (None, None)


def test_preferences_are_replaced_by_who_has_seen_them_and_are_ones_own(world, maya):
    omar = world.person()
    first, second = sealed("first"), sealed("second")

    assert maya.call("change_preferences", new_preferences=first, replaces=None) == {"ok": True}
    for seen in (None, second):
        answer = maya.call("change_preferences", new_preferences=second, replaces=seen)
        assert answer == {"ok": False, "reason": "stale"}
    assert preferences(world, maya) == first
    assert maya.call("change_preferences", new_preferences=second, replaces=first)["ok"]

    assert preferences(world, maya) == second
    assert preferences(world, omar) is None
