"""The figures about a user's data count only the caller's rows."""

import pytest

from tests.database.people import SIGNED_OUT, a_document, sealed


@pytest.fixture
def maya(world):
    return world.person()


def test_figures_are_the_callers_own(world, maya):
    omar = world.person()
    garden = maya.create_conversation()
    maya.finish(maya.begin(garden, receipt_body=sealed("receipt"))["turn"], 1, 400)
    maya.call("put_document", **a_document())

    mine, theirs = maya.call("my_data"), omar.call("my_data")

    assert (mine["conversations"], mine["messages"]) == (1, 2)
    assert mine["ledger_entries"] == world.one("select count(*) from private.ledger")
    assert mine["sealed_bytes"] == world.one(
        "select sum(octet_length(title)) + (select sum(octet_length(body)) from public.messages)"
        " + (select sum(octet_length(body)) from public.receipts)"
        " + (select sum(octet_length(body)) from public.documents) from public.conversations"
    )
    assert theirs == {
        **dict.fromkeys(("conversations", "archived", "messages", "spaces", "facts"), 0),
        **dict.fromkeys(("sealed_bytes", "deleted", "ledger_entries"), 0),
        **dict.fromkeys(("destroyed_at", "ledger_since")),
    }


def test_figures_read_no_messages_of_other_users(world, maya):
    maya.finish(maya.begin(maya.create_conversation())["turn"], 1)
    world.fill(world.person().create_conversation(), 1, 5000)
    world.admin.execute("analyze public.messages, public.conversations")

    def call():
        assert maya.call("my_data")["messages"] == 2

    assert sum(world.work("public.messages", call)[:2]) < 10


def test_figures_are_refused_without_a_session(world, maya):
    world.sign_out(maya)

    assert maya.refusal("my_data") == SIGNED_OUT


def test_polled_revisions_are_the_callers_own(world, maya, garden):
    omar = world.person()
    turn = maya.begin(garden)["turn"]

    mine, theirs = (
        one.call("poll", conversation=garden, space=None, archived=False) for one in (maya, omar)
    )

    assert (mine["chat"], mine["running"], mine["is_admin"]) == (1, [str(garden)], False)
    assert (theirs["chat"], theirs["choices"], theirs["running"]) == (None, None, [])
    assert theirs["list"] != mine["list"]
    maya.finish(turn, 1)
    world.make_admin(maya)
    after = maya.call("poll", conversation=garden, space=None, archived=False)
    assert (after["chat"], after["running"], after["is_admin"]) == (2, [], True)
    world.sign_out(maya)
    assert maya.refusal("poll", conversation=garden, space=None, archived=False) == SIGNED_OUT
