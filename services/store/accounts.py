"""Accounts and app sessions on any store: a signed-in device, from its cookie to its keys.

The cookie holds a random secret. The store holds the secret's hash, and other data sealed under a key derived from the
secret and the root key. So a dump opens no session, and every app process with the same root key can open any session;
an `AppSession` is a cache of its row.
"""

import hashlib
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from uuid import UUID

from services.crypto import Place, RootKeys, UserKey, UserKeys, VaultRing, new_key, sha
from services.daemon_threads import in_thread
from services.domain import SessionId, UserId
from services.domain.accounts import SessionEnd, SignUps
from services.domain.addresses import EmailAddress
from services.errors import (
    AppError,
    InvitationRefused,
    KeyMissing,
    SignedOut,
    SignUpsClosed,
    Suspended,
    Tampered,
)
from services.events import log_event
from services.store.administration import UserAccess
from services.store.backend import (
    Backend,
    Identity,
    NewSession,
    OpenedSession,
    SignIn,
    UserBackend,
    WrappedKey,
)

_COOKIE_BYTES = 32

# Waits until an attempt is reserved; returns the throttle buckets that get the attempt back if it
# succeeds.
Reservation = Callable[[], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Cookie:
    """The session cookie of a browser; never logged, never stored."""

    secret: bytes = field(repr=False)

    @classmethod
    def new(cls) -> "Cookie":
        return cls(secrets.token_bytes(_COOKIE_BYTES))

    @classmethod
    def parse(cls, text: str) -> "Cookie | None":
        """Return the cookie of the hexadecimal *text*; None if it has another form."""
        try:
            secret = bytes.fromhex(text)
        except ValueError:
            return None
        return cls(secret) if len(secret) == _COOKIE_BYTES else None

    def __str__(self) -> str:
        return self.secret.hex()

    @property
    def hash(self) -> str:
        return hashlib.sha256(self.secret).hexdigest()


@dataclass(frozen=True, slots=True)
class CookieSealer:
    """The `SessionSealer` of the session with a cookie."""

    vault: VaultRing = field(repr=False)
    cookie_hash: str

    def seal(self, text: str, user_id: UserId) -> str:
        return self.vault.seal(text, self._place(user_id))

    def open(self, sealed: str, user_id: UserId) -> str:
        return self.vault.open(sealed, self._place(user_id))

    def _place(self, user_id: UserId) -> Place:
        # the database makes the row's id, so the cookie's hash identifies the row here
        row_id = UUID(bytes=bytes.fromhex(self.cookie_hash)[:16])
        return Place(table="app_sessions", column="tokens", row_id=row_id, user_id=user_id)


@dataclass(frozen=True, slots=True)
class AppSession:
    """One signed-in device in this process, shared by its tabs and its live turns."""

    id: SessionId
    user_id: UserId
    cookie_hash: str
    user_keys: UserKeys = field(repr=False)
    backend: UserBackend = field(repr=False)

    @property
    def email(self) -> str:
        return self.backend.email


@dataclass(frozen=True, slots=True)
class Accounts:
    """Starts, opens and ends app sessions, and deletes accounts. Any thread may call any method."""

    backend: Backend
    root_keys: RootKeys
    idle_seconds: int
    lifetime_seconds: int

    def sign_up(
        self,
        email: EmailAddress,
        password: str,
        reservation: Reservation = lambda: (),
        invitation: str = "",
    ) -> tuple[Cookie, AppSession]:
        """Make an account, with the code of an *invitation* if the mode of sign-ups asks for one.

        Raise SignUpsClosed, InvitationRefused, the errors of `SignIn.sign_up`, `sign_in` and *reservation*.
        """
        # checked before a user is made: a user who exists would have to sign in to try another code
        state = self.backend.sign_up_state(hash_of(invitation), email)
        if state.mode is SignUps.CLOSED:
            raise SignUpsClosed
        if state.mode is SignUps.INVITED and not state.is_invited:
            raise InvitationRefused
        sign_in = self.backend.sign_in
        return self._start(sign_in, sign_in.sign_up(email, password), reservation, invitation)

    def sign_in(
        self,
        email: EmailAddress,
        password: str,
        reservation: Reservation = lambda: (),
        invitation: str = "",
    ) -> tuple[Cookie, AppSession]:
        """Sign in; the first sign-in of a user begins the account, as `sign_up` does.

        Raise the errors of `SignIn.sign_in` and *reservation*, SignUpsClosed, InvitationNeeded, Suspended, Tampered.
        """
        sign_in = self.backend.sign_in
        return self._start(sign_in, sign_in.sign_in(email, password), reservation, invitation)

    def delete_account(
        self,
        session: AppSession,
        password: str,
        reservation: Reservation = lambda: (),
        stop_turns: Callable[[UserId], object] = lambda _: None,
    ) -> None:
        """Delete the account of *session*: destroy its keys and end all its sessions.

        Raise WrongCredentials, LastAdmin, the errors of `SignIn.sign_in` and of *reservation*.
        """
        sign_in = self.backend.sign_in
        # the sign-in was only a check of the password
        sign_in.end(sign_in.sign_in(session.email, password))
        reservation()
        UserAccess(session.backend.administration, stop_turns).delete(session.user_id)

    def open(self, cookie: Cookie) -> AppSession:
        """Return the session of *cookie*, with its keys. Raise SignedOut, StoreUnavailable, Tampered."""
        sealer = self._sealer(cookie)
        return self._session(self.backend.open_session(cookie.hash, sealer), cookie)

    def ended(self, sessions: Iterable[AppSession]) -> dict[SessionId, SessionEnd]:
        """Return the *sessions* that have ended, with the reasons, in one call. Raise StoreUnavailable."""
        return self.backend.ended((one.id, one.user_id) for one in sessions)

    def end(self, cookie: Cookie) -> None:
        """Sign out; the store refuses the session from the next statement on. Raise StoreUnavailable."""
        self.backend.end_session(cookie.hash)

    def _start(
        self, sign_in: SignIn, identity: Identity, reservation: Reservation, invitation: str
    ) -> tuple[Cookie, AppSession]:
        cookie = Cookie.new()
        try:
            returned = reservation()
        except AppError:  # the response time must not reveal that the password was right
            in_thread("sign-out", lambda: sign_in.end(identity))
            raise
        new = NewSession(
            cookie_hash=cookie.hash,
            idle_seconds=self.idle_seconds,
            lifetime_seconds=self.lifetime_seconds,
            invitation_hash=hash_of(invitation),
            returned=returned,
        )
        try:
            opened = self.backend.start_session(identity, new, self._sealer(cookie))
            return cookie, self._session(opened, cookie)
        except AppError as error:
            sign_in.end(identity)  # no browser has the cookie
            if isinstance(error, SignedOut):  # a new identity: the account must be suspended
                raise Suspended from None
            raise

    def _sealer(self, cookie: Cookie) -> CookieSealer:
        return CookieSealer(self.root_keys.session_vault(cookie.secret), cookie.hash)

    def _session(self, opened: OpenedSession, cookie: Cookie) -> AppSession:
        if not opened.role.is_known:  # a newer version gave the role; here it grants nothing
            raise SignedOut
        keys = self._user_keys(opened)
        return AppSession(opened.id, opened.user_id, cookie.hash, keys, opened.user)

    def _user_keys(self, opened: OpenedSession) -> UserKeys:
        """Unwrap a user's keys; make a first key; rewrap keys under an old root key. Raise KeyMissing, Tampered."""
        user, user_id, wrapped = opened.user, opened.user_id, opened.keys
        if not wrapped:
            first = WrappedKey(1, self.root_keys.wrap(new_key(), user_id, 1))
            try:
                wrapped = user.put_user_key(first, replaces=None)
            except KeyMissing:
                log_event("key.missing", user=user_id)
                raise
        keys: list[UserKey] = []
        for row in wrapped:
            key = self.root_keys.unwrap(row.wrapped, user_id, row.version)
            keys.append(UserKey(key, user_id, row.version))
            if self.root_keys.needs_rewrap(row.wrapped):
                rewrapped = self.root_keys.wrap(key, user_id, row.version)
                user.put_user_key(WrappedKey(row.version, rewrapped), replaces=row.wrapped)
        if not keys:
            raise Tampered
        return UserKeys(keys)


def hash_of(code: str) -> str | None:
    """Return the hash that identifies the invitation with *code*; None if *code* is empty."""
    code = code.strip()
    return sha(code) if code else None
