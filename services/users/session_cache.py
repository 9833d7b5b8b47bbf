"""The app sessions that are open in this process, found by cookie or by id.

A session in use is checked every few seconds, because another process may have signed out or suspended its user. Page
runs do not wait for the check, because every database call checks the session itself; after a page is drawn,
`has_ended` returns the result of the check. Requests with a cookie, and actions that need a proof, wait for the check:
the database identifies a session by its tokens, and these do not change when another process replaces its cookie.
"""

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import TypeVar
from weakref import WeakValueDictionary

from services.caches import LruCache
from services.daemon_threads import in_thread
from services.domain import SessionId, UserId
from services.domain.accounts import SessionEnd
from services.errors import SignedOut, StoreUnavailable, Tampered
from services.store.accounts import Accounts, AppSession, Checked, Cookie, Current

Key = TypeVar("Key")

_FRESH_SECONDS = 5.0  # seconds between two checks of a session against the database
# if a session's last check is older than these seconds, callers wait for a new check, which may raise StoreUnavailable
_TRUSTED_SECONDS = 600.0
# seconds after its last tab was closed until a session and its keys are forgotten
_IDLE_SECONDS = 1800.0
_MOST_IDLE = 50  # maximum sessions of a user that stay in memory without an open tab
_WAIT_SECONDS = 1.0  # the longest time that a request with a cookie waits for a check
# seconds between two look-ups of ended sessions, and between two checks of a session whose tabs only poll
_ENDED_SECONDS = 60.0
# maximum cookies remembered for ended sessions, and as many for sessions with a newer cookie
_MOST_ENDED = 10_000
# seconds for which a browser may still send the previous cookie after its session got a new one
_MOVED_SECONDS = 10.0
# seconds after a proof until tabs with the old cookie must reconnect; by then, the browser certainly has the new cookie
_LEARNT_SECONDS = 3.0


@contextmanager
def count_open(counter: Counter[Key], key: Key) -> Generator[None]:
    """Count one more open tab for *key* in *counter* until the `with` block ends. Only the event loop's thread may use this."""
    counter[key] += 1
    try:
        yield
    finally:
        counter[key] -= 1
        if not counter[key]:
            del counter[key]


@dataclass(slots=True)
class _Entry:
    """A session that is open in this process. Several threads change the entry, under the cache's lock."""

    session: AppSession
    cookie: Cookie  # the session's current cookie
    checked_at: float  # minus infinity makes the next caller wait for a check
    used_at: float
    doubted_at: float = -math.inf
    check: Future[None] | None = None  # the last check of the session
    # true: another process has given the session a new cookie, so pages do not use this entry
    is_outdated: bool = False
    # locked while this process stores a proof of the user, which changes the cookie of the session
    proving: threading.Lock = field(default_factory=threading.Lock, repr=False)


