"""A conversation's model."""

import json

import pytest

BAD_NAMES = ["", " mini", "a model", "m\n", "-", "x" * 101, "kumquat\u00e9"]


@pytest.fixture
def maya(world):
    return world.person()


@pytest.fixture
def garden(maya):
    return maya.create_conversation()


def model(world, conversation):
    return world.one("select model from public.conversations where id = %s", conversation)


def test_model_is_chosen_and_the_choice_removed(world, maya, garden):
    assert model(world, garden) is None

    for name in ("gpt-5-mini", "meta-llama/Llama-3.3-70B", None):
        assert maya.change(garden, model=name)["ok"]
        assert model(world, garden) == name


def test_choice_of_a_model_changes_nothing_else(world, maya, garden):
    def rest():
        return world.one(
            "select to_jsonb(c) - 'model' from public.conversations c where id = %s", garden
        )

    before = rest()
    maya.change(garden, model="mini")

    assert rest() == before


@pytest.mark.parametrize("name", BAD_NAMES)
def test_invalid_name_of_a_model_is_refused(world, maya, garden, name):
    changes = json.dumps({"model": name})

    refusal = maya.refusal("change_conversation", conversation=garden, changes=changes)
    assert refusal == "23514"
    assert model(world, garden) is None
