"""Opened app sessions of this process, by cookie.

A cache of the database: an opened session is checked again every few seconds, so that signing out or
suspending a user on another process takes effect here as well.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from services.domain import SessionId
from services.errors import SignedOut, StoreUnavailable, Tampered
from services.store.supabase.sessions import AppSession, Cookie, Sessions

_FRESH_SECONDS = 5.0  # between two checks of a session against the database
_OUTAGE_SECONDS = 600.0  # for which a session that was valid survives an unreachable database
_IDLE_SECONDS = 1800.0  # from the last open tab until the user's keys leave memory


@contextmanager
def count_open(counter: Counter[str], key: str) -> Generator[None]:
    """Count an open tab under *key* of *counter*. Only for the event loop's thread."""
    counter[key] += 1
    try:
        yield
    finally:
        counter[key] -= 1
        if not counter[key]:
            del counter[key]


@dataclass(slots=True)
class _Entry:
    session: AppSession
    checked_at: float
    used_at: float


@dataclass(slots=True, repr=False)
class SessionCache:
    """The opened sessions of this process, one per cookie, shared by its tabs."""

    sessions: Sessions
    on_leave: Callable[[AppSession], None]  # before a session is ended
    on_forget: Callable[[AppSession], object]  # after a session has left memory
    _entries: dict[str, _Entry] = field(default_factory=dict[str, _Entry])  # by cookie hash
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _opening: WeakValueDictionary[str, threading.Lock] = field(
        default_factory=WeakValueDictionary[str, threading.Lock]
    )
    _tabs: Counter[str] = field(default_factory=Counter[str])  # open ones, by cookie hash

    def add(self, session: AppSession) -> None:
        """Add a session that was just opened."""
        now = time.monotonic()
        with self._lock:
            self._entries[session.cookie_hash] = _Entry(session, now, now)

    def find(self, cookie: Cookie) -> AppSession | None:
        """The session of *cookie*, opened if need be; None if there is none. Raise StoreUnavailable."""
        self._forget_idle()
        with self._lock:
            opening = self._opening.setdefault(cookie.hash, threading.Lock())
        with opening:  # concurrent tabs share one opened session
            if entry := self._entries.get(cookie.hash):
                return self._checked(entry)
            try:
                session = self.sessions.open(cookie)
            except (SignedOut, Tampered):
                return None
            self.add(session)
            return session

    def by_id(self, session_id: SessionId) -> AppSession | None:
        """The opened session with this id, if it is still alive. Raise StoreUnavailable."""
        with self._lock:
            entry = next((e for e in self._entries.values() if e.session.id == session_id), None)
        return self._checked(entry) if entry else None

    @contextmanager
    def connected(self, session: AppSession) -> Generator[None]:
        """Keep *session* from becoming idle while a tab is open."""
        try:
            with count_open(self._tabs, session.cookie_hash):
                yield
        finally:
            if entry := self._entries.get(session.cookie_hash):
                entry.used_at = time.monotonic()

    def leave(self, cookie: Cookie) -> None:
        """Sign out: store partial replies first, then end the session. Raise StoreUnavailable."""
        if entry := self._entries.get(cookie.hash):
            self.on_leave(entry.session)
        self.sessions.end(cookie)
        self._forget(cookie.hash)

    def _checked(self, entry: _Entry) -> AppSession | None:
        """The session of *entry*, or None if it has ended. Raise StoreUnavailable."""
        entry.used_at = time.monotonic()
        age = entry.used_at - entry.checked_at
        if age < _FRESH_SECONDS:
            return entry.session
        try:
            is_alive = self.sessions.is_alive(entry.session.cookie_hash)
            entry.checked_at = entry.used_at
        except StoreUnavailable:
            if age >= _OUTAGE_SECONDS:  # unknown: neither signed in nor signed out
                raise
            is_alive = True
        if is_alive:
            return entry.session
        self._forget(entry.session.cookie_hash)
        return None

    def _forget(self, cookie_hash: str) -> None:
        with self._lock:
            entry = self._entries.pop(cookie_hash, None)
        if entry:
            self.on_forget(entry.session)

    def _forget_idle(self) -> None:
        horizon = time.monotonic() - _IDLE_SECONDS
        with self._lock:
            idle = [
                cookie_hash
                for cookie_hash, entry in self._entries.items()
                if entry.used_at < horizon and cookie_hash not in self._tabs
            ]
        for cookie_hash in idle:
            self._forget(cookie_hash)
