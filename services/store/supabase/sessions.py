"""App sessions: a signed-in device, from its cookie to its keys.

The cookie holds a random secret. The database holds its hash, and Supabase's tokens sealed under a key
made from that secret and the root key. So a dump opens no session, and any app process with the same root key
opens all; an `AppSession` is a cache of that row.
"""

import hashlib
import secrets
import threading
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import cast
from uuid import UUID

import httpx
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from supabase import Client

import services.store.supabase.auth as auth
from services.crypto import Place, RootKeys, ServerProof, UserKey, UserKeys, VaultRing, new_key
from services.domain import SessionId, UserId
from services.domain.turns import LONGEST_TURN_SECONDS
from services.errors import (
    AppError,
    InvitationNeeded,
    KeyMissing,
    RateLimited,
    SignedOut,
    SignUpsClosed,
    StoreUnavailable,
    Suspended,
    Tampered,
    TooManyAttempts,
)
from services.events import log_event
from services.store.supabase.api import (
    Gateway,
    Hidden,
    RpcResult,
    ServerCalls,
    UserCalls,
)
from services.store.supabase.auth import AuthTokens
from services.store.supabase.sign_ups import check_sign_up, hash_of
from services.threads import in_thread

_COOKIE_BYTES = 32
_LEASE_SECONDS = 15  # for one exchange of the refresh token
_LEASE_POLL_SECONDS = 0.2  # while another process holds the lease
_RETRY_SECONDS = 6.0  # of a lease, in which an exchange is tried again: it may take the rest
# between two tries, at random: Supabase Auth sees all users as one address
_PAUSE_SECONDS = 1.0, 3.0
_BACKOFF_SECONDS = 15.0  # after a renewal that was refused or did not help
_FRESH_SECONDS = 60  # an access token with less left is renewed before it is used
_REFUSED = (b'"PGRST301"', b'"PGRST303"')  # access tokens: unknown key, wrong time

# waits until an attempt is reserved; returns the throttles (JSON) that a success gives it back to
Reservation = Callable[[], str | None]


@dataclass(frozen=True, slots=True)
class Cookie:
    """The session cookie of a browser; never logged, never stored."""

    secret: bytes = field(repr=False)

    @classmethod
    def new(cls) -> "Cookie":
        return cls(secrets.token_bytes(_COOKIE_BYTES))

    @classmethod
    def parse(cls, text: str) -> "Cookie | None":
        """The cookie of the hexadecimal *text*; None if it has another form."""
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


class _WrappedKey(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True)

    version: int
    wrapped: str = Field(repr=False)


class _StartedSession(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True)

    session: SessionId
    keys: list[_WrappedKey]


class _SessionRow(_StartedSession):
    user: UserId
    tokens: str = Field(repr=False)
    generation: int


_KEYS = TypeAdapter(list[_WrappedKey])


@dataclass(slots=True)
class Bearer(httpx.Auth):
    """The tokens of one app session in this process: sent with every request, and renewed when needed."""

    sessions: "Sessions" = field(repr=False)
    cookie_hash: str = field(repr=False)
    vault: VaultRing = field(repr=False)
    tokens: AuthTokens
    _renewing: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _backoff_until: float = 0.0

    def keep_fresh(self, seconds: int = _FRESH_SECONDS) -> None:
        """Renew the access token unless it is valid for *seconds* more. Raise SignedOut, StoreUnavailable."""
        if self.tokens.is_good_for(seconds):
            return
        try:
            self._renew(lambda tokens: tokens.is_good_for(seconds))
        except RateLimited:
            if not self.tokens.is_good_for(0):
                raise

    def sync_auth_flow(
        self, request: httpx.Request
    ) -> Generator[httpx.Request, httpx.Response, None]:
        """Send *request*, and once more after a valid token was refused: signing keys rotate.

        The token with which a turn begins is to outlive it.
        """
        begins_turn = request.url.path.endswith("/begin_turn")
        self.keep_fresh(LONGEST_TURN_SECONDS if begins_turn else _FRESH_SECONDS)
        access = self.tokens.access
        request.headers["Authorization"] = f"Bearer {access}"
        response = yield request
        if response.status_code == 401 and any(code in response.read() for code in _REFUSED):
            log_event("token.refused")
            with suppress(RateLimited):
                self._renew(lambda tokens: tokens.access != access, is_refused=True)
                request.headers["Authorization"] = f"Bearer {self.tokens.access}"
                yield request

    def _renew(self, is_good: Callable[[AuthTokens], bool], *, is_refused: bool = False) -> None:
        with self._renewing:
            if is_good(self.tokens):
                return
            if time.monotonic() < self._backoff_until:
                raise RateLimited
            if is_refused:
                self._backoff_until = time.monotonic() + _BACKOFF_SECONDS
            waits = is_refused or not self.tokens.is_good_for(0)
            try:
                self.tokens = self.sessions.renew(
                    self.cookie_hash, self.vault, is_good, waits=waits
                )
            except RateLimited:
                self._backoff_until = time.monotonic() + _BACKOFF_SECONDS
                raise


