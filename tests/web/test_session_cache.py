"""Sessions in the memory of a process: trusted for some seconds, checked in the background, and forgotten."""

import math
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
        self.asked, self.end_reason = [], SessionEnd.SUSPENDED
        self.user_id = uuid4()
        self.ids = {}  # of the sessions, by the hash of each cookie
        self.on_proved = lambda: None  # called before the answer to a proof
        self.may_answer.set()

    def open(self, cookie):
        if cookie.hash not in self.alive:
            raise SignedOut
        session_id = self.ids.setdefault(cookie.hash, uuid4())
        return SimpleNamespace(id=session_id, user_id=self.user_id)

    def ended(self, sessions):
        self.asked.append(len(sessions))
        if self.is_away:
            raise StoreUnavailable
        alive = {self.ids[cookie_hash] for cookie_hash in self.alive}
        return {one.id: self.end_reason for one in sessions if one.id not in alive}

    def prove(self, session, cookie, checked):
        assert checked == "checked"
        if cookie.hash not in self.alive:
            raise SignedOut
        self.alive.discard(cookie.hash)
        new = Cookie.new()
        self.alive.add(new.hash)
        self.ids[new.hash] = session.id
        self.on_proved()
        return new

    def end(self, cookie):
        self.alive.discard(cookie.hash)

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


# --- a proof gives a session another cookie


def test_proof_is_known_by_the_new_cookie_alone(server, cache, happened):
    cookie, session = opened(server, cache)
    happened.clear()

    new = cache.prove(session, cookie, "checked")

    assert cache.find(new) is cache.by_id(session.id) is session
    assert not cache.is_open(cookie)
    assert cache.find(cookie) is cache.opened(cookie) is None
    assert (cache.count, happened) == (1, [])


def test_refused_proof_changes_nothing(server, cache):
    cookie, session = opened(server, cache)
    with pytest.raises(SignedOut):
        cache.prove(session, Cookie.new(), "checked")

    assert cache.opened(cookie) is session


@pytest.mark.usefixtures("due")
def test_check_of_the_old_cookie_does_not_end_a_session_that_is_proved(server, cache, happened):
    cookie, session = opened(server, cache)

    def check():
        """Check the cookie so far, once it opens nothing any more and before the proof is answered."""
        assert cache.by_id(session.id) is session
        until(lambda: server.checks == 1)

    server.on_proved = check
    new = cache.prove(session, cookie, "checked")

    assert not cache.has_ended(session.id, SECONDS)
    assert cache.find(new) is session
    assert ("forget", session.id) not in happened
    assert server.asked == []


def test_sign_out_beside_a_proof_ends_the_session(server, happened):
    cache = SessionCache(server, on_leave=lambda _: prove(), on_forget=happened.append)
    cookie, session = opened(server, cache)

    def prove():
        cache.prove(session, cookie, "checked")
        return nullcontext()

    cache.leave(cookie)

    assert server.alive == set()
    assert happened == [session]


@pytest.fixture
def moved(server, cache):
    """A session to which another process has given another cookie: the old one, the session, and the new one."""
    cookie, session = opened(server, cache)
    new = Cookie.new()
    server.alive = server.alive - {cookie.hash} | {new.hash}
    server.ids[new.hash] = session.id
    return cookie, session, new


def finds_out(cache, session):
    """Have the cache check the session."""
    cache.doubt(session.id)
    assert cache.by_id(session.id) is None


def test_cookie_that_another_process_changed_opens_nothing(cache, moved, happened):
    cookie, session, _ = moved

    finds_out(cache, session)

    assert cache.has_ended(session.id, 0.0)
    assert cache.find(cookie) is cache.opened(cookie) is None
    assert not cache.is_open(cookie)
    assert ("forget", session.id) not in happened


def test_outdated_session_is_forgotten_after_its_turns(server, happened):
    busy = []
    cache = SessionCache(
        server, on_leave=nullcontext, on_forget=happened.append, is_busy=lambda one: one in busy
    )
    cookie, session = opened(server, cache)
    _, other = opened(server, cache)
    busy += [session, other]
    server.alive.discard(cookie.hash)
    server.alive.add(new := Cookie.new().hash)
    server.ids[new] = session.id
    finds_out(cache, session)

    cache.forget_idle()
    assert (cache.count, happened) == (2, [])
    busy.remove(session)
    cache.forget_idle()

    assert (cache.count, happened) == (1, [session])


