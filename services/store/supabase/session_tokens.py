"""An app session's Supabase Auth tokens: sealed in the session's row, and renewed under a lease in the database."""

import secrets
import threading
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass, field
from uuid import uuid4

import httpx
from pydantic import BaseModel, ConfigDict, Field

import services.store.supabase.auth as auth
from services.domain import AccountRole, SessionId, UserId
from services.domain.turns import LONGEST_TURN_SECONDS
from services.errors import RateLimited, SignedOut, StoreUnavailable, TooManyAttempts
from services.events import log_event
from services.store.backend import NewCookie, SessionSealer, StoredCredentials, WrappedKey
from services.store.rows import FirstPage
from services.store.supabase.api import Gateway, Hidden, ServerCalls
from services.store.supabase.auth import AuthTokens

# the length of a lease; only the process that has a session's lease may exchange its refresh token or change its cookie
_LEASE_SECONDS = 15
_LEASE_POLL_SECONDS = 0.2  # seconds between two polls while another process has the lease
# a failed exchange is retried for this many seconds of the lease; the last attempt may take the rest of the lease
_RETRY_SECONDS = 6.0
# bounds of the random pause between two attempts; all users share the app's rate limit at Supabase Auth, because it counts
# requests by IP address
_PAUSE_SECONDS = 1.0, 3.0
# seconds until the next renewal, after RateLimited or after the API refused a token
_BACKOFF_SECONDS = 15.0
_FRESH_SECONDS = 60  # a token with fewer seconds left is renewed before it is used
# PostgREST's codes for a refused access token: signed with an unknown key; expired or not valid yet
_REFUSED = (b'"PGRST301"', b'"PGRST303"')


class StartedSession(BaseModel):
    """The result of the SQL function `start_session`. The result of `open_session` has more fields (`SessionRow`)."""

    model_config = ConfigDict(hide_input_in_errors=True)

    session: SessionId
    credentials: StoredCredentials | None
    keys: tuple[WrappedKey, ...]
    role: AccountRole
    first: FirstPage | None = Field(default=None, repr=False)


class SessionRow(StartedSession):
    """The result of the SQL function `open_session`."""

    user: UserId
    tokens: str = Field(repr=False)
    generation: int


@dataclass(frozen=True, slots=True)
class LeasedTokens:
    """The stored tokens of an app session, and the lease of its refresh token."""

    tokens: AuthTokens
    generation: int
    lease: int | None  # None: the tokens were still valid, so no lease was taken


