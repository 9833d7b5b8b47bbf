"""Sessions in the memory of a process: trusted for some seconds, checked in the background, and forgotten."""

from contextlib import nullcontext
from threading import Event
from types import SimpleNamespace
from uuid import uuid4

import pytest

from services.daemon_threads import in_thread
from services.domain.accounts import SessionEnd
from services.errors import SignedOut, StoreUnavailable
from services.store.accounts import Cookie
from services.users import session_cache as module
from services.users.session_cache import SessionCache
from tests.stack.apps import SECONDS, until


class Server:
    """The sessions of a database that answers when a test allows it."""

    def __init__(self):
        self.backend = self
        self.alive, self.may_answer, self.checks, self.is_away = set(), Event(), 0, False
        self.asked, self.end = [], SessionEnd.SUSPENDED
        self.may_answer.set()

    def open(self, cookie):
        if cookie.hash not in self.alive:
            raise SignedOut
        return SimpleNamespace(id=uuid4(), cookie_hash=cookie.hash)

    def ended(self, sessions):
        self.asked.append(len(sessions))
        if self.is_away:
            raise StoreUnavailable
        return {one.id: self.end for one in sessions if one.cookie_hash not in self.alive}

    def is_alive(self, cookie_hash):
        self.checks += 1
        assert self.may_answer.wait(SECONDS)
        if self.is_away:
            raise StoreUnavailable
        return cookie_hash in self.alive


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def happened():
    return []


@pytest.fixture
def cache(server, happened):
    return SessionCache(
        server,
        on_leave=lambda session: nullcontext(happened.append(("leave", session.id))),
        on_forget=lambda session: happened.append(("forget", session.id)),
        on_add=lambda session: happened.append(("add", session.id)),
    )


@pytest.fixture
def session(server, cache):
    """A session that this process has opened."""
    cookie = Cookie.new()
    server.alive.add(cookie.hash)
    return cache.find(cookie)


@pytest.fixture
def due(monkeypatch):
    """Make a check due at once."""
    monkeypatch.setattr(module, "_FRESH_SECONDS", 0.0)


def test_fresh_session_is_not_checked(server, cache, session):
    assert cache.by_id(session.id) is session

    assert server.checks == 0


@pytest.mark.usefixtures("due")
def test_session_is_used_while_it_is_checked(server, cache, session):
    server.may_answer.clear()

    assert cache.by_id(session.id) is session
    assert cache.by_id(session.id) is session
    assert not cache.has_ended(session.id, 0.0)

    server.may_answer.set()
    assert not cache.has_ended(session.id, SECONDS)
    assert server.checks == 1


@pytest.mark.usefixtures("due")
def test_session_ended_elsewhere_ends_with_its_check(server, cache, session, happened):
    server.alive.clear()
    server.may_answer.clear()
    assert cache.by_id(session.id) is session

    server.may_answer.set()

    assert cache.has_ended(session.id, SECONDS)
    assert cache.by_id(session.id) is None
    assert happened == [("add", session.id), ("forget", session.id)]


def test_session_is_checked_first_after_a_refused_call(server, cache, session):
    server.alive.clear()
    assert cache.by_id(session.id) is session

    cache.doubt(session.id)

    assert cache.by_id(session.id) is None


@pytest.fixture
def early_check(server, cache, session, monkeypatch):
    """A check that began before the session was doubted, and waits for its answer."""
    checks = []
    with monkeypatch.context() as patch:
        patch.setattr(module, "_FRESH_SECONDS", 0.0)
        patch.setattr(
            module, "in_thread", lambda *work: checks.append(in_thread(*work)) or checks[0]
        )
        server.may_answer.clear()
        assert cache.by_id(session.id) is session
    until(lambda: server.checks == 1)
    cache.doubt(session.id)
    return checks[0]


def test_doubted_session_waits_for_a_check_of_its_own(server, cache, session, early_check):
    reading = in_thread("reader", lambda: cache.by_id(session.id))
    until(lambda: server.checks == 2)
    assert not early_check.done()

    server.may_answer.set()

    assert reading.result(SECONDS) is session


def test_check_begun_before_a_doubt_does_not_settle_it(server, cache, session, early_check):
    server.may_answer.set()
    early_check.result(SECONDS)
    server.alive.clear()

    assert cache.by_id(session.id) is None


@pytest.mark.usefixtures("due")
def test_session_unchecked_for_long_is_checked_first(server, cache, session, monkeypatch):
    monkeypatch.setattr(module, "_TRUSTED_SECONDS", 0.0)
    assert cache.by_id(session.id) is session
    server.is_away = True
    with pytest.raises(StoreUnavailable):
        cache.by_id(session.id)
    server.is_away = False
    server.alive.clear()

    assert cache.by_id(session.id) is None


@pytest.mark.usefixtures("due")
def test_session_survives_an_unreachable_database(server, cache, session):
    server.is_away = True

    assert cache.by_id(session.id) is session
    assert not cache.has_ended(session.id, SECONDS)
    assert cache.by_id(session.id) is session


def opened(server, cache):
    cookie = Cookie.new()
    server.alive.add(cookie.hash)
    return cookie, cache.find(cookie)


def test_process_asks_once_a_minute_which_sessions_ended(server, cache, happened, monkeypatch):
    clock = [module.time.monotonic()]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    cache.forget_ended()
    clock[0] += 60
    cache.forget_ended()
    assert server.asked == []  # the process has no sessions

    (gone, first), (_, second) = (opened(server, cache) for _ in range(2))
    server.alive.discard(gone.hash)
    happened.clear()
    for _ in range(60):
        clock[0] += 1
        cache.forget_ended()

    assert server.asked == [2]
    assert happened == [("forget", first.id)]
    assert cache.by_id(second.id) is second


def test_end_of_a_session_is_told_to_its_cookie(server, cache, session, monkeypatch):
    cookie, other = opened(server, cache)
    assert cache.why_ended(Cookie.new()) is SessionEnd.ENDED
    server.alive.discard(cookie.hash)

    cache.forget_if_ended([other])

    assert cache.find(cookie) is None
    assert cache.why_ended(cookie) is SessionEnd.SUSPENDED


@pytest.mark.usefixtures("due")
def test_check_of_an_ended_session_learns_why(server, cache, session):
    cookie, other = opened(server, cache)
    server.alive.discard(cookie.hash)

    cache.by_id(other.id)

    assert cache.has_ended(other.id, SECONDS)
    assert cache.why_ended(cookie) is SessionEnd.SUSPENDED


@pytest.mark.usefixtures("due")
def test_poll_finds_an_opened_session_without_a_check(server, cache):
    cookie, session = opened(server, cache)

    assert cache.opened(cookie) is session
    assert cache.opened(Cookie.new()) is None

    assert server.checks == 0


def test_ended_sessions_stay_while_the_database_is_away(server, cache, session):
    server.alive.clear()
    server.is_away = True

    with pytest.raises(StoreUnavailable):
        cache.forget_if_ended([session])

    assert cache.by_id(session.id) is session
