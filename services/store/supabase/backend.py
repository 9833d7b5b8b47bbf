"""The `Backend` in Supabase: app sessions, which store Supabase Auth's tokens, and calls that carry a server proof."""

import json
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import cast
from uuid import UUID, uuid4

import httpx
from pydantic import SecretStr, TypeAdapter

from services.caches import CachedRead
from services.crypto import ServerProof
from services.daemon_threads import in_thread
from services.domain import AccountRole, SessionId, UserId
from services.domain.accounts import (
    Account,
    CredentialsAction,
    Exemption,
    Failure,
    OpenInvitation,
    ProofScope,
    SessionEnd,
    SignUps,
)
from services.domain.addresses import EmailAddress
from services.domain.models import ModelSettings
from services.errors import (
    AddressTaken,
    AppError,
    FunctionMissing,
    Misconfigured,
    RowsCut,
    SignedOut,
    SignInBroken,
    StoreUnavailable,
    TooManyAttempts,
    WrongCredentials,
)
from services.events import log_event
from services.rules import Refusal
from services.rules.accounts import use_of
from services.store.backend import (
    Attempt,
    CountedAttempt,
    NewAddress,
    NewCookie,
    NewNotice,
    NewSession,
    NewStep,
    OpenedSession,
    PendingSignUp,
    SessionSealer,
    SignInUser,
    SignUpState,
    StoredCredentials,
    StoredDevice,
    Throttle,
    WrappedKey,
)
from services.store.refusals import error_of
from services.store.rows import FirstPage
from services.store.supabase import auth
from services.store.supabase.administration import SupabaseAdministration
from services.store.supabase.api import LEAST, TIMEOUT, Gateway, RpcResult, ServerCalls, UserCalls
from services.store.supabase.arguments import Hidden
from services.store.supabase.auth import AuthSettings, AuthTokens
from services.store.supabase.database_health import DatabaseHealth
from services.store.supabase.lite_transport import LiteTransport
from services.store.supabase.rows import SupabaseRows
from services.store.supabase.schema import LACKS_MIGRATIONS, check_schema
from services.store.supabase.session_tokens import (
    Bearer,
    StartedSession,
    TokenStore,
    open_tokens,
    seal_tokens,
)
from services.store.supabase.upkeep import DatabaseProbe, keep_erasing

_EMBEDDED_SECONDS, _HOSTED_SECONDS = 3.0, 60.0  # seconds between two probes of the database
_EMBEDDED_SWEEP_SECONDS = 9.0  # seconds between sweeps; a hosted database is swept in every probe
# a function that the API still lacks after this many seconds is missing in the database; and the pause between two calls
_RELOAD_SECONDS, _RELOAD_PAUSE_SECONDS = 30.0, 1.0
# the longest wait until other processes have stopped the replies of a session that ends, and the pause between two questions
_STOP_SECONDS, _STOP_PAUSE_SECONDS = 5.0, 0.3
_PROBE_TIMEOUT = httpx.Timeout(4.0, connect=2.0)  # seconds; a later response counts as a failure
_CREDENTIALS = TypeAdapter[StoredCredentials | None](StoredCredentials | None)
_KEYS = TypeAdapter(tuple[WrappedKey, ...])
_ENDED = TypeAdapter(dict[SessionId, SessionEnd])
_INVITATION = TypeAdapter[OpenInvitation | None](OpenInvitation | None)


@dataclass(frozen=True, slots=True)
class SupabaseSignIn:
    """Implements `SignIn` over Supabase Auth. In this class, a `SignInUser` is a user's tokens (`AuthTokens`)."""

    gateway: Gateway
    server: ServerCalls
    settings: CachedRead[AuthSettings] = field(repr=False)

    def confirms_addresses(self) -> bool:
        return not self.settings.get().mailer_autoconfirm

    def sign_up(self, email: EmailAddress, password: str) -> SignInUser:
        try:
            return auth.sign_up(self.gateway.client(), email, password)
        except AddressTaken:
            return self.resume(email, password)
        except StoreUnavailable:
            # one of two concurrent sign-ups gets an internal error, although Supabase Auth has created the user; so
            # sign in
            with suppress(AppError):
                return auth.sign_in(self.gateway.client(), email, password)
            raise

    def resume(self, email: EmailAddress, password: str) -> SignInUser:
        try:
            return auth.sign_in(self.gateway.client(), email, password)
        except WrongCredentials:
            # the address may belong to a user without an account, made with only the publishable key: delete that user
            if not self.server.call("end_stranger", address=Hidden(email), nonce=uuid4()).ok:
                raise AddressTaken from None
        return auth.sign_up(self.gateway.client(), email, password)

    def sign_in(self, user_id: UserId, email: EmailAddress, password: str) -> SignInUser:
        try:
            return auth.sign_in(self.gateway.client(), email, password)
        except WrongCredentials:
            log_event("sign_in.broken", user=user_id)
            raise SignInBroken from None

    def end(self, user: SignInUser) -> None:
        auth.sign_out(self.gateway.client(), _tokens(user))


