"""What an admin does to a user in mid-turn."""

import pytest

from tests.stack.apps import until


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


@pytest.mark.parametrize("end", ["suspend", "sign_out", "delete"])
def test_reply_of_an_ended_user_costs_what_was_said(admin, sign_up, shared, stack, server, end):
    cookie, session = sign_up()
    shared.session_cache.find(cookie)
    server.script(tokens=3, fault="hang", after=2)
    turn = shared.find(session.id).chat.begin(None, "How do I prune?")
    until(turn.said, within=20)

    act = getattr(admin.administration, end)
    act(session.user_id, **({"is_suspended": True} if end == "suspend" else {}))

    with stack.connect() as database:
        [(kind, outcome)] = database.execute(
            "select kind, outcome from private.ledger where turn_id = %s", [turn.id]
        )
    assert (kind, outcome) == ("charge", "stopped")
