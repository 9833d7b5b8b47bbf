"""What is remembered: spaces, facts and summaries, replaced only by who has seen what they replace."""

from uuid import uuid4

import pytest

from tests.database.people import a_fact, a_space, sealed

OK = {"ok": True}
STALE = {"ok": False, "reason": "stale"}
NOT_FOUND = {"ok": False, "reason": "not_found"}


@pytest.fixture
def maya(world):
    return world.person()


@pytest.fixture
def garden(maya):
    return maya.create_conversation()


def bodies(maya, table="memories"):
    return [row["body"] for row in maya.rows(table)]


def test_a_summary_is_replaced_by_who_has_seen_it(maya, garden):
    def summarise(new, replaces, conversation=garden):
        return maya.call(
            "summarise_conversation",
            conversation=conversation,
            new_summary=new and sealed(new),
            replaces=replaces and sealed(replaces),
            cuts=0,
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


@pytest.mark.parametrize("kept", [a_fact(), a_fact(replaces=sealed("older"))], ids=["new", "again"])
def test_asking_again_changes_nothing(maya, kept):
    if kept["replaces"]:
        maya.call("keep_memory", **kept | {"new_body": sealed("older"), "replaces": None})

    assert maya.call("keep_memory", **kept) == OK
    assert maya.call("keep_memory", **kept) == OK

    assert bodies(maya) == [sealed("fact")]


@pytest.mark.parametrize("change", [{"conversation": None}, {"replaces": sealed("another")}])
def test_a_fact_is_replaced_in_its_scope_by_who_has_seen_it(maya, garden, change):
    fact = a_fact(conversation=garden)
    newer = fact | {"new_body": sealed("newer"), "replaces": sealed("fact")}
    maya.call("keep_memory", **fact)

    assert maya.call("keep_memory", **newer | change) == STALE
    assert bodies(maya) == [sealed("fact")]
    assert maya.call("keep_memory", **newer) == OK
    assert bodies(maya) == [sealed("newer")]


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