@dataclass(frozen=True, slots=True)
class SupabaseUser:
    """Implements `UserBackend` for one app session, in Supabase."""

    calls: UserCalls = field(repr=False)
    server: ServerCalls = field(repr=False)
    bearer: Bearer = field(repr=False)
    # the first page's data, which came with the sign-in; empty once `first_page` has returned it
    first: list[FirstPage] = field(default_factory=list[FirstPage], repr=False)

    @property
    def administration(self) -> SupabaseAdministration:
        return SupabaseAdministration(self.calls, self.server)

    def account(self) -> Account:
        return self.calls.select("my_account", Account)

    def dismiss_notices(self, notices: Collection[UUID]) -> None:
        self.calls.call("dismiss_notices", notices=Hidden(json.dumps([*map(str, notices)])))

    def rows(self, most_bytes: int | None = None, first: FirstPage | None = None) -> SupabaseRows:
        return SupabaseRows(self.calls, most_bytes, first)

    def first_page(self) -> FirstPage | None:
        return self.first.pop() if self.first else None

    def change_credentials(
        self,
        new: StoredCredentials,
        seen_generation: int,
        *,
        action: CredentialsAction,
        ends_others: bool,
        renamed: Mapping[str, str] | None = None,
        ways_in: Sequence[str] | None = None,
    ) -> bool:
        answer = self.calls.call(
            "change_credentials",
            seen_generation=seen_generation,
            new_generation=new.generation,
            new_uses=new.uses,
            new_wants_factor=new.wants_factor,
            action=action,
            new_lookup=new.lookup,
            new_sealed=Hidden(new.sealed),
            ends_others=ends_others,
            renamed=Hidden(json.dumps(renamed) if renamed else None),
            ways_in=Hidden(None if ways_in is None else json.dumps(ways_in)),
            nonce=uuid4(),
        )
        return _is_changed("change_credentials", answer, "stale", "factor_used")

    def change_address(self, new: NewAddress) -> bool:
        answer = self.calls.call(
            "change_address",
            seen_generation=new.credentials.generation - 1,
            new_uses=new.credentials.uses,
            new_wants_factor=new.credentials.wants_factor,
            address=Hidden(new.address),
            claims=Hidden(json.dumps(new.claims)),
            new_lookup=new.credentials.lookup,
            new_sealed=Hidden(new.credentials.sealed),
            former=Hidden(json.dumps(new.former)),
            ways_in=Hidden(json.dumps(new.ways_in)),
            restored=new.is_restored,
            nonce=uuid4(),
        )
        return _is_changed("change_address", answer, "stale")

    def put_user_key(self, key: WrappedKey, replaces: str) -> None:
        self.calls.call(
            "put_user_key",
            new_version=key.version,
            new_wrapped=Hidden(key.wrapped),
            replaces=Hidden(replaces),
        )

    def devices(self) -> list[StoredDevice]:
        return self.calls.select("my_sessions", list[StoredDevice])

    def prove(
        self,
        generation: int,
        returned: Sequence[str],
        cookie: NewCookie,
        *,
        has_factor: bool = False,
        used: StoredCredentials | None = None,
        used_by: CredentialsAction = CredentialsAction.FACTOR_USED,
        scope: ProofScope = ProofScope.FULL,
    ) -> bool:
        action = use_of(used, generation, used_by) if used else None

        def store(lease: int | None, tokens: str) -> bool:
            answer = self.calls.call(
                "prove_session",
                seen_generation=generation,
                returned=Hidden(json.dumps(returned)),
                has_factor=has_factor,
                factor_action=action,
                new_generation=used.generation if used else None,
                new_uses=used.uses if used else None,
                new_wants_factor=used.wants_factor if used else None,
                new_lookup=used.lookup if used else None,
                new_sealed=Hidden(used.sealed if used else None),
                cookie=cookie.replaces,
                lease=lease,
                new_cookie_hash=cookie.cookie_hash,
                new_tokens=Hidden(tokens),
                new_scope=scope,
                nonce=uuid4(),
            )
            if answer.reason == "not_found":  # another process has given the session a new cookie
                raise SignedOut
            return _is_changed("prove_session", answer, "stale")

        return self.bearer.change_cookie(cookie, store)

    def stop_turns(self, session_id: SessionId | None) -> int:
        return self._number("streaming", "stop_turns", session_id)

    def end_device(self, session_id: SessionId) -> int:
        return self._number("ended", "revoke_sessions", session_id)

    def end_other_devices(self) -> int:
        return self._number("ended", "revoke_sessions", None)

    def _number(self, name: str, verb: str, session_id: SessionId | None) -> int:
        return int(str(self.calls.do(verb, one_session=session_id).values[name]))


