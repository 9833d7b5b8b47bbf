"""App sessions: a signed-in device, from its cookie to its keys.

The cookie holds a random secret. The database holds its hash, and the Supabase refresh token sealed
under a key made from that secret and the root key; so a dump opens no session, any app process with
the same root key opens all, and an `AppSession` is only ever a cache of that row.
"""

import hashlib
import secrets
import threading
import time
from dataclasses import dataclass, field
from typing import cast
from uuid import UUID

from pydantic import BaseModel, TypeAdapter
from supabase import Client

from services.crypto import (
    Place,
    RootKeys,
    ServerProof,
    UserKey,
    VaultRing,
    new_key,
    token_version,
)
from services.domain import SessionId, UserId
from services.errors import SignedOut, StoreUnavailable, Suspended, Tampered
from services.store import accounts
from services.store.accounts import Tokens
from services.store.gateway import Gateway, Hidden, Moment, PersonCalls, ServerCalls, store_errors

_COOKIE_BYTES = 32
_LEASE_SECONDS = 15  # for one exchange of the refresh token
_LEASE_GLANCE = 0.2  # seconds between looks at a lease that another process holds
_FRESH_SECONDS = 60  # an access token with less left is renewed before it is used


@dataclass(frozen=True, slots=True)
class Cookie:
    """What the browser sends; never logged, never stored."""

    secret: bytes = field(repr=False)

    @classmethod
    def new(cls) -> "Cookie":
        return cls(secrets.token_bytes(_COOKIE_BYTES))

    @classmethod
    def parse(cls, text: str) -> "Cookie | None":
        """The cookie that *text* spells, or None if none of ours looks like it."""
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


class _SessionRow(BaseModel):
    session: UUID
    user: UUID
    refresh_token: str = field(repr=False)
    generation: int
    expires_at: Moment


class _UserKeyRow(BaseModel):
    version: int
    wrapped: str


_KEY_ROWS = TypeAdapter(list[_UserKeyRow])


@dataclass(slots=True)
class AppSession:
    """One signed-in device in this process, shared by its tabs and its live turns."""

    id: SessionId
    user_id: UserId
    cookie_hash: str = field(repr=False)
    client: Client = field(repr=False)
    user_keys: dict[int, UserKey] = field(repr=False)
    calls: PersonCalls = field(repr=False)
    _sessions: "Sessions" = field(repr=False)
    _vault: VaultRing = field(repr=False)
    _tokens: Tokens = field(repr=False)
    _refreshing: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def email(self) -> str:
        return self._tokens.email

    @property
    def newest_key(self) -> UserKey:
        return self.user_keys[max(self.user_keys)]

    def open_own(self, purpose: str, token: str, place: Place) -> str:
        """What *token* holds, one of the person's own things of one kind. Raise Tampered."""
        user_key = self.user_keys.get(token_version(token) or 0)
        if user_key is None:
            raise Tampered
        return user_key.vault(purpose).open(token, place)

    def keep_fresh(self, seconds: int = _FRESH_SECONDS) -> None:
        """See that the access token is good for *seconds* more. Raise SignedOut, StoreUnavailable."""
        if self._tokens.expires_at - time.time() > seconds:
            return
        with self._refreshing:
            if self._tokens.expires_at - time.time() <= seconds:
                self._tokens = self._sessions.renew(self.cookie_hash, self._vault)
                _bear(self.client, self._tokens)