@pytest.mark.parametrize("is_known", [False, True])
def test_new_cookie_takes_the_place_of_the_older_one(cache, moved, happened, is_known):
    cookie, session, new = moved
    if is_known:
        finds_out(cache, session)

    found = cache.find(new)

    assert found.id == session.id
    assert cache.by_id(session.id) is found
    assert not cache.is_open(cookie)
    assert cache.count == 1
    assert happened == [("add", session.id)] * 2
    cache.forget_idle()
    assert cache.by_id(session.id) is found


def test_outdated_session_that_ends_is_forgotten_with_the_reason(server, cache, moved, happened):
    cookie, session, new = moved
    finds_out(cache, session)
    server.alive.discard(new.hash)

    cache.forget_if_ended([session])

    assert happened[-1] == ("forget", session.id)
    assert cache.why_ended(cookie) is SessionEnd.SUSPENDED


def test_old_cookie_is_told_for_a_moment_that_there_is_a_new_one(server, cache, moved, monkeypatch):
    cookie, session, _ = moved
    here, own = opened(server, cache)
    assert not any(map(cache.has_moved, (cookie, here, Cookie.new())))

    finds_out(cache, session)
    new = cache.prove(own, here, "checked")

    assert [cache.has_moved(one) for one in (cookie, here, new)] == [True, True, False]
    later = module.time.monotonic() + 10
    monkeypatch.setattr(module.time, "monotonic", lambda: later)
    assert not any(map(cache.has_moved, (cookie, here)))


@pytest.mark.usefixtures("due")
def test_request_with_a_replaced_cookie_waits_for_the_check_that_is_due(cache, moved):
    cookie, _, _ = moved

    assert cache.find(cookie) is None  # the database would refuse none of the session's calls

    assert cache.has_moved(cookie)


@pytest.mark.usefixtures("due")
def test_request_does_not_wait_for_a_database_that_hangs(server, cache, monkeypatch):
    cookie, session = opened(server, cache)
    monkeypatch.setattr(module, "_WAIT_SECONDS", 0.01)
    server.may_answer.clear()

    assert cache.find(cookie) is session

    server.may_answer.set()
    assert not cache.has_ended(session.id, SECONDS)


def test_polls_with_a_replaced_cookie_end_within_a_minute(cache, moved, monkeypatch):
    cookie, session, _ = moved
    assert cache.opened(cookie) is session
    later = module.time.monotonic() + 60
    monkeypatch.setattr(module.time, "monotonic", lambda: later)

    assert cache.opened(cookie) is None


def test_cookie_is_replaced_once_the_browser_has_learnt_the_new_one(server, cache, monkeypatch):
    own, here = opened(server, cache)
    now = module.time.monotonic()
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    new = cache.prove(here, own, "checked")
    assert cache.replaced_in(here, own) == pytest.approx(3)

    later = now + 3
    monkeypatch.setattr(module.time, "monotonic", lambda: later)

    assert cache.replaced_in(here, own) == 0
    assert cache.replaced_in(here, new) == math.inf


def test_cookie_is_replaced_where_the_new_one_comes_to_another_process(server, cache, moved):
    cookie, session, new = moved
    assert cache.replaced_in(session, cookie) == math.inf

    found = cache.find(new)

    assert cache.replaced_in(session, cookie) == 0
    server.alive.clear()
    cache.forget_if_ended([found])
    assert (
        cache.replaced_in(session, cookie) == math.inf
    )  # its tabs are closed, but for those with a draft


def test_tab_keeps_a_session_from_becoming_idle_across_a_proof(server, cache, monkeypatch):
    cookie, session = opened(server, cache)
    monkeypatch.setattr(module, "_IDLE_SECONDS", 0.0)
    with cache.connected(session):
        new = cache.prove(session, cookie, "checked")
        cache.forget_idle()
        assert cache.is_open(new)

    cache.forget_idle()
    assert not cache.is_open(new)


def test_longest_unused_of_many_sessions_of_a_user_are_forgotten(server, cache):
    first, session = opened(server, cache)
    with cache.connected(session):
        cookies = [opened(server, cache)[0] for _ in range(53)]
        assert cache.find(cookies[0])
        server.user_id = uuid4()
        other, _ = opened(server, cache)

        cache.forget_idle()

        closed = [number for number, cookie in enumerate(cookies) if not cache.is_open(cookie)]
        assert closed == [1, 2, 3]
        assert cache.is_open(first)
        assert cache.is_open(other)
        assert cache.find(cookies[1])  # opened again from its cookie