@dataclass(slots=True)
class AppSession:
    """One signed-in device in this process, shared by its tabs and its live turns."""

    id: SessionId
    user_id: UserId
    client: Client = field(repr=False)
    user_keys: UserKeys = field(repr=False)
    calls: UserCalls = field(repr=False)
    bearer: Bearer = field(repr=False)

    @property
    def cookie_hash(self) -> str:
        return self.bearer.cookie_hash

    @property
    def email(self) -> str:
        return self.bearer.tokens.email

    def check_rows(self) -> None:
        """Raise RowsCut if the API cuts answers that reads count on."""
        self.bearer.sessions.server.check_rows()


@dataclass(frozen=True, slots=True)
class Sessions:
    """Starts, opens, renews and ends app sessions."""

    gateway: Gateway
    server: ServerCalls
    root_keys: RootKeys
    proof: ServerProof
    idle_seconds: int
    lifetime_seconds: int

    def sign_up(
        self,
        email: str,
        password: str,
        reservation: Reservation = lambda: None,
        invitation: str = "",
    ) -> tuple[Cookie, AppSession]:
        """Make an account, by the code of an *invitation* where one is needed.

        Raise the errors of `check_sign_up`, `auth.sign_up` and *reservation*.
        """
        check_sign_up(self.server, email, invitation)
        tokens = auth.sign_up(self.gateway.client(), email, password)
        return self._start(tokens, reservation, invitation)

    def sign_in(
        self,
        email: str,
        password: str,
        reservation: Reservation = lambda: None,
        invitation: str = "",
    ) -> tuple[Cookie, AppSession]:
        """Sign in; the first time, the account begins as in `sign_up`.

        Raise the errors of `auth.sign_in` and *reservation*, SignUpsClosed, InvitationNeeded, Suspended, Tampered.
        """
        tokens = auth.sign_in(self.gateway.client(), email, password)
        return self._start(tokens, reservation, invitation)

    def delete_account(
        self, session: AppSession, password: str, reservation: Reservation = lambda: None
    ) -> None:
        """Shut the account of *session* for good and destroy its keys; all its sessions end.

        Raise WrongCredentials, LastAdmin, the errors of `auth.sign_in` and of *reservation*.
        """
        client = self.gateway.client()
        auth.sign_out(client, auth.sign_in(client, session.email, password))  # it was a check
        reservation()
        session.calls.do("delete_account")

    def open(self, cookie: Cookie) -> AppSession:
        """The session of *cookie*, with its keys. Raise SignedOut, StoreUnavailable, Tampered."""
        row, vault = self._row(cookie.hash), self.root_keys.session_vault(cookie.secret)
        bearer = Bearer(self, cookie.hash, vault, _open_tokens(row, cookie.hash, vault))
        return self._session(row.session, bearer, row.keys)

    def is_alive(self, cookie_hash: str) -> bool:
        """Return False if the session has ended. Keep it from becoming idle. Raise StoreUnavailable."""
        return self.server.call("open_session", cookie=cookie_hash).ok

    def end(self, cookie: Cookie) -> None:
        """Sign out: its tokens are refused from the next statement on."""
        self.server.call("end_session", cookie=cookie.hash)

    def renew(
        self,
        cookie_hash: str,
        vault: VaultRing,
        is_good: Callable[[AuthTokens], bool],
        *,
        waits: bool,
    ) -> AuthTokens:
        """Return the stored tokens if *is_good*; else exchange them, under a lease of the database.

        Two processes that exchange one refresh token could end the session.
        *waits*: for another process, and while Supabase Auth limits the rate.
        Raise SignedOut, RateLimited, StoreUnavailable, Tampered.
        """
        deadline = time.monotonic() + (2 * _LEASE_SECONDS if waits else 0)
        while True:
            row = self._row(cookie_hash)
            tokens = _open_tokens(row, cookie_hash, vault)
            if is_good(tokens):
                return tokens
            lease = self.server.call(
                "lease_refresh",
                cookie=cookie_hash,
                seen_generation=row.generation,
                lease_seconds=_LEASE_SECONDS,
            )
            if lease.ok:
                break
            if lease.reason == "not_found":
                raise SignedOut
            if lease.reason == "held":
                if time.monotonic() > deadline:
                    raise RateLimited
                time.sleep(_LEASE_POLL_SECONDS)
        try:
            renewed = self._exchange(tokens, _RETRY_SECONDS if waits else 0.0)
        except SignedOut:
            self.server.call("end_session", cookie=cookie_hash)
            raise
        stored = self.server.call(
            "store_tokens",
            cookie=cookie_hash,
            seen_generation=row.generation,
            new_tokens=Hidden(_seal_tokens(renewed, cookie_hash, vault)),
        )
        if not stored.ok:
            raise StoreUnavailable("the tokens moved")
        return renewed

    def _exchange(self, tokens: AuthTokens, seconds: float) -> AuthTokens:
        """Exchange *tokens*, trying for *seconds* while Supabase Auth limits the rate.

        An attacker who writes to the database can give a refresh token to another user, so the answer has to name the
        user and the session of *tokens*, which were sealed. Raise SignedOut, RateLimited, StoreUnavailable.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                renewed = auth.exchange(self.gateway.client(), tokens.refresh)
                break
            except TooManyAttempts:
                pause = secrets.SystemRandom().uniform(*_PAUSE_SECONDS)
                if time.monotonic() + pause > deadline:
                    raise RateLimited from None
                time.sleep(pause)
        if not renewed.is_of_session(tokens):
            log_event("session.mismatch", user=tokens.user_id, answered=renewed.user_id)
            raise SignedOut
        return renewed

    def _start(
        self, tokens: AuthTokens, reservation: Reservation, invitation: str
    ) -> tuple[Cookie, AppSession]:
        cookie = Cookie.new()
        vault = self.root_keys.session_vault(cookie.secret)
        client = self.gateway.client()
        client.postgrest.auth(tokens.access)
        calls = UserCalls(client, self.proof, tokens.user_id)
        try:
            returned = reservation()
        except AppError:  # the time of the answer does not tell that the password was right
            in_thread("sign-out", lambda: auth.sign_out(client, tokens))
            raise
        try:
            answer = calls.call(
                "start_session",
                new_cookie_hash=cookie.hash,
                new_tokens=Hidden(_seal_tokens(tokens, cookie.hash, vault)),
                new_device=Hidden(None),
                idle=self.idle_seconds,
                lifetime=self.lifetime_seconds,
                returned=Hidden(returned),
                invitation=hash_of(invitation),
            )
            if not answer.ok:
                raise SignUpsClosed if answer.reason == "sign_ups_closed" else InvitationNeeded
            started = _StartedSession.model_validate(answer.model_extra)
            bearer = Bearer(self, cookie.hash, vault, tokens)
            return cookie, self._session(started.session, bearer, started.keys)
        except AppError as error:
            auth.sign_out(client, tokens)  # no browser has the cookie
            if isinstance(error, SignedOut):  # with a token of this moment
                raise Suspended from None
            raise

    def _session(
        self, session_id: SessionId, bearer: Bearer, keys: list[_WrappedKey]
    ) -> AppSession:
        client = self.gateway.client()
        # postgrest-py hands this to httpx as it is, which takes any httpx.Auth
        client.postgrest.basic_auth = cast(httpx.BasicAuth, bearer)
        user_id = bearer.tokens.user_id
        calls = UserCalls(client, self.proof, user_id)
        return AppSession(session_id, user_id, client, self._user_keys(calls, keys), calls, bearer)

    def _user_keys(self, calls: UserCalls, wrapped: list[_WrappedKey]) -> UserKeys:
        """Unwrap a user's keys; make the first; wrap those under an old root key anew.

        Raise KeyMissing where the first would not be the first, Tampered.
        """
        if not wrapped:
            first = self.root_keys.wrap(new_key(), calls.user_id, 1)
            answer = self._put_key(calls, first, replaces=None)
            if answer.reason == "key_missing":
                log_event("key.missing", user=calls.user_id)
                raise KeyMissing
            wrapped = _KEYS.validate_python(answer.values["keys"])
        keys: list[UserKey] = []
        for row in wrapped:
            key = self.root_keys.unwrap(row.wrapped, calls.user_id, row.version)
            keys.append(UserKey(key, calls.user_id, row.version))
            if self.root_keys.needs_rewrap(row.wrapped):
                rewrapped = self.root_keys.wrap(key, calls.user_id, row.version)
                self._put_key(calls, rewrapped, replaces=row.wrapped, version=row.version)
        if not keys:
            raise Tampered
        return UserKeys(keys)

    def _put_key(
        self, calls: UserCalls, wrapped: str, replaces: str | None, version: int = 1
    ) -> RpcResult:
        return calls.call(
            "put_user_key",
            new_version=version,
            new_mode="server",
            new_wrapped=Hidden(wrapped),
            new_derivation=Hidden(None),
            replaces=Hidden(replaces),
        )

    def _row(self, cookie_hash: str) -> _SessionRow:
        answer = self.server.call("open_session", cookie=cookie_hash)
        if not answer.ok:
            raise SignedOut
        return _SessionRow.model_validate(answer.model_extra)


def _open_tokens(row: _SessionRow, cookie_hash: str, vault: VaultRing) -> AuthTokens:
    text = vault.open(row.tokens, _place(cookie_hash, row.user))
    return AuthTokens.model_validate_json(text)


def _seal_tokens(tokens: AuthTokens, cookie_hash: str, vault: VaultRing) -> str:
    return vault.seal(tokens.model_dump_json(), _place(cookie_hash, tokens.user_id))


def _place(cookie_hash: str, user_id: UserId) -> Place:
    # the row's own id is made by the database; its cookie hash names it as well
    row_id = UUID(bytes=bytes.fromhex(cookie_hash)[:16])
    return Place(table="app_sessions", column="tokens", row_id=row_id, user_id=user_id)