@dataclass(slots=True, repr=False)
class SessionCache:
    """The opened sessions of this process, found by cookie or id, shared by their tabs.

    A proof of who the user is gives the session a new cookie. If another process has stored the proof, this process draws no
    page for the session until the browser sends the new cookie; the old entry is forgotten once its live turns have ended.

    Any thread may call any method except `connected`, which only the event loop's thread may call.
    """

    accounts: Accounts
    # called when a user signs out; returns a context manager in which the session is ended
    on_leave: Callable[[AppSession], AbstractContextManager[None]]
    on_forget: Callable[[AppSession], object]  # called after a session was removed from this cache
    # called with a session before `find` can return it, and again when the session is opened with another cookie
    on_add: Callable[[AppSession], object] = lambda _: None
    is_busy: Callable[[AppSession], bool] = lambda _: False  # true: a turn of the session is live
    _entries: dict[SessionId, _Entry] = field(default_factory=dict[SessionId, _Entry])
    # session ids, keyed by cookie hash
    _ids: dict[str, SessionId] = field(default_factory=dict[str, SessionId])
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _opening: WeakValueDictionary[str, threading.Lock] = field(
        default_factory=WeakValueDictionary[str, threading.Lock]
    )
    _tabs: Counter[SessionId] = field(default_factory=Counter[SessionId])  # number of open tabs
    # the reasons why sessions ended, keyed by cookie hash: shown to tabs that connect with an ended session's cookie
    _ends: LruCache[str, SessionEnd] = field(
        default_factory=lambda: LruCache[str, SessionEnd](_MOST_ENDED)
    )
    # the times when sessions got a new cookie, by the hash of the previous cookie
    _moved: LruCache[str, float] = field(default_factory=lambda: LruCache[str, float](_MOST_ENDED))
    # for each session, the functions (one for each open tab) to call when the session gets a new cookie
    _wakers: dict[SessionId, set[Callable[[], object]]] = field(
        default_factory=dict[SessionId, set[Callable[[], object]]]
    )
    # the time when the ended sessions were last read from the database
    _asked_at: float = field(default_factory=time.monotonic)

    @property
    def count(self) -> int:
        """The number of sessions open in this process."""
        return len(self._entries)

    def add(self, cookie: Cookie, session: AppSession) -> None:
        """Add a session that was just opened with *cookie*. An entry of the session with an older cookie is replaced."""
        self.on_add(session)
        now = time.monotonic()
        with self._lock:
            if older := self._entries.get(session.id):
                self._ids.pop(older.cookie.hash, None)
            self._entries[session.id] = _Entry(session, cookie, now, now)
            self._ids[cookie.hash] = session.id
        self._wake(session.id)

    def find(self, cookie: Cookie) -> AppSession | None:
        """Return the session of *cookie*, opening it if necessary; None if there is no session. May raise StoreUnavailable.

        If a check is due, wait up to a second for its result. Only this check detects that another process has replaced the
        cookie: the session itself continues, and without the check a copy of the old cookie would still work.
        """
        with self._lock:
            opening = self._opening.setdefault(cookie.hash, threading.Lock())
        with opening:  # only one of several concurrent tabs opens the session
            entry = self._entry_of(cookie)
            if entry is None:
                try:
                    session = self.accounts.open(cookie)
                except (SignedOut, Tampered):
                    return None
                self.add(cookie, session)
                return session
            self._trusted(entry)
        if check := entry.check:  # read once, because `doubt` may remove it
            wait([check], _WAIT_SECONDS)
        entry = self._entry_of(cookie)
        return entry.session if entry else None

    def opened(self, cookie: Cookie) -> AppSession | None:
        """Return the session of *cookie* as `find` does, but check an open session only once a minute."""
        entry = self._entry_of(cookie)
        if entry and time.monotonic() - entry.checked_at < _ENDED_SECONDS:
            return entry.session
        return self.find(cookie)

    def is_open(self, cookie: Cookie) -> bool:
        """Return True if the session of *cookie* is open in this process, and not known to have ended."""
        return self._entry_of(cookie) is not None

    def by_id(self, session_id: SessionId) -> AppSession | None:
        """Return the opened session with this id, unless it is known to have ended. May raise StoreUnavailable."""
        entry = self._entry(session_id)
        return self._trusted(entry) if entry else None

    def has_ended(self, session_id: SessionId, seconds: float) -> bool:
        """Return True if the session is known to have ended, after waiting up to *seconds* for a check in progress."""
        entry = self._entry(session_id)
        if entry and (check := entry.check):  # read once, because `doubt` may remove it
            wait([check], seconds)
        return self._entry(session_id) is None

    def doubt(self, session_id: SessionId) -> None:
        """Make the next use of the session wait for a check, because the database refused a call of the session."""
        if entry := self._entry(session_id):
            with self._lock:
                entry.checked_at, entry.doubted_at = -math.inf, time.monotonic()
                entry.check = None  # a check in progress may have begun before the session ended

    def confirm(self, session_id: SessionId) -> None:
        """Check the session now, before an action that needs a proof.

        The database stores a proof with the session, not with its cookie: without the check, a copy of an old cookie could use
        the proof. Raise SignedOut if the session has ended; may raise StoreUnavailable.
        """
        self.doubt(session_id)
        if self.by_id(session_id) is None:
            raise SignedOut

    def change(self, user_id: UserId, change: Callable[[AppSession], AppSession]) -> None:
        """Replace each opened session of a user by the result of *change*, such as a session with another address."""
        with self._lock:
            for entry in self._entries.values():
                if entry.session.user_id == user_id:
                    entry.session = change(entry.session)

    def prove(self, session: AppSession, cookie: Cookie, checked: Checked) -> Cookie:
        """Store a proof as `Accounts.prove` does, and return the session's new cookie. Its old cookie becomes invalid.

        The tabs and live turns of the session continue.
        """
        entry = self._entry(session.id)
        with entry.proving if entry else nullcontext():
            new = self.accounts.prove(session, cookie, checked)
            with self._lock:
                self._moved.put(cookie.hash, time.monotonic())
                if entry:
                    self._ids.pop(entry.cookie.hash, None)
                    entry.cookie = new
                    if self._entries.get(session.id) is entry:
                        self._ids[new.hash] = session.id
        self._wake(session.id)
        return new

    def current(self, session_id: SessionId) -> Current:
        """Return the current stored credentials of an opened session's user.

        Raise SignedOut if the session is not open in this process; may raise the errors of `Accounts.current`.
        """
        entry = self._entry(session_id)
        if entry is None:
            raise SignedOut
        with entry.proving:  # wait for a proof in progress, which changes the cookie
            return self.accounts.current(entry.cookie)

    @contextmanager
    def connected(self, session: AppSession) -> Generator[None]:
        """Count a tab of *session* as open until the `with` block ends, so that the session does not become idle."""
        try:
            with count_open(self._tabs, session.id):
                yield
        finally:
            if entry := self._entries.get(session.id):
                entry.used_at = time.monotonic()

    def leave(self, cookie: Cookie) -> None:
        """Sign out: store partial replies first, then end the session. May raise StoreUnavailable."""
        entry = self._entry_of(cookie)
        if entry is None:
            self.accounts.end(cookie)
            return
        with self.on_leave(entry.session), entry.proving:
            self.accounts.end(entry.cookie)
        self._forget(entry)

    def forget_idle(self) -> None:
        """Forget sessions, and so their users' keys, that have had no open tab for half an hour. A thread calls this regularly.

        Also forget sessions to which another process has given a new cookie, and all but a user's 50 most recently used
        sessions without an open tab: a user can begin any number of sessions. Never forget a session with a live turn.
        """
        horizon, idle, unused = time.monotonic() - _IDLE_SECONDS, Counter[UserId](), list[_Entry]()
        with self._lock:
            newest_first = sorted(self._entries.values(), key=lambda each: -each.used_at)
            for entry in newest_first:
                user_id, is_idle = entry.session.user_id, entry.session.id not in self._tabs
                idle[user_id] += is_idle
                is_unused = is_idle and (entry.used_at < horizon or idle[user_id] > _MOST_IDLE)
                if entry.is_outdated or is_unused:
                    unused.append(entry)
        for entry in unused:
            if not self.is_busy(entry.session):
                self._forget(entry)

    def why_ended(self, cookie: Cookie) -> SessionEnd:
        """Return the reason why the session of *cookie* has ended; ENDED if this process does not know the reason."""
        return self._ends.get(cookie.hash) or SessionEnd.ENDED

    def has_moved(self, cookie: Cookie) -> bool:
        """Return True if the session of *cookie* got a new cookie less than ten seconds ago: the browser may not have it yet."""
        moved_at = self._moved.get(cookie.hash)
        return moved_at is not None and time.monotonic() - moved_at < _MOVED_SECONDS

    def replaced_in(self, session: AppSession, cookie: Cookie | None) -> float:
        """Return the seconds until a tab that connected with *cookie* must reconnect, because *session* has a newer cookie.

        After these seconds, the browser has the newer cookie. Return infinity if there is no newer cookie, or if the session
        is not open in this process.
        """
        entry = self._entry(session.id)
        if cookie is None or entry is None or entry.cookie.hash == cookie.hash:
            return math.inf
        moved_at = self._moved.get(cookie.hash)
        if moved_at is None:
            return 0.0
        return max(0.0, moved_at + _LEARNT_SECONDS - time.monotonic())

    @contextmanager
    def waking(self, session: AppSession, wake: Callable[[], object]) -> Generator[None]:
        """Until the `with` block ends, call *wake*, in any thread, each time that *session* gets a new cookie."""
        with self._lock:
            self._wakers.setdefault(session.id, set()).add(wake)
        try:
            yield
        finally:
            with self._lock:
                left = self._wakers[session.id]
                left.discard(wake)
                if not left:
                    del self._wakers[session.id]

    def forget_ended(self) -> None:
        """Read from the database, at most once a minute, which sessions have ended, and forget these.

        May raise StoreUnavailable.
        """
        if time.monotonic() - self._asked_at >= _ENDED_SECONDS:
            self._asked_at = time.monotonic()
            with self._lock:
                sessions = [entry.session for entry in self._entries.values()]
            self.forget_if_ended(sessions)

    def forget_ended_of(self, user_id: UserId) -> None:
        """Forget the sessions of a user that have just been ended."""
        with self._lock:
            entries = list(self._entries.values())
        # the end is stored, so it must not fail any more; the upkeep thread forgets ended sessions, too
        with suppress(StoreUnavailable):
            self.forget_if_ended(
                [entry.session for entry in entries if entry.session.user_id == user_id]
            )

    def forget_if_ended(self, sessions: Sequence[AppSession]) -> None:
        """Forget the *sessions* that have ended. May raise StoreUnavailable."""
        ended = self.accounts.ended(sessions) if sessions else {}
        for session_id, end in ended.items():
            if entry := self._entries.get(session_id):
                self._forget(entry, end)

    def _wake(self, session_id: SessionId) -> None:
        with self._lock:
            wakers = list(self._wakers.get(session_id, ()))
        for wake in wakers:
            wake()

    def _entry(self, session_id: SessionId) -> _Entry | None:
        entry = self._entries.get(session_id)
        return None if entry is None or entry.is_outdated else entry

    def _entry_of(self, cookie: Cookie) -> _Entry | None:
        session_id = self._ids.get(cookie.hash)
        return self._entry(session_id) if session_id else None

    def _trusted(self, entry: _Entry) -> AppSession | None:
        """Return the session of *entry*; None if it is known to have ended. Start a check if one is due.

        If no check has succeeded for ten minutes, wait for the check, and raise StoreUnavailable if it fails.
        """
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
        began, asked = time.monotonic(), entry.cookie.hash
        if self.accounts.backend.is_alive(asked):
            if entry.doubted_at < began:
                entry.checked_at = began
            return
        with entry.proving:
            # a proof has given the session a new cookie during the check
            if entry.cookie.hash != asked:
                return
        end = None
        with suppress(StoreUnavailable):
            end = self.accounts.ended([entry.session]).get(entry.session.id)
        if end:
            self._forget(entry, end)
            return
        with self._lock:
            entry.is_outdated = True
            self._ids.pop(asked, None)
            self._moved.put(asked, time.monotonic())

    def _forget(self, entry: _Entry, end: SessionEnd | None = None) -> None:
        session = entry.session
        if end:
            self._ends.put(entry.cookie.hash, end)
        with self._lock:
            if is_there := self._entries.get(session.id) is entry:
                del self._entries[session.id]
                # the cookie is read under the lock, because a proof may have replaced it
                self._ids.pop(entry.cookie.hash, None)
        if is_there:
            self.on_forget(session)
