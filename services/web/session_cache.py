"""Who is signed in, as this process knows it: cookies to opened app sessions.

The database is the truth. An opened session is a cache of it, asked about again every few seconds,
so that signing out or suspending somebody elsewhere takes effect here as well.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from services.domain import SessionId
from services.errors import SignedOut, StoreUnavailable, Tampered
from services.events import log_event
from services.store.supabase.sessions import AppSession, Cookie, Sessions

_TRUST_SECONDS = 5.0  # how long an answer of the database about a session holds
_OUTAGE_SECONDS = 600.0  # how long a session that was good survives a database that is away
_IDLE_SECONDS = 1800.0  # keys of a person whose last tab was closed so long ago leave the memory


@dataclass(slots=True)
class _Visitor:
    session: AppSession
    checked_at: float
    seen_at: float


@dataclass(slots=True)
class SessionCache:
    """The opened sessions of this process, one per cookie, shared by its tabs."""

    sessions: Sessions
    on_leave: Callable[[AppSession], None] = field(repr=False)  # before a session is ended
    on_forget: Callable[[AppSession], object] = field(repr=False)  # it has left the memory
    _by_hash: dict[str, _Visitor] = field(default_factory=dict[str, _Visitor], repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _opening: dict[str, threading.Lock] = field(
        default_factory=dict[str, threading.Lock], repr=False
    )
    _tabs: Counter[str] = field(default_factory=Counter[str], repr=False)  # connected, by hash

    def sign_up(self, email: str, password: str) -> Cookie:
        """Make an account and a session for it."""
        return self._enter(self.sessions.sign_up(email, password))

    def sign_in(self, email: str, password: str) -> Cookie:
        """Make a session."""
        return self._enter(self.sessions.sign_in(email, password))

    def find(self, cookie: Cookie) -> AppSession | None:
        """The session of *cookie*, opened if need be; None if there is none. Raise StoreUnavailable."""
        self._forget_idle()
        with self._lock:
            opening = self._opening.setdefault(cookie.hash, threading.Lock())
        try:
            with opening:  # one opening at a time: tabs share the session
                visitor = self._by_hash.get(cookie.hash)
                if visitor:
                    return self._still(visitor)
                session = self.sessions.open(cookie)
                self._remember(session)
                return session
        except (SignedOut, Tampered):
            return None
        finally:
            with self._lock:
                self._opening.pop(cookie.hash, None)

    def by_id(self, session_id: SessionId) -> AppSession | None:
        """The opened session with this id, if it is still alive. Raise StoreUnavailable."""
        with self._lock:
            visitor = next((v for v in self._by_hash.values() if v.session.id == session_id), None)
        return self._still(visitor) if visitor else None

    @contextmanager
    def connected(self, session: AppSession) -> Generator[None]:
        """While a tab is open its person is not away, however long they read."""
        with self._lock:
            self._tabs[session.cookie_hash] += 1
        try:
            yield
        finally:
            with self._lock:
                self._tabs[session.cookie_hash] -= 1
                self._tabs += Counter[str]()  # drops those that have none
                if visitor := self._by_hash.get(session.cookie_hash):
                    visitor.seen_at = time.monotonic()

    def leave(self, cookie: Cookie) -> None:
        """Sign out: what is coming is stored first, then the session ends. Raise StoreUnavailable."""
        visitor = self._by_hash.get(cookie.hash)
        if visitor:
            self.on_leave(visitor.session)
        self.sessions.end(cookie)
        self._drop(cookie.hash)

    def _enter(self, made: tuple[Cookie, AppSession]) -> Cookie:
        cookie, session = made
        self._remember(session)
        log_event("session.started", user=session.user_id, session=session.id)
        return cookie

    def _remember(self, session: AppSession) -> None:
        now = time.monotonic()
        with self._lock:
            self._by_hash[session.cookie_hash] = _Visitor(session, now, now)

    def _still(self, visitor: _Visitor) -> AppSession | None:
        visitor.seen_at = time.monotonic()
        age = visitor.seen_at - visitor.checked_at
        if age < _TRUST_SECONDS:
            return visitor.session
        try:
            is_alive = self.sessions.is_alive(visitor.session.cookie_hash)
        except StoreUnavailable:
            if age >= _OUTAGE_SECONDS:  # nobody knows: neither signed in nor signed out
                raise
            is_alive = True
        else:
            visitor.checked_at = visitor.seen_at
        if is_alive:
            return visitor.session
        self._drop(visitor.session.cookie_hash)
        return None

    def _drop(self, cookie_hash: str) -> None:
        with self._lock:
            visitor = self._by_hash.pop(cookie_hash, None)
        if visitor:
            self.on_forget(visitor.session)

    def _forget_idle(self) -> None:
        horizon = time.monotonic() - _IDLE_SECONDS
        with self._lock:
            idle = [
                cookie_hash
                for cookie_hash, visitor in self._by_hash.items()
                if visitor.seen_at < horizon and cookie_hash not in self._tabs
            ]
        for cookie_hash in idle:
            self._drop(cookie_hash)