@dataclass(frozen=True, slots=True)
class TokenStore:
    """Reads the tokens of app sessions, and renews them. Any thread may call any method."""

    gateway: Gateway
    server: ServerCalls

    def row(self, cookie_hash: str) -> SessionRow:
        """Return the row of an app session. Raise SignedOut, StoreUnavailable."""
        answer = self.server.call("open_session", cookie=cookie_hash, nonce=uuid4())
        if not answer.ok:
            raise SignedOut
        return SessionRow.model_validate(answer.model_extra)

    def renew(
        self,
        cookie_hash: str,
        sealer: SessionSealer,
        is_good: Callable[[AuthTokens], bool],
        *,
        waits: bool,
    ) -> AuthTokens:
        """Return the stored tokens if *is_good* accepts them; else exchange them, under a lease in the database.

        Without the lease, two processes that exchange the same refresh token could end the session.
        *waits*: wait while another process holds the lease, or while Supabase Auth limits the rate.
        Raise SignedOut, RateLimited, StoreUnavailable, Tampered.
        """
        leased = self.leased(cookie_hash, sealer, is_good, waits=waits)
        if leased.lease is None:
            return leased.tokens
        try:
            renewed = self._exchange(leased.tokens, _RETRY_SECONDS if waits else 0.0)
        except SignedOut:
            self.server.call("end_session", cookie=cookie_hash, waits=False)
            raise
        stored = self.server.call(
            "store_tokens",
            cookie=cookie_hash,
            seen_generation=leased.generation,
            new_tokens=Hidden(seal_tokens(renewed, sealer)),
        )
        if not stored.ok:
            raise StoreUnavailable("the tokens moved")
        return renewed

    def leased(
        self,
        cookie_hash: str,
        sealer: SessionSealer,
        is_good: Callable[[AuthTokens], bool],
        *,
        waits: bool,
    ) -> LeasedTokens:
        """Return the stored tokens; unless *is_good* accepts them, take a lease, so that no other process renews them.

        Raise SignedOut, RateLimited (another process has the lease), StoreUnavailable, Tampered.
        """
        deadline = time.monotonic() + (2 * _LEASE_SECONDS if waits else 0)
        while True:
            row = self.row(cookie_hash)
            tokens = open_tokens(row, sealer)
            if is_good(tokens):
                return LeasedTokens(tokens, row.generation, None)
            lease = self.server.call(
                "lease_refresh",
                cookie=cookie_hash,
                seen_generation=row.generation,
                lease_seconds=_LEASE_SECONDS,
            )
            if lease.ok:
                return LeasedTokens(tokens, row.generation, int(str(lease.values["lease"])))
            if lease.reason == "not_found":
                raise SignedOut
            if lease.reason == "held":
                if time.monotonic() > deadline:
                    raise RateLimited
                time.sleep(_LEASE_POLL_SECONDS)

    def _exchange(self, tokens: AuthTokens, seconds: float) -> AuthTokens:
        """Return new tokens in exchange for *tokens*; retry for *seconds* while Supabase Auth limits the rate.

        An attacker who can write to the database can assign a refresh token to another user, so the new tokens must
        name the user and the session of *tokens*, which were sealed. Raise SignedOut, RateLimited, StoreUnavailable.
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


@dataclass(slots=True)
class Bearer(httpx.Auth):
    """The tokens of one app session in this process: sent with every request, and renewed when needed.

    Any thread may send requests; only one thread at a time renews the tokens, and the others wait for it.
    """

    store: TokenStore = field(repr=False)
    cookie_hash: str = field(repr=False)
    sealer: SessionSealer = field(repr=False)
    tokens: AuthTokens
    # a reentrant lock, because the call that stores a new cookie is itself sent with these tokens
    _renewing: threading.RLock = field(default_factory=threading.RLock, repr=False)
    _is_leased: bool = False  # True: the thread that holds `_renewing` already has the lease
    _backoff_until: float = 0.0

    def keep_fresh(self, seconds: int = _FRESH_SECONDS) -> None:
        """Renew the access token unless it is valid for *seconds* more. Raise SignedOut, StoreUnavailable.

        If another process has given the session a new cookie, turns in this process finish with their current token.
        """
        if self.tokens.is_good_for(seconds):
            return
        try:
            self._renew(lambda tokens: tokens.is_good_for(seconds))
        except RateLimited:
            if not self.tokens.is_good_for(0):
                raise
        except SignedOut:
            if seconds > _FRESH_SECONDS or not self.tokens.is_good_for(0):
                raise

    def change_cookie(self, new: NewCookie, store: Callable[[int | None, str], bool]) -> bool:
        """Replace the session's cookie with *new*; return False if the database refused the change.

        *store* makes the change; its arguments are the lease of the refresh token, and the tokens sealed for the new
        cookie. Meanwhile, renewals in this process wait for this call, and renewals in other processes wait for the end
        of the lease. If the response is lost, the session is looked up by the new cookie, to find out whether the
        change was stored.

        Raise SignedOut (the session has a different cookie), RateLimited, StoreUnavailable, Tampered, *store*'s errors.
        """
        self.keep_fresh()
        with self._renewing:
            if self.cookie_hash != new.replaces:
                raise SignedOut
            leased = self.store.leased(self.cookie_hash, self.sealer, lambda _: False, waits=True)
            self.tokens, self._is_leased = leased.tokens, True
            try:
                is_stored = store(leased.lease, seal_tokens(leased.tokens, new.sealer))
            except StoreUnavailable as error:
                is_stored = self._has(new, error)
            finally:
                self._is_leased = False
            if is_stored:
                self.cookie_hash, self.sealer = new.cookie_hash, new.sealer
            return is_stored

    def _has(self, new: NewCookie, error: StoreUnavailable) -> bool:
        """Return True if the session has the cookie *new*; else raise *error*."""
        with suppress(SignedOut, StoreUnavailable):
            self.store.row(new.cookie_hash)
            return True
        raise error

    def sync_auth_flow(
        self, request: httpx.Request
    ) -> Generator[httpx.Request, httpx.Response, None]:
        """Send *request*; if the API refuses the token (signing keys may have changed), repeat it with a new token.

        Before a turn begins, the token is renewed unless it stays valid for the length of the longest turn.
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
            if self._is_leased or time.monotonic() < self._backoff_until:
                raise RateLimited
            if is_refused:
                self._backoff_until = time.monotonic() + _BACKOFF_SECONDS
            waits = is_refused or not self.tokens.is_good_for(0)
            try:
                self.tokens = self.store.renew(self.cookie_hash, self.sealer, is_good, waits=waits)
            except RateLimited:
                self._backoff_until = time.monotonic() + _BACKOFF_SECONDS
                raise


def open_tokens(row: SessionRow, sealer: SessionSealer) -> AuthTokens:
    """Return the decrypted tokens of *row*. Raise Tampered if they cannot be decrypted."""
    return AuthTokens.model_validate_json(sealer.open(row.tokens, row.user))


def seal_tokens(tokens: AuthTokens, sealer: SessionSealer) -> str:
    """Return *tokens* sealed for the row of an app session."""
    return sealer.seal(tokens.model_dump_json(), tokens.user_id)
