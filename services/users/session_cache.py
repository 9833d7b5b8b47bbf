"""Opened app sessions of this process, by cookie.

An opened session is checked again every few seconds, so that signing out or suspending a user in another process takes
effect here as well. Callers do not wait for the check, because every database call checks the session itself;
`has_ended` gives the result to a page that has been drawn meanwhile.
"""

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from services.caches import LruCache
from services.daemon_threads import in_thread
from services.domain import SessionId, UserId
from services.domain.accounts import SessionEnd
from services.errors import SignedOut, StoreUnavailable, Tampered
from services.store.accounts import Accounts, AppSession, Cookie

_FRESH_SECONDS = 5.0  # seconds between two checks of a session against the database
# seconds after the last check from which callers wait for a new check, or get StoreUnavailable
_TRUSTED_SECONDS = 600.0
_IDLE_SECONDS = 1800.0  # seconds from closing the last tab until the user's keys leave memory
_ENDED_SECONDS = 60.0  # seconds between two calls that ask which sessions have ended
_MOST_ENDED = 10_000  # sessions that are remembered with the reason why they ended


@contextmanager
def count_open(counter: Counter[str], key: str) -> Generator[None]:
    """Count an open tab in *counter* under *key* during the block. Only for the event loop's thread."""
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
    checked_at: float  # minus infinity makes the next caller wait for a check
    used_at: float
    doubted_at: float = -math.inf
    check: Future[None] | None = None  # the last check