@dataclass(frozen=True, slots=True)
class Sessions:
    """Starts, opens, renews and ends app sessions."""

    gateway: Gateway
    server: ServerCalls
    root_keys: RootKeys
    proof: ServerProof
    idle_seconds: int
    lifetime_seconds: int

    def sign_up(self, email: str, password: str) -> tuple[Cookie, AppSession]:
        """Make an account. Raise what `accounts.sign_up` raises."""
        client = self.gateway.client()
        return self._start(client, accounts.sign_up(client, email, password))

    def sign_in(self, email: str, password: str) -> tuple[Cookie, AppSession]:
        """Sign in. Raise what `accounts.sign_in` raises, Suspended, Tampered."""
        client = self.gateway.client()
        return self._start(client, accounts.sign_in(client, email, password))

    def open(self, cookie: Cookie) -> AppSession:
        """The session of *cookie*, with keys and a token. Raise SignedOut, StoreUnavailable, Tampered."""
        row = self._row(cookie.hash)
        vault = self._vault(cookie)
        tokens = self.renew(cookie.hash, vault, row)
        return self._session(SessionId(row.session), cookie, vault, self.gateway.client(), tokens)

    def is_alive(self, cookie_hash: str) -> bool:
        """Whether the session still stands; counts as being seen. Raise StoreUnavailable."""
        return self.server.call("open_session", cookie=cookie_hash).ok

    def end(self, cookie: Cookie) -> None:
        """Sign out: its tokens are worth nothing from the next statement on."""
        self.server.call("end_session", cookie=cookie.hash)

    def renew(self, cookie_hash: str, vault: VaultRing, row: "_SessionRow | None" = None) -> Tokens:
        """Exchange the refresh token as the only one who does, and store the next.

        Two exchanges of one token end the whole session, so the database lends the right to do it.
        """
        deadline = time.monotonic() + 2 * _LEASE_SECONDS
        while time.monotonic() < deadline:
            row = row or self._row(cookie_hash)
            lease = self.server.call(
                "lease_refresh",
                cookie=cookie_hash,
                seen_generation=row.generation,
                lease_seconds=_LEASE_SECONDS,
            )
            if lease.ok:
                refresh = vault.open(
                    row.refresh_token, _refresh_place(cookie_hash, UserId(row.user))
                )
                tokens = accounts.exchange(self.gateway.client(), refresh)
                self._store(cookie_hash, vault, tokens, row.generation)
                return tokens
            if lease.reason == "not_found":
                raise SignedOut
            if lease.reason == "held":
                time.sleep(_LEASE_GLANCE)
            row = None
        raise StoreUnavailable("refresh lease")

    def _store(self, cookie_hash: str, vault: VaultRing, tokens: Tokens, generation: int) -> None:
        sealed = vault.seal(tokens.refresh, _refresh_place(cookie_hash, tokens.user_id))
        stored = self.server.call(
            "store_refresh",
            cookie=cookie_hash,
            seen_generation=generation,
            new_refresh_token=Hidden(sealed),
        )
        if not stored.ok:
            raise StoreUnavailable("refresh token moved")

    def _start(self, client: Client, tokens: Tokens) -> tuple[Cookie, AppSession]:
        cookie = Cookie.new()
        vault = self._vault(cookie)
        _bear(client, tokens)
        calls = PersonCalls(client, self.proof, tokens.user_id)
        sealed = vault.seal(tokens.refresh, _refresh_place(cookie.hash, tokens.user_id))
        try:
            answer = calls.call(
                "start_session",
                new_cookie_hash=cookie.hash,
                new_refresh_token=Hidden(sealed),
                new_device=Hidden(None),
                idle=self.idle_seconds,
                lifetime=self.lifetime_seconds,
            )
        except SignedOut:  # with a token of this moment
            raise Suspended from None
        session_id = SessionId(UUID(str(cast(dict[str, object], answer.model_extra)["session"])))
        return cookie, self._session(session_id, cookie, vault, client, tokens)

    def _session(
        self,
        session_id: SessionId,
        cookie: Cookie,
        vault: VaultRing,
        client: Client,
        tokens: Tokens,
    ) -> AppSession:
        _bear(client, tokens)
        calls = PersonCalls(client, self.proof, tokens.user_id)
        return AppSession(
            id=session_id,
            user_id=tokens.user_id,
            cookie_hash=cookie.hash,
            client=client,
            user_keys=self._user_keys(calls),
            calls=calls,
            _sessions=self,
            _vault=vault,
            _tokens=tokens,
        )

    def _user_keys(self, calls: PersonCalls) -> dict[int, UserKey]:
        """A person's keys, the first made here; those under an old root key are wrapped anew."""
        rows = _key_rows(calls)
        if not rows:
            self._put_key(calls, self.root_keys.wrap(new_key(), calls.user_id, 1), replaces=None)
            rows = _key_rows(calls)  # of two first sign-ins at once, one key counts
        keys: dict[int, UserKey] = {}
        for row in rows:
            key = self.root_keys.unwrap(row.wrapped, calls.user_id, row.version)
            keys[row.version] = UserKey(key, calls.user_id, row.version)
            if self.root_keys.needs_rewrap(row.wrapped):
                rewrapped = self.root_keys.wrap(key, calls.user_id, row.version)
                self._put_key(calls, rewrapped, replaces=row.wrapped, version=row.version)
        if not keys:
            raise Tampered
        return keys

    def _put_key(
        self, calls: PersonCalls, wrapped: str, replaces: str | None, version: int = 1
    ) -> None:
        calls.call(
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

    def _vault(self, cookie: Cookie) -> VaultRing:
        return self.root_keys.session_vault(cookie.secret)


def _key_rows(calls: PersonCalls) -> list[_UserKeyRow]:
    with store_errors():
        query = calls.client.table("user_keys").select("version,wrapped").eq("mode", "server")
        return _KEY_ROWS.validate_python(query.execute().data)


def _bear(client: Client, tokens: Tokens) -> None:
    client.postgrest.auth(tokens.access)


def _refresh_place(cookie_hash: str, user_id: UserId) -> Place:
    # the row's own id is made by the database; its cookie hash names it as well
    row_id = UUID(bytes=bytes.fromhex(cookie_hash)[:16])
    return Place(table="app_sessions", column="refresh_token", row_id=row_id, user_id=user_id)
