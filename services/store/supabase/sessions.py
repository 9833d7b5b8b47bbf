"""App sessions: a signed-in device, from its cookie to its keys.

The cookie holds a random secret. The database holds its hash, and Supabase's tokens sealed under a key
made from that secret and the root key. So a dump opens no session, and any app process with the same root key
opens all; an `AppSession` is a cache of that row.
"""

import hashlib
import json
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import cast

import httpx
from pydantic import TypeAdapter
from supabase import Client

import services.store.supabase.auth as auth
from services.crypto import RootKeys, ServerProof, UserKey, UserKeys, new_key
from services.domain import SessionId, UserId
from services.domain.accounts import SessionEnd
from services.domain.addresses import EmailAddress
from services.errors import (
    AppError,
    BadAddress,
    InvitationNeeded,
    KeyMissing,
    SignedOut,
    SignUpsClosed,
    Suspended,
    Tampered,
)
from services.events import log_event
from services.store.supabase.administration import Administration
from services.store.supabase.api import (
    Gateway,
    Hidden,
    RpcResult,
    ServerCalls,
    UserCalls,
)
from services.store.supabase.auth import AuthTokens
from services.store.supabase.session_tokens import (
    Bearer,
    StartedSession,
    TokenStore,
    WrappedKey,
    open_tokens,
    seal_tokens,
)
from services.store.supabase.sign_ups import check_sign_up, hash_of
from services.threads import in_thread

_COOKIE_BYTES = 32

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


_KEYS = TypeAdapter(list[WrappedKey])
_ENDED = TypeAdapter(dict[SessionId, SessionEnd])
# by the reason for which no account begins
_BEGINNINGS: dict[str, type[AppError]] = {
    "sign_ups_closed": SignUpsClosed,
    "no_invitation": InvitationNeeded,
    "bad_address": BadAddress,
}


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


@dataclass(frozen=True, slots=True)
class Sessions:
    """Starts, opens, renews and ends app sessions."""

    gateway: Gateway
    server: ServerCalls
    root_keys: RootKeys
    proof: ServerProof
    idle_seconds: int
    lifetime_seconds: int

    @property
    def _token_store(self) -> TokenStore:
        return TokenStore(self.gateway, self.server)

    def sign_up(
        self,
        email: EmailAddress,
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
        email: EmailAddress,
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
        self,
        session: AppSession,
        password: str,
        reservation: Reservation = lambda: None,
        stop_turns: Callable[[UserId], object] = lambda _: None,
    ) -> None:
        """Shut the account of *session* for good and destroy its keys; all its sessions end.

        Raise WrongCredentials, LastAdmin, the errors of `auth.sign_in` and of *reservation*.
        """
        client = self.gateway.client()
        auth.sign_out(client, auth.sign_in(client, session.email, password))  # it was a check
        reservation()
        Administration(session.calls, stop_turns).delete(session.user_id)

    def open(self, cookie: Cookie) -> AppSession:
        """The session of *cookie*, with its keys. Raise SignedOut, StoreUnavailable, Tampered."""
        row, vault = self._token_store.row(cookie.hash), self.root_keys.session_vault(cookie.secret)
        bearer = Bearer(self._token_store, cookie.hash, vault, open_tokens(row, cookie.hash, vault))
        return self._session(row.session, bearer, row.keys)

    def is_alive(self, cookie_hash: str) -> bool:
        """Return False if the session has ended. Keep it from becoming idle. Raise StoreUnavailable."""
        return self.server.call("open_session", cookie=cookie_hash).ok

    def ended(self, held: Iterable[AppSession]) -> dict[SessionId, SessionEnd]:
        """The sessions among *held* that have ended, and why, in one call. Raise StoreUnavailable."""
        asked = [{"session": str(one.id), "user": str(one.user_id)} for one in held]
        answer = self.server.call("ended_sessions", sessions=Hidden(json.dumps(asked)))
        return _ENDED.validate_python(answer.values["ended"])

    def end(self, cookie: Cookie) -> None:
        """Sign out: its tokens are refused from the next statement on."""
        self.server.call("end_session", cookie=cookie.hash)

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
                new_tokens=Hidden(seal_tokens(tokens, cookie.hash, vault)),
                new_device=Hidden(None),
                idle=self.idle_seconds,
                lifetime=self.lifetime_seconds,
                returned=Hidden(returned),
                invitation=hash_of(invitation),
            )
            if not answer.ok:
                raise _BEGINNINGS[answer.reason]
            started = StartedSession.model_validate(answer.model_extra)
            bearer = Bearer(self._token_store, cookie.hash, vault, tokens)
            return cookie, self._session(started.session, bearer, started.keys)
        except AppError as error:
            auth.sign_out(client, tokens)  # no browser has the cookie
            if isinstance(error, SignedOut):  # with a token of this moment
                raise Suspended from None
            raise

    def _session(self, session_id: SessionId, bearer: Bearer, keys: list[WrappedKey]) -> AppSession:
        client = self.gateway.client()
        # postgrest-py hands this to httpx as it is, which takes any httpx.Auth
        client.postgrest.basic_auth = cast(httpx.BasicAuth, bearer)
        user_id = bearer.tokens.user_id
        calls = UserCalls(client, self.proof, user_id)
        return AppSession(session_id, user_id, client, self._user_keys(calls, keys), calls, bearer)

    def _user_keys(self, calls: UserCalls, wrapped: list[WrappedKey]) -> UserKeys:
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
