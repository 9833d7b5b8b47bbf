"""Who writes to the database cannot have Supabase Auth hand the app another user's tokens."""

from collections.abc import Iterator

import pytest

from services.errors import SignedOut
from services.store.sessions import AppSession, Cookie, Sessions
from tests.conftest import RunningStack
from tests.hosted.rig import HostedRig
from tests.store.conftest import PASSWORD, Wire, make_sessions, new_email


@pytest.fixture(params=["embedded_stack", "hosted"], ids=["embedded", "hosted"])
def backend(request: pytest.FixtureRequest) -> RunningStack | HostedRig:
    return request.getfixturevalue(request.param)


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def process(backend: RunningStack | HostedRig, wire: Wire) -> Iterator[Sessions]:
    made = make_sessions(backend, wire)
    yield made
    made.gateway.http.close()


@pytest.fixture
def maya(process: Sessions) -> AppSession:
    return process.sign_up(new_email(), PASSWORD)[1]


@pytest.fixture
def attacker(process: Sessions, wire: Wire) -> tuple[Cookie, AppSession]:
    """Somebody whose access token is to be renewed with the next call."""
    wire.lifetime = 0
    cookie, session = process.sign_up(new_email(), PASSWORD)
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
    process: Sessions,
    maya: AppSession,
    attacker: tuple[Cookie, AppSession],
    backend: RunningStack | HostedRig,
    change: str,
    is_open: bool,
    caplog: pytest.LogCaptureFixture,
):
    cookie, session = attacker
    ids = {"victim": str(maya.user_id), "attacker": str(session.user_id)}
    with backend.connect() as database:
        for statement in change.split(";"):
            database.execute(statement, ids)

    with caplog.at_level("INFO", "daybook"), pytest.raises(SignedOut):
        session.bearer.keep_fresh() if is_open else process.open(cookie)

    assert not process.is_alive(cookie.hash)
    assert "session.mismatch" in caplog.text
