"""Who gives a conversation its title: the model in place of the first words, never of a person's own."""

import threading
from uuid import uuid4

import psycopg
import pytest

from tests.database.people import NOT_ALLOWED, sealed


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

    answer = maya.call("title_conversation", conversation=garden, new_title=sealed("made"))

    assert answer == {"ok": True, "titled": True}
    assert title(world, garden) == (sealed("made"), "model")


def test_it_does_so_once(world, maya, garden):
    maya.call("title_conversation", conversation=garden, new_title=sealed("made"))

    answer = maya.call("title_conversation", conversation=garden, new_title=sealed("again"))

    assert answer == {"ok": True, "titled": False}
    assert title(world, garden) == (sealed("made"), "model")


def test_a_persons_title_is_replaced_by_no_other(world, maya, garden):
    maya.call("rename_conversation", conversation=garden, new_title=sealed("mine"))

    answer = maya.call("title_conversation", conversation=garden, new_title=sealed("made"))

    assert answer == {"ok": True, "titled": False}
    assert title(world, garden) == (sealed("mine"), "person")


def test_a_person_may_rename_what_the_model_titled(world, maya, garden):
    maya.call("title_conversation", conversation=garden, new_title=sealed("made"))
    maya.call("rename_conversation", conversation=garden, new_title=sealed("mine"))

    assert title(world, garden) == (sealed("mine"), "person")


def test_a_title_that_is_being_given_is_waited_for(world, maya, garden, migrated):
    """The rename is under way when the model's title comes, and is what stays."""
    mine, made = ({"conversation": garden, "new_title": sealed(word)} for word in ("mine", "made"))
    answers = []
    with (
        psycopg.connect(migrated, autocommit=True) as renaming,
        psycopg.connect(migrated, autocommit=True) as other,
    ):
        titling = threading.Thread(
            target=lambda: answers.append(maya.by(other).call("title_conversation", **made))
        )
        with renaming.transaction():
            maya.by(renaming).call("rename_conversation", **mine)
            titling.start()
            titling.join(0.5)
            assert titling.is_alive()
        titling.join(10)

    assert answers == [{"ok": True, "titled": False}]
    assert title(world, garden) == (sealed("mine"), "person")


def test_nobody_titles_another_persons_conversation(world, maya, garden):
    omar = world.person()
    theirs = omar.call("title_conversation", conversation=garden, new_title=sealed("made"))
    nobodys = omar.call("title_conversation", conversation=uuid4(), new_title=sealed("made"))

    assert theirs == nobodys
    assert (theirs["ok"], theirs["reason"]) == (False, "not_found")
    assert title(world, garden) == (sealed("title"), "words")


def test_without_a_proof_nothing_is_titled(world, maya, garden):
    made = {"conversation": garden, "new_title": sealed("made")}
    renamed = maya.proven("rename_conversation", made)["proof"]  # of another verb

    for proof in (None, renamed):
        assert maya.refusal("title_conversation", **made, proof=proof) == NOT_ALLOWED
    assert title(world, garden) == (sealed("title"), "words")