@dataclass(slots=True, repr=False)
class SessionCache:
    """The opened sessions of this process, one per cookie, shared by its tabs.

    Any thread may call any method except `connected`, which is only for the event loop's thread.
    """

    accounts: Accounts
    # a context entered while a session is being ended
    on_leave: Callable[[AppSession], AbstractContextManager[None]]
    on_forget: Callable[[AppSession], object]  # called after a session has left memory
    # called before `find` can return the session
    on_add: Callable[[AppSession], object] = lambda _: None
    _entries: dict[str, _Entry] = field(default_factory=dict[str, _Entry])  # entries by cookie hash
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _opening: WeakValueDictionary[str, threading.Lock] = field(
        default_factory=WeakValueDictionary[str, threading.Lock]
    )
    _tabs: Counter[str] = field(default_factory=Counter[str])  # open tabs, by cookie hash
    # why sessions ended, by cookie hash, for tabs that connect with such a cookie
    _ends: LruCache[str, SessionEnd] = field(
        default_factory=lambda: LruCache[str, SessionEnd](_MOST_ENDED)
    )
    # when the database was last asked which sessions have ended
    _asked_at: float = field(default_factory=time.monotonic)

    @property
    def count(self) -> int:
        """The number of sessions open in this process."""
        return len(self._entries)

    def add(self, session: AppSession) -> None:
        """Add a session that was just opened."""
        self.on_add(session)
        now = time.monotonic()
        with self._lock:
            self._entries[session.cookie_hash] = _Entry(session, now, now)

    def find(self, cookie: Cookie) -> AppSession | None:
        """Return the session of *cookie*, opening it if necessary, or None if there is none. Raise StoreUnavailable."""
        with self._lock:
            opening = self._opening.setdefault(cookie.hash, threading.Lock())
        with opening:  # concurrent tabs share one opened session
            if entry := self._entries.get(cookie.hash):
                return self._trusted(entry)
            try:
                session = self.accounts.open(cookie)
            except (SignedOut, Tampered):
                return None
            self.add(session)
            return session

    def opened(self, cookie: Cookie) -> AppSession | None:
        """Return the session of *cookie* as `find` does, but do not check a session that is already open."""
        entry = self._entries.get(cookie.hash)
        return entry.session if entry else self.find(cookie)

    def is_open(self, cookie: Cookie) -> bool:
        """Return True if the session of *cookie* is open in this process, and not known to have ended."""
        return cookie.hash in self._entries

    def by_id(self, session_id: SessionId) -> AppSession | None:
        """Return the opened session with this id, unless it is known to have ended. Raise StoreUnavailable."""
        entry = self._entry(session_id)
        return self._trusted(entry) if entry else None

    def has_ended(self, session_id: SessionId, seconds: float) -> bool:
        """Return True if the session is known to have ended, after waiting up to *seconds* for a check in progress."""
        entry = self._entry(session_id)
        if entry and (check := entry.check):  # read once, because `doubt` may remove it
            wait([check], seconds)
        return self._entry(session_id) is None

    def doubt(self, session_id: SessionId) -> None:
        """Make the next use of the session wait for a check, because a call was refused."""
        if entry := self._entry(session_id):
            with self._lock:
                entry.checked_at, entry.doubted_at = -math.inf, time.monotonic()
                entry.check = None  # a check in progress began too early to notice the refusal

    def change(self, user_id: UserId, change: Callable[[AppSession], AppSession]) -> None:
        """Change what the opened sessions of a user know of the account."""
        with self._lock:
            for entry in self._entries.values():
                if entry.session.user_id == user_id:
                    entry.session = change(entry.session)

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
        entry = self._entries.get(cookie.hash)
        with self.on_leave(entry.session) if entry else nullcontext():
            self.accounts.end(cookie)
        self._forget(cookie.hash)

    def forget_idle(self) -> None:
        """Forget sessions that had no open tab for half an hour, and so their users' keys. Call this regularly."""
        horizon = time.monotonic() - _IDLE_SECONDS
        with self._lock:
            idle = [
                cookie_hash
                for cookie_hash, entry in self._entries.items()
                if entry.used_at < horizon and cookie_hash not in self._tabs
            ]
        for cookie_hash in idle:
            self._forget(cookie_hash)

    def why_ended(self, cookie: Cookie) -> SessionEnd:
        """Return the reason why *cookie* opens no session, as far as this process knows."""
        return self._ends.get(cookie.hash) or SessionEnd.ENDED

    def forget_ended(self) -> None:
        """Ask in one call which of the sessions have ended, and forget those. Does so at most once a minute.

        Raise StoreUnavailable.
        """
        if time.monotonic() - self._asked_at >= _ENDED_SECONDS:
            self._asked_at = time.monotonic()
            with self._lock:
                sessions = [entry.session for entry in self._entries.values()]
            self.forget_if_ended(sessions)

    def forget_if_ended(self, sessions: Sequence[AppSession]) -> None:
        """Forget the *sessions* that have ended. Raise StoreUnavailable."""
        ended = self.accounts.ended(sessions) if sessions else {}
        for session in sessions:
            if end := ended.get(session.id):
                self._forget(session.cookie_hash, end)

    def _entry(self, session_id: SessionId) -> _Entry | None:
        with self._lock:
            every = self._entries.values()
            return next((entry for entry in every if entry.session.id == session_id), None)

    def _trusted(self, entry: _Entry) -> AppSession | None:
        """Return the session of *entry*, or None if it has ended; start a check that is due. Raise StoreUnavailable."""
        entry.used_at = time.monotonic()
        age = entry.used_at - entry.checked_at
        if age < _FRESH_SECONDS:
            return entry.session
        with self._lock:
            if entry.check is None or entry.check.done():
                entry.check = in_thread("session-check", lambda: self._check(entry))
            check = entry.check
        if age >= _TRUSTED_SECONDS:
            check.result()
        return entry.session if self._entry(entry.session.id) is entry else None

    def _check(self, entry: _Entry) -> None:
        began = time.monotonic()
        if self.accounts.backend.is_alive(entry.session.cookie_hash):
            if entry.doubted_at < began:
                entry.checked_at = began
        else:
            end = SessionEnd.ENDED
            with suppress(StoreUnavailable):
                end = self.accounts.ended([entry.session]).get(entry.session.id, end)
            self._forget(entry.session.cookie_hash, end)

    def _forget(self, cookie_hash: str, end: SessionEnd | None = None) -> None:
        if end:
            self._ends.put(cookie_hash, end)
        with self._lock:
            entry = self._entries.pop(cookie_hash, None)
        if entry:
            self.on_forget(entry.session)
