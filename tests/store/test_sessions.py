"""App sessions: from a cookie to keys, on any process, and to their end."""

import threading
import time
from collections.abc import Callable

import pytest

from services.domain import Window
from services.errors import (
    AddressTaken,
    AppError,
    BadInput,
    SignedOut,
    StoreUnavailable,
    WrongCredentials,
)
from services.store.accounts import WeakPassword
from services.store.conversations import Conversations
from services.store.sessions import AppSession, Cookie, Sessions
from tests.conftest import RunningStack
from tests.store.conftest import PASSWORD, make_sessions, new_email

SignUp = Callable[[], tuple[Cookie, AppSession]]


def test_an_account_signs_in_again_and_has_the_same_key(sessions: Sessions):
    email = new_email()
    _, first = sessions.sign_up(email, PASSWORD)
    _, second = sessions.sign_in(email, PASSWORD)

    assert first.user_id == second.user_id
    assert first.id != second.id
    wrapped = first.newest_key.wrap(b"k" * 32, first.id, 1)
    assert second.newest_key.unwrap(wrapped, first.id, 1) == b"k" * 32


def test_a_wrong_password_and_an_unknown_address_are_refused_alike(sessions: Sessions):
    email = new_email()
    sessions.sign_up(email, PASSWORD)

    with pytest.raises(WrongCredentials) as wrong:
        sessions.sign_in(email, PASSWORD + "!")
    with pytest.raises(WrongCredentials) as unknown:
        sessions.sign_in(new_email(), PASSWORD)
    assert wrong.value.public == unknown.value.public


def test_a_taken_address_is_refused(sessions: Sessions):
    email = new_email()
    sessions.sign_up(email, PASSWORD)

    with pytest.raises(AddressTaken):
        sessions.sign_up(email, PASSWORD)


@pytest.mark.parametrize("password", ["short", "a" * 20, "x" * 200])
def test_a_weak_password_is_refused(sessions: Sessions, password: str):
    with pytest.raises(WeakPassword):
        sessions.sign_up(new_email(), password)


@pytest.mark.parametrize("email", ["", "maya", "@x.test", "a b@x.test", "a" * 250 + "@x.test"])
def test_what_is_no_address_is_refused(sessions: Sessions, email: str):
    with pytest.raises(BadInput):
        sessions.sign_up(email, PASSWORD)


def test_a_cookie_opens_its_session_on_another_process(sign_up: SignUp, stack: RunningStack):
    cookie, session = sign_up()
    conversation = Conversations(session).create("Letters", Window())
    elsewhere = make_sessions(stack)

    opened = elsewhere.open(cookie)

    assert (opened.id, opened.user_id, opened.email) == (session.id, session.user_id, session.email)
    assert [c.title for c in Conversations(opened).recent()] == ["Letters"]
    assert conversation.conversation.title == "Letters"
    elsewhere.gateway.http.close()


def test_eight_processes_that_open_one_cookie_at_once_all_succeed(
    sign_up: SignUp, stack: RunningStack
):
    cookie, session = sign_up()
    opened: list[AppSession] = []
    failed: list[AppError] = []

    def open_it() -> None:
        process = make_sessions(stack)
        try:
            opened.append(process.open(cookie))
        except AppError as error:
            failed.append(error)
        finally:
            process.gateway.http.close()

    threads = [threading.Thread(target=open_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failed == []
    assert {one.id for one in opened} == {session.id}


def test_a_token_with_little_left_is_renewed(sign_up: SignUp):
    _, session = sign_up()
    before = session._tokens

    session.keep_fresh(seconds=before.expires_at)  # more than any token has

    assert session._tokens.refresh != before.refresh
    assert Conversations(session).recent() == []


def test_another_cookie_opens_nothing(sessions: Sessions, sign_up: SignUp):
    sign_up()

    with pytest.raises(SignedOut):
        sessions.open(Cookie.new())


def test_signing_out_ends_the_cookie_and_the_token(sessions: Sessions, sign_up: SignUp):
    cookie, session = sign_up()
    conversations = Conversations(session)
    thread = conversations.create("Letters", Window())

    sessions.end(cookie)

    assert not sessions.is_alive(cookie.hash)
    assert conversations.recent() == []  # the same token reads nothing …
    with pytest.raises(SignedOut):  # … and writes nothing
        conversations.rename(thread.conversation.id, "Other")
    with pytest.raises(SignedOut):
        sessions.open(cookie)


def test_a_suspended_person_is_out_at_once(
    sessions: Sessions, sign_up: SignUp, stack: RunningStack
):
    cookie, session = sign_up()
    Conversations(session).create("Letters", Window())

    with stack.connect() as database:
        database.execute(
            "update private.roles set suspended_at = now() where user_id = %s", [session.user_id]
        )

    assert not sessions.is_alive(cookie.hash)
    assert Conversations(session).recent() == []


def test_a_clock_that_is_wrong_is_no_reason_to_sign_anybody_out(
    sessions: Sessions, sign_up: SignUp, monkeypatch: pytest.MonkeyPatch
):
    cookie, _ = sign_up()
    now = time.time()
    monkeypatch.setattr("services.store.gateway.time.time", lambda: now - 90)

    with pytest.raises(StoreUnavailable):
        sessions.open(cookie)
    with pytest.raises(StoreUnavailable):
        sessions.is_alive(cookie.hash)


def test_a_session_ends_when_it_is_idle_and_when_it_is_old(stack: RunningStack):
    process = make_sessions(stack, idle_seconds=60, lifetime_seconds=60)
    idle, _ = process.sign_up(new_email(), PASSWORD)
    old, _ = process.sign_up(new_email(), PASSWORD)
    alive, _ = process.sign_up(new_email(), PASSWORD)
    with stack.connect() as database:
        for change, cookie in (
            ("seen_at = now() - interval '61 seconds'", idle),
            ("expires_at = now() - interval '1 second'", old),
        ):
            database.execute(
                f"update private.app_sessions set {change} where cookie_hash = %s", [cookie.hash]
            )

    assert [process.is_alive(c.hash) for c in (idle, old, alive)] == [False, False, True]
    process.gateway.http.close()


def test_a_copy_of_the_database_opens_no_session(sign_up: SignUp, stack: RunningStack):
    cookie, _ = sign_up()
    with stack.connect() as database:
        rows = database.execute("select t::text from private.app_sessions t").fetchall()

    text = str(rows)
    assert cookie.hash in text
    assert str(cookie) not in text
