"""Who gives a conversation its title: the model in place of the first words, never of a person's own."""

import threading

import psycopg
import pytest

from tests.database.people import sealed


@pytest.fixture
def maya(world):
    return world.person()


@pytest.fixture
def garden(maya):
    """A conversation of Maya's, titled by its first words."""
    return maya.create_conversation()


def title(world, conversation):
    return world.one(
        "select title, titled_by from public.conversations where id = %s", conversation
    )


def test_the_model_titles_a_conversation_that_has_its_first_words(world, maya, garden):
    assert title(world, garden) == (sealed("title"), "words")

    answer = maya.change(garden, title=sealed("made"), titled_by="model")

    assert answer == {"ok": True, "changed": True}
    assert title(world, garden) == (sealed("made"), "model")


@pytest.mark.parametrize("by", ["model", "person"])
def test_a_title_of_the_models_replaces_only_the_first_words(world, maya, garden, by):
    maya.change(garden, title=sealed("first"), titled_by=by)

    answer = maya.change(garden, title=sealed("made"), titled_by="model")

    assert answer == {"ok": True, "changed": False}
    assert title(world, garden) == (sealed("first"), by)


def test_a_person_may_rename_what_the_model_titled(world, maya, garden):
    maya.change(garden, title=sealed("made"), titled_by="model")
    maya.change(garden, title=sealed("mine"), titled_by="person")

    assert title(world, garden) == (sealed("mine"), "person")


def test_a_title_that_is_being_given_is_waited_for(world, maya, garden, migrated):
    """The rename is under way when the model's title comes, and is what stays."""
    mine = {"title": sealed("mine"), "titled_by": "person"}
    made = {"title": sealed("made"), "titled_by": "model"}
    answers = []
    with (
        psycopg.connect(migrated, autocommit=True) as renaming,
        psycopg.connect(migrated, autocommit=True) as other,
    ):
        titling = threading.Thread(
            target=lambda: answers.append(maya.by(other).change(garden, **made))
        )
        with renaming.transaction():
            maya.by(renaming).change(garden, **mine)
            titling.start()
            titling.join(0.5)
            assert titling.is_alive()
        titling.join(10)

    assert answers == [{"ok": True, "changed": False}]
    assert title(world, garden) == (sealed("mine"), "person")