@dataclass(frozen=True)
class SupabaseBackend:
    """Implements `Backend` in Supabase. Calls fail fast while the database is down. Any thread may call any method."""

    url: str
    key: SecretStr
    proof: ServerProof = field(repr=False)
    is_hosted: bool
    transport: httpx.BaseTransport | None = field(default=None, repr=False)
    database: DatabaseHealth = field(default_factory=lambda: DatabaseHealth(_HOSTED_SECONDS))

    @cached_property
    def gateway(self) -> Gateway:
        return Gateway.to(self.url, self.key, self.transport, self.database.hooks)

    @cached_property
    def server(self) -> ServerCalls:
        return ServerCalls(self.gateway.client(), self.proof)

    @property
    def sign_in(self) -> SupabaseSignIn:
        return SupabaseSignIn(self.gateway, self.server, self._auth_settings)

    @cached_property
    def _auth_settings(self) -> CachedRead[AuthSettings]:
        return CachedRead(lambda: auth.read_settings(self.gateway))

    def start_session(
        self, user: SignInUser, new: NewSession, sealer: SessionSealer
    ) -> OpenedSession:
        tokens, client, account = _tokens(user), self.gateway.client(), new.account
        credentials, used = account.credentials if account else new.used, new.used
        client.postgrest.auth(tokens.access)
        answer = UserCalls(client, self.proof, tokens.user_id).call(
            "start_session",
            new_id=new.id,
            new_cookie_hash=new.cookie_hash,
            new_tokens=Hidden(seal_tokens(tokens, sealer)),
            new_device=Hidden(new.device),
            cookie_before=new.cookie_before,
            new_follows=new.follows,
            idle=new.idle_seconds,
            lifetime=new.lifetime_seconds,
            returned=Hidden(json.dumps(new.returned) if new.returned else None),
            seen_generation=new.generation,
            pending=account.sign_up if account else None,
            new_lookup=credentials.lookup if credentials else None,
            new_sealed=Hidden(credentials.sealed if credentials else None),
            new_wrapped=Hidden(account.key.wrapped if account else None),
            ways_in=Hidden(json.dumps(account.ways_in) if account else None),
            invitation=Hidden(account.invitation if account else None),
            has_factor=new.has_factor,
            factor_action=use_of(used, new.generation, new.used_by) if used else None,
            new_generation=credentials.generation if credentials else None,
            new_uses=credentials.uses if credentials else None,
            new_wants_factor=credentials.wants_factor if credentials else None,
            new_scope=new.scope,
        )
        if not answer.ok:
            raise error_of("start_session", Refusal(reason=answer.reason))
        started = StartedSession.model_validate(answer.model_extra)
        return self._opened(started, new.cookie_hash, sealer, tokens)

    def open_session(self, cookie_hash: str, sealer: SessionSealer) -> OpenedSession:
        row = self._token_store.row(cookie_hash)
        return self._opened(row, cookie_hash, sealer, open_tokens(row, sealer))

    def _opened(
        self, started: StartedSession, cookie_hash: str, sealer: SessionSealer, tokens: AuthTokens
    ) -> OpenedSession:
        client = self.gateway.client()
        bearer = Bearer(self._token_store, cookie_hash, sealer, tokens)
        # postgrest-py passes this object unchanged to httpx, which accepts any httpx.Auth
        client.postgrest.basic_auth = cast(httpx.BasicAuth, bearer)
        calls = UserCalls(client, self.proof, tokens.user_id)
        first = [started.first] if started.first else []
        user = SupabaseUser(calls, self.server, bearer, first)
        return OpenedSession(
            id=started.session,
            user_id=tokens.user_id,
            credentials=started.credentials,
            keys=started.keys,
            user=user,
            role=started.role,
        )

    @property
    def _token_store(self) -> TokenStore:
        return TokenStore(self.gateway, self.server)

    def is_alive(self, cookie_hash: str) -> bool:
        answer = self.server.call("open_session", cookie=cookie_hash, nonce=uuid4())
        return answer.ok and AccountRole(str(answer.values["role"])).is_known

    def ended(self, sessions: Iterable[tuple[SessionId, UserId]]) -> dict[SessionId, SessionEnd]:
        asked = [{"session": str(one), "user": str(user_id)} for one, user_id in sessions]
        answer = self.server.call("ended_sessions", sessions=Hidden(json.dumps(asked)))
        return _ENDED.validate_python(answer.values["ended"])

    def end_session(self, cookie_hash: str) -> None:
        ends_at = time.monotonic() + _STOP_SECONDS
        while True:
            waits = time.monotonic() < ends_at
            answer = self.server.call("end_session", cookie=cookie_hash, waits=waits)
            if not answer.values.get("streaming"):
                return
            time.sleep(_STOP_PAUSE_SECONDS)

    def sign_up_state(self) -> SignUpState:
        found = self.server.call("sign_ups").values
        return replace(_sign_up_state(found), has_admin=found["has_admin"] is True)

    def count_attempt(self, attempt: Attempt) -> CountedAttempt:
        throttles = attempt.throttles
        answer = self.server.call(
            "count_attempt",
            lookups=Hidden(json.dumps(attempt.lookups)),
            throttles=_buckets(throttles.strangers),
            device_user=throttles.device_user,
            device_throttles=_buckets(throttles.device),
            invitation=Hidden(attempt.invitation),
            address=Hidden(attempt.invited),
            nonce=attempt.nonce,
        )
        found = _counted(answer)
        return CountedAttempt(
            credentials=_CREDENTIALS.validate_python(found["credentials"]),
            keys=_KEYS.validate_python(found["keys"]),
            is_known=found["is_known"] is True,
            is_suspended=found["is_suspended"] is True,
            sign_ups=_sign_up_state(found),
        )

    def put_sign_up(self, new: PendingSignUp) -> bool:
        credentials = new.credentials
        is_next = credentials.generation > 1
        return self.server.call(
            "put_sign_up",
            row_id=credentials.id,
            lookups=Hidden(json.dumps(new.lookups)),
            new_lookup=credentials.lookup,
            new_sealed=Hidden(credentials.sealed),
            seen_generation=credentials.generation - 1 if is_next else None,
            nonce=uuid4(),
        ).ok

    def count_throttles(self, throttles: Sequence[Throttle]) -> None:
        _counted(self.server.call("count_throttles", throttles=_buckets(throttles), nonce=uuid4()))

    def open_invitation(self, code: str, throttles: Sequence[Throttle]) -> OpenInvitation | None:
        found = _counted(
            self.server.call(
                "open_invitation", throttles=_buckets(throttles), code=Hidden(code), nonce=uuid4()
            )
        )
        return _INVITATION.validate_python(found.get("invitation"))

    def begin_step(self, new: NewStep) -> None:
        self.server.call(
            "begin_step",
            new_key=new.key,
            new_kind_tag=new.kind_tag,
            new_sealed=Hidden(new.sealed),
            nonce=uuid4(),
        )

    def try_step(self, key: str) -> str | None:
        return _sealed_step(self.server.call("try_step", step_key=key, nonce=uuid4()))

    def end_step(self, key: str) -> str | None:
        return _sealed_step(self.server.call("end_step", step_key=key))

    def add_notice(self, user_id: UserId, new: NewNotice, throttles: Sequence[Throttle]) -> None:
        answer = self.server.call(
            "add_notice",
            person=user_id,
            new_id=new.id,
            new_kind=new.kind,
            new_browser=Hidden(new.browser),
            made_in=new.session,
            throttles=_buckets(throttles),
        )
        _counted(answer)

    def note_failure(self, user_id: UserId, failure: Failure | Exemption) -> None:
        self.server.call("note_failure", person=user_id, failure=failure, nonce=uuid4())

    def model_settings(self) -> ModelSettings:
        return self.server.read("model_settings", ModelSettings)

    def root_key_versions(self) -> list[int]:
        return self.server.stored_versions().versions

    def sweep(self) -> bool:
        return self.server.sweep().more

    def check(self) -> list[int]:
        deadline = time.monotonic() + _RELOAD_SECONDS
        # the probe begins at the same time, and a function that it misses makes calls fail fast
        with self.database.exempt():
            while True:
                try:
                    return self._checked_versions()
                except (
                    FunctionMissing
                ):  # PostgREST may not have reloaded the schema since `migrate`
                    if time.monotonic() >= deadline:
                        raise Misconfigured(LACKS_MIGRATIONS) from None
                time.sleep(_RELOAD_PAUSE_SECONDS)

    def _checked_versions(self) -> list[int]:
        stored = self.server.stored_versions()
        check_schema(stored.schema)
        if (bound := self.server.row_bound()) < LEAST:
            raise RowsCut(bound, LEAST)
        return stored.versions

    def start_upkeep(self, report: Callable[[str], None]) -> None:
        def calls(timeout: httpx.Timeout) -> ServerCalls:
            gateway = Gateway.to(self.url, self.key, self.transport, timeout=timeout)
            return ServerCalls(gateway.client(), self.proof)

        probe = DatabaseProbe(
            database=self.database,
            server=calls(_PROBE_TIMEOUT),
            sweep_seconds=_HOSTED_SECONDS if self.is_hosted else _EMBEDDED_SWEEP_SECONDS,
            report=report,
        )
        in_thread("database-probe", probe.run)
        # this client has no circuit breaker: a call that times out because the log is too large is not an outage
        eraser = calls(TIMEOUT)
        in_thread("log-erasures", lambda: keep_erasing(probe.log_erasures, eraser))


