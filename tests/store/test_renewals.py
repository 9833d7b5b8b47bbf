"""Renewals of tokens: an attacker who writes to the database gets no other user's, and a proof gets in the way of none."""

import threading

import httpx
import pytest

from services.daemon_threads import in_thread
from services.errors import SignedOut, StoreUnavailable
from services.store.accounts import Cookie
from services.store.supabase import session_tokens
from tests.stack.apps import SECONDS, until
from tests.store.conformance.talk import begun_with, new_turn, titles
from tests.store.conftest import PASSWORD, Wire, make_sessions, new_email
from tests.stores import store_of


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


# --- a proof gives the session another cookie


class Gate(Wire):
    """A wire on which calls of one name wait, before they are sent."""

    def __init__(self):
        super().__init__()
        self.name, self.waits, self.may_pass = "", threading.Event(), threading.Event()
        self.cuts = False  # true: they are not sent at all

    def handle_request(self, request):
        if self.name and f"{request.url.path}?{request.url.query.decode()}".endswith(self.name):
            if self.cuts:
                raise httpx.ConnectError("away", request=request)
            self.waits.set()
            assert self.may_pass.wait(SECONDS)
        return super().handle_request(request)


@pytest.fixture
def gate():
    return Gate()


@pytest.fixture
def elsewhere(stack, gate):
    """Another app process, on *gate*."""
    made = make_sessions(stack, gate)
    yield made
    made.backend.gateway.http.close()


def opened_by(process, email):
    """Sign in; return the cookie and the session."""
    process.sign_up_with(email, PASSWORD)
    return process.sign_in_with(email, PASSWORD)


def titles_of(session):
    return titles(store_of(session).conversations.recent())


def test_tokens_are_renewed_after_a_proof(process, wire, stack, elsewhere):
    cookie, session = opened_by(process, new_email())
    proven = process.prove_with(session, cookie, PASSWORD)
    wire.refused = 1

    begun_with(store_of(session), "Letters")

    assert wire.renewals == 1
    assert titles_of(elsewhere.open(proven)) == ["Letters"]


def test_proof_waits_for_a_renewal_of_another_process(process, wire, elsewhere, gate):
    cookie, session = opened_by(process, new_email())
    other = elsewhere.open(cookie)
    gate.name, gate.refused = "grant_type=refresh_token", 1
    reading = in_thread("reader", lambda: titles_of(other))
    assert gate.waits.wait(SECONDS)

    proving = in_thread("prover", lambda: process.prove_with(session, cookie, PASSWORD))
    until(lambda: wire.made.count("rpc/lease_refresh") >= 2)
    assert not proving.done()
    gate.may_pass.set()

    proven = proving.result(SECONDS)
    assert (reading.result(SECONDS), gate.renewals) == ([], 1)
    assert titles_of(session) == []  # by the tokens that the other process stored
    wire.refused = 1
    assert titles_of(process.open(proven)) == []
    assert wire.renewals == 1


def test_renewal_of_another_process_waits_for_a_proof(process, wire, elsewhere, gate):
    cookie, session = opened_by(process, new_email())
    mine = elsewhere.open(cookie)
    gate.name = "/prove_session?"
    proving = in_thread("prover", lambda: elsewhere.prove_with(mine, cookie, PASSWORD))
    assert gate.waits.wait(SECONDS)

    wire.refused = 1
    reading = in_thread("reader", lambda: titles_of(session))
    until(lambda: wire.made.count("rpc/lease_refresh") >= 2)
    gate.may_pass.set()

    assert elsewhere.open(proving.result(SECONDS)).id == session.id
    with pytest.raises(SignedOut):
        reading.result(SECONDS)
    assert wire.renewals == 0
    assert titles_of(mine) == []


def test_renewal_of_the_same_process_goes_on_by_the_new_cookie(elsewhere, gate):
    cookie, session = opened_by(elsewhere, new_email())
    gate.name = "/prove_session?"
    proving = in_thread("prover", lambda: elsewhere.prove_with(session, cookie, PASSWORD))
    assert gate.waits.wait(SECONDS)

    gate.refused = 1
    reading = in_thread("reader", lambda: titles_of(session))
    until(lambda: gate.refused == 0)
    gate.may_pass.set()

    assert elsewhere.backend.is_alive(proving.result(SECONDS).hash)
    assert (reading.result(SECONDS), gate.renewals) == ([], 1)


def test_process_with_the_cookie_of_before_begins_no_turn_by_an_old_token(process, elsewhere, gate):
    _, session = opened_by(process, new_email())
    gate.lifetime = 30  # seconds: it is due for renewal
    other_cookie, other = elsewhere.sign_in_with(session.email, PASSWORD)
    turn = new_turn(begun_with(store_of(other), "Letters"), "And leeks?")
    gate.renewals = 0
    mine = process.open(other_cookie)

    process.prove_with(mine, other_cookie, PASSWORD)

    assert titles_of(other) == ["Letters"]
    with pytest.raises(SignedOut):
        store_of(other).turns.begin(turn)
    assert gate.renewals == 0


def test_proof_that_was_not_sent_leaves_the_cookie(process, wire, elsewhere, gate, monkeypatch):
    monkeypatch.setattr(session_tokens, "_LEASE_SECONDS", 2)
    cookie, session = opened_by(elsewhere, new_email())

    gate.cuts = True
    gate.name = "/prove_session?"

    with pytest.raises(StoreUnavailable):
        elsewhere.prove_with(session, cookie, PASSWORD)
    gate.name = ""

    assert process.open(cookie).id == session.id
    proven = elsewhere.prove_with(session, cookie, PASSWORD)  # once the lease has run out
    assert process.open(proven).id == session.id
    assert not process.backend.is_alive(cookie.hash)


def test_proof_whose_cookie_was_changed_after_its_lease_is_refused(elsewhere, gate, stack):
    cookie, session = opened_by(elsewhere, new_email())
    gate.name = "/prove_session?"
    proving = in_thread("prover", lambda: elsewhere.prove_with(session, cookie, PASSWORD))
    assert gate.waits.wait(SECONDS)

    with stack.connect() as database:
        change = "update private.app_sessions set cookie_hash = %s where id = %s"
        database.execute(change, [Cookie.new().hash, session.id])
    gate.may_pass.set()

    with pytest.raises(SignedOut):
        proving.result(SECONDS)
