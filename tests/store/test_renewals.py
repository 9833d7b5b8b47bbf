"""An attacker who writes to the database gets no other user's tokens by renewal."""

import pytest

from services.errors import SignedOut
from tests.store.conftest import PASSWORD, new_email


@pytest.fixture
def attacker(process, wire):
    """A user whose access token is due for renewal."""
    wire.lifetime = 0
    cookie, session = process.sign_up_with(new_email(), PASSWORD)
    wire.lifetime = None
    return cookie, session


@pytest.mark.parametrize("is_open", [False, True])
@pytest.mark.parametrize(
    "change",
    [
        "update auth.refresh_tokens set user_id = %(victim)s where user_id::text = %(attacker)s;"
        "update auth.sessions set user_id = %(victim)s where user_id::text = %(attacker)s",
        "update auth.refresh_tokens set session_id = ("
        "select id from auth.sessions where user_id::text = %(victim)s"
        ") where user_id::text = %(attacker)s",
    ],
    ids=["user", "session"],
)
def test_renewal_with_tokens_of_another_session_ends_ours(
    process, maya, attacker, stack, change, is_open, caplog
):
    cookie, session = attacker
    ids = {"victim": str(maya.user_id), "attacker": str(session.user_id)}
    with stack.connect() as database:
        for statement in change.split(";"):
            database.execute(statement, ids)

    with caplog.at_level("INFO", "daybook"), pytest.raises(SignedOut):
        opened = session if is_open else process.open(cookie)
        opened.backend.bearer.keep_fresh()

    assert not process.backend.is_alive(cookie.hash)
    assert "session.mismatch" in caplog.text