def open_supabase(
    url: str, key: SecretStr, proof_key: bytes, *, is_hosted: bool
) -> SupabaseBackend:
    """Return the backend at *url*; *proof_key* is the key of the app's server proofs."""
    return SupabaseBackend(
        url,
        key,
        ServerProof(proof_key),
        is_hosted,
        # only the embedded API is called over plain http, and needs this transport
        LiteTransport() if url.startswith("http:") else None,
        DatabaseHealth(_HOSTED_SECONDS if is_hosted else _EMBEDDED_SECONDS),
    )


def _sign_up_state(found: Mapping[str, object]) -> SignUpState:
    return SignUpState(
        mode=SignUps(str(found["mode"])),
        is_first_admin=found["is_first"] is True,
        confirms_by_code=found["confirms_by_code"] is True,
        requires_factor=found["requires_factor"] is True,
        is_invited=found.get("is_invited") is True,
    )


def _is_changed(verb: str, answer: RpcResult, *losses: str) -> bool:
    """Return False if *verb* was refused because of a concurrent change (a reason in *losses*); raise any other refusal."""
    if not answer.ok and answer.reason not in losses:
        raise error_of(verb, Refusal(reason=answer.reason))
    return answer.ok


def _counted(answer: RpcResult) -> dict[str, object]:
    """Return the result of a counted attempt. Raise TooManyAttempts if the attempt was refused."""
    if not answer.ok:
        raise TooManyAttempts(int(str(answer.values["retry_after"])))
    return answer.values


def _sealed_step(answer: RpcResult) -> str | None:
    return str(answer.values["sealed"]) if answer.ok else None


def _buckets(throttles: Sequence[Throttle]) -> Hidden:
    return Hidden(json.dumps([asdict(throttle) for throttle in throttles]))


def _tokens(user: SignInUser) -> AuthTokens:
    if not isinstance(user, AuthTokens):
        raise TypeError("a user of another store")
    return user
