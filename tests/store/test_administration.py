"""Accounts that end in mid-turn, by an admin or by their user."""

import pytest

from tests.stack.apps import until
from tests.store.conftest import PASSWORD


@pytest.fixture
def admin(sign_up, shared, stack):
    """The services of an admin."""
    cookie, session = sign_up()
    with stack.connect() as database:
        database.execute(
            "update private.roles set role = 'admin' where user_id = %s", [session.user_id]
        )
    shared.session_cache.find(cookie)
    return shared.find(session.id)


@pytest.fixture
def user(sign_up, shared):
    """The session of a user at work."""
    cookie, session = sign_up()
    shared.session_cache.find(cookie)
    return session


@pytest.fixture
def turn(user, shared, server):
    """A live turn that has said something."""
    server.script(tokens=3, fault="hang", after=2)
    turn = shared.find(user.id).chat.begin(None, "How do I prune?")
    until(turn.said, within=20)
    return turn


def ending(stack, turn):
    with stack.connect() as database:
        [entry] = database.execute(
            "select kind, outcome from private.ledger where turn_id = %s", [turn.id]
        )
    return entry


@pytest.mark.parametrize("end", ["suspend", "sign_out", "delete"])
def test_reply_of_an_ended_user_costs_what_was_said(admin, user, turn, stack, end):
    act = getattr(admin.administration, end)
    act(user.user_id, **({"is_suspended": True} if end == "suspend" else {}))

    assert ending(stack, turn) == ("charge", "stopped")


def test_reply_at_ones_own_deletion_costs_what_was_said(sessions, shared, user, turn, stack):
    sessions.delete_account(user, PASSWORD, stop_turns=shared.stop_turns_of)

    assert ending(stack, turn) == ("charge", "stopped")
