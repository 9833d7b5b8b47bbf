"""Messages that no turn brought: replies that their user edited."""

from uuid import uuid4

import pytest

from tests.database.people import HEAD, sealed


@pytest.fixture
def maya(world):
    return world.person()


@pytest.fixture
def reply():
    return uuid4()


@pytest.fixture
def garden(maya, reply):
    """A conversation of Maya's, with a prompt and a reply."""
    garden = maya.create_conversation()
    maya.finish(maya.begin(garden)["turn"], 1, 400, reply=reply)
    return garden


def edit(person, conversation, rev, original, **changes):
    arguments = {
        "conversation": conversation,
        "expected_rev": rev,
        "original": original,
        "reply": uuid4(),
        "reply_body": sealed("edited"),
        "body_key_version": 1,
        "new_head": HEAD,
    }
    return person.call("edit_reply", **(arguments | changes))


def newest(person):
    return max(person.rows("messages"), key=lambda row: row["seq"])


def test_edited_reply_is_a_sibling_without_a_turn_that_costs_nothing(world, maya, garden, reply):
    money = world.contents()["private.budgets"], world.contents()["private.ledger"]

    assert edit(maya, garden, 2, reply) == {"ok": True}

    prompt, *_ = sorted(maya.rows("messages"), key=lambda row: row["seq"])
    edited = newest(maya)
    assert (edited["parent_id"], edited["seq"], edited["turn_id"]) == (prompt["id"], 3, None)
    assert (edited["role"], edited["outcome"]) == ("assistant", "edited")
    assert world.one(
        "select rev, last_seq, read_seq, message_count from public.conversations where id = %s",
        garden,
    ) == (3, 3, 3, 3)
    assert (world.contents()["private.budgets"], world.contents()["private.ledger"]) == money


def test_editing_twice_with_one_id_edits_once(maya, garden, reply):
    edited = {"reply": uuid4()}

    assert edit(maya, garden, 2, reply, **edited) == edit(maya, garden, 2, reply, **edited)

    assert len(maya.rows("messages")) == 3


def test_reply_is_edited_by_who_has_seen_the_conversation_as_it_is(maya, garden, reply):
    assert edit(maya, garden, 1, reply)["reason"] == "stale"

    turn = maya.begin(garden, 2)["turn"]
    assert edit(maya, garden, 3, reply)["reason"] == "busy"
    maya.finish(turn, 3)

    assert edit(maya, garden, 4, reply)["ok"]


def test_only_replies_of_ones_own_conversation_are_edited(world, maya, garden, reply):
    elsewhere = maya.create_conversation()
    prompt = min(maya.rows("messages"), key=lambda row: row["seq"])["id"]

    assert edit(maya, garden, 2, prompt)["reason"] == "not_found"
    assert edit(maya, garden, 2, uuid4())["reason"] == "not_found"
    assert edit(maya, elsewhere, 0, reply)["reason"] == "not_found"
    assert edit(world.person(), garden, 2, reply)["reason"] == "not_found"
    assert len(maya.rows("messages")) == 2
