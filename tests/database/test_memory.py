"""What is remembered: spaces, facts and summaries, replaced only by who has seen what they replace."""

from uuid import uuid4

import pytest

from tests.database.people import sealed

OK = {"ok": True}
STALE = {"ok": False, "reason": "stale"}
NOT_FOUND = {"ok": False, "reason": "not_found"}


@pytest.fixture
def maya(world):
    return world.person()


@pytest.fixture
def garden(maya):
    return maya.create_conversation()


def a_fact(**changes):
    return {
        "memory": uuid4(),
        "conversation": None,
        "space": None,
        "new_body": sealed("fact"),
        "body_key_version": 1,
        "replaces": None,
    } | changes


def a_space(**changes):
    return {
        "space": uuid4(),
        "new_body": sealed("space"),
        "body_key_version": 1,
        "archived": False,
        "replaces": None,
    } | changes


def bodies(maya, table="memories"):
    return [row["body"] for row in maya.rows(table)]


def test_a_summary_is_replaced_by_who_has_seen_it(maya, garden):
    def summarise(new, replaces, conversation=garden):
        return maya.call(
            "summarise_conversation",
            conversation=conversation,
            new_summary=new and sealed(new),
            replaces=replaces and sealed(replaces),
        )

    assert summarise("short", None) == OK
    assert summarise("longer", "short") == OK
    assert summarise("longer", "short") == OK
    assert summarise("late", "short") == STALE
    assert summarise("late", None) == STALE
    assert summarise("late", None, uuid4()) == NOT_FOUND

    (row,) = maya.rows("conversations")
    assert (row["summary"], row["rev"]) == (sealed("longer"), 0)
    assert summarise(None, "longer") == OK
    assert maya.rows("conversations")[0]["summary"] is None


def test_a_fact_is_replaced_by_who_has_seen_it(maya):
    fact = a_fact()
    newer = fact | {"new_body": sealed("newer"), "replaces": sealed("fact")}

    assert maya.call("keep_memory", **fact) == OK
    assert maya.call("keep_memory", **newer) == OK
    assert maya.call("keep_memory", **newer | {"new_body": sealed("late")}) == STALE

    assert bodies(maya) == [sealed("newer")]


@pytest.mark.parametrize("kept", [a_fact(), a_fact(replaces=sealed("older"))], ids=["new", "again"])
def test_asking_again_changes_nothing(maya, kept):
    if kept["replaces"]:
        maya.call("keep_memory", **kept | {"new_body": sealed("older"), "replaces": None})

    assert maya.call("keep_memory", **kept) == OK
    assert maya.call("keep_memory", **kept) == OK

    assert bodies(maya) == [sealed("fact")]


def test_a_memory_stays_in_its_scope(maya, garden):
    fact = a_fact(conversation=garden)
    maya.call("keep_memory", **fact)

    moved = fact | {"conversation": None, "new_body": sealed("x"), "replaces": sealed("fact")}

    assert maya.call("keep_memory", **moved) == STALE
    assert bodies(maya) == [sealed("fact")]


def test_what_is_kept_for_a_space_goes_with_it_and_its_conversations_stay(maya, garden):
    space = a_space()
    maya.call("keep_space", **space)
    maya.call("move_conversation", conversation=garden, new_space=space["space"])
    maya.call("keep_memory", **a_fact(space=space["space"]))
    maya.call("keep_memory", **a_fact(new_body=sealed("everywhere")))

    assert maya.call("forget_space", space=space["space"]) == OK

    assert maya.rows("spaces") == []
    assert bodies(maya) == [sealed("everywhere")]
    assert [(row["id"], row["space_id"]) for row in maya.rows("conversations")] == [
        (str(garden), None)
    ]


def test_a_space_is_changed_by_who_has_seen_it(maya):
    space = a_space()
    renamed = space | {"new_body": sealed("renamed"), "replaces": sealed("space"), "archived": True}
    late = space | {"new_body": sealed("late"), "replaces": sealed("space")}

    assert maya.call("keep_space", **space) == OK
    assert maya.call("keep_space", **renamed) == OK
    assert maya.call("keep_space", **renamed) == OK
    assert maya.call("keep_space", **late) == STALE
    assert maya.call("keep_space", **late | {"space": uuid4()}) == NOT_FOUND

    assert bodies(maya, "spaces") == [sealed("renamed")]
    assert maya.rows("spaces")[0]["state"] == "archived"


def test_a_conversation_moves_between_spaces_and_out(maya, garden):
    first, second = a_space(), a_space()
    for space in (first, second):
        maya.call("keep_space", **space)

    for space_id in (first["space"], second["space"], None):
        assert maya.call("move_conversation", conversation=garden, new_space=space_id) == OK
        found = maya.rows("conversations")[0]["space_id"]
        assert found == (str(space_id) if space_id else None)


def test_all_is_forgotten_at_once(maya, garden):
    for kept in (a_fact(), a_fact(conversation=garden)):
        maya.call("keep_memory", **kept)

    assert maya.call("forget_memories") == OK

    assert maya.rows("memories") == []


def test_nothing_is_kept_for_a_conversation_that_was_deleted_meanwhile(maya):
    assert maya.call("keep_memory", **a_fact(conversation=uuid4())) == NOT_FOUND
