"""Builds everything; the only module that knows every other."""

import gc
import threading
from collections.abc import AsyncGenerator, Collection
from contextlib import asynccontextmanager
from importlib import import_module
from uuid import UUID

import httpx
from pydantic import SecretStr
from starlette.middleware import Middleware
from starlette.routing import Route

from services.caches import CachedRead
from services.chat.live_turn import LiveTurn as LiveTurn
from services.chat.parts import ChatParts as ChatParts
from services.chat.remote_turn import RemoteTurn as RemoteTurn
from services.chat.service import Chat as Chat
from services.chat.setup import Setup as Setup
from services.chat.temporary import TemporaryChat as TemporaryChat
from services.chat.view import Affordable as Affordable
from services.chat.view import ThreadView as ThreadView
from services.crypto import ServerProof
from services.deployment import Deployment, current_deployment
from services.domain import ConversationId, SessionId
from services.domain.accounts import SignUps
from services.domain.health import ModelCalls
from services.embedded.reports import Failed
from services.errors import SignedOut, StoreUnavailable
from services.events import listen
from services.store.port import Store
from services.store.supabase import sign_ups as sign_ups_store
from services.store.supabase.api import Gateway, ServerCalls
from services.store.supabase.database_health import DatabaseHealth
from services.store.supabase.lite_transport import LiteTransport
from services.store.supabase.model_settings import read_model_settings
from services.store.supabase.sessions import AppSession, Sessions
from services.threads import in_thread
from services.users import Shared
from services.users import UserServices as UserServices
from services.web import streamlit_assets
from services.web.attempts import Attempts
from services.web.export_route import ExportRoutes
from services.web.form_limit import FormLimit
from services.web.health_route import health_route
from services.web.metrics import Metrics
from services.web.origin import Origin
from services.web.page_assets import PageAssets
from services.web.poll_route import PollRoute
from services.web.recent_calls import RecentCalls
from services.web.server_health import ServerHealth
from services.web.session_middleware import ENDS as ENDS
from services.web.session_middleware import UNKNOWN as UNKNOWN
from services.web.session_middleware import (
    SessionMiddleware,
    content_security_policy,
)
from services.web.sign_in_routes import SignInRoutes
from services.web.upkeep import DatabaseProbe, failed_check, keep_erasing, keep_forgetting

_TAB_WAIT_SECONDS = 10.0  # less than the 15 for which a browser waits
_EMBEDDED_SECONDS, _HOSTED_SECONDS = 3.0, 60.0  # between two probes of the database
_EMBEDDED_SWEEP_SECONDS = 9.0  # a hosted one's probe is always the sweep
_PROBE_TIMEOUT = httpx.Timeout(4.0, connect=2.0)  # what answers later is as good as away
_CHECK_SECONDS = 1.0


_built: Shared | None = None
_building = threading.Lock()
_recent_calls = RecentCalls()
_has_accounts = threading.Event()  # once seen, never asked again


def server_health() -> ServerHealth:
    """Start-up progress and health of this server process."""
    return current_deployment().health


def user_services(session_id: str | None) -> UserServices | None:
    """The services of the user of an app session; None if it is known to have ended. Raise StoreUnavailable."""
    if session_id == UNKNOWN:
        raise StoreUnavailable
    return (
        None
        if session_id is None or session_id in ENDS
        else _shared().find(SessionId(UUID(session_id)))
    )


def has_ended(session_id: str) -> bool:
    """Return True if the app session is known to have ended. Wait a second for a check that is under way."""
    return _shared().session_cache.has_ended(SessionId(UUID(session_id)), _CHECK_SECONDS)


def doubt(session_id: str) -> None:
    """Have the app session checked before it is used again: a call was refused."""
    _shared().session_cache.doubt(SessionId(UUID(session_id)))


def recent_calls() -> ModelCalls:
    """The last calls of models in this process."""
    return _recent_calls.summary()


def row_bound() -> int:
    """The most rows of one answer of the database's API; 1,001 for more than 1,000. Raise StoreUnavailable."""
    return _shared().server.row_bound()


def has_accounts() -> bool:
    """Return False as long as no account was ever made; True also while the database is unreachable."""
    if not _has_accounts.is_set():
        try:
            if not _shared().server.root_key_versions():
                return False
        except StoreUnavailable:
            return True
        _has_accounts.set()
    return True


def next_is_admin() -> bool:
    """Return True if the next account is the first, and becomes the admin's."""
    try:
        return not has_accounts() and sign_ups_store.next_is_admin(_shared().server)
    except StoreUnavailable:
        return False


def sign_ups() -> SignUps:
    """The mode of sign-ups, at most a few seconds old; open where the database was never reached."""
    try:
        return _shared().sign_ups.get()
    except StoreUnavailable:
        return SignUps.OPEN


def routes() -> list[Route]:
    """The routes of sign-in, exports, polls and metrics; the first three work once the backend is ready."""
    deployment = current_deployment()
    sign_in = SignInRoutes(
        session_cache=lambda: _shared().session_cache,
        attempts=Attempts(
            server=lambda: _shared().server,
            root_keys=deployment.root_keys,
            sign_ups_an_hour=deployment.settings.sign_ups_an_hour,
        ),
        store=_store,
        stop_turns=lambda user_id: _shared().stop_turns_of(user_id),
        origin=_origin(),
        lifetime_seconds=deployment.settings.session_lifetime_seconds,
    )
    exports = ExportRoutes(
        session_cache=lambda: _shared().session_cache,
        store_of=_store,
        user_of=_person,
        origin=_origin(),
    )
    poll = PollRoute(
        session_cache=lambda: _shared().session_cache,
        person_of=lambda session: _shared().held(session.id),
        origin=_origin(),
    )
    metrics = Metrics(
        deployment.settings.metrics_token,
        sessions=lambda: _built.session_cache.count if _built else 0,
    )
    listen(metrics.record)
    listen(_recent_calls.record)
    return [
        health_route(deployment.health),
        *sign_in.routes(),
        *exports.routes(),
        *poll.routes(),
        *metrics.routes(),
    ]


def _person(session: AppSession) -> UserServices:
    """The services of the user of *session*. Raise SignedOut, StoreUnavailable."""
    user = _shared().find(session.id)
    if user is None:
        raise SignedOut
    return user


def _store(session: AppSession, conversation_id: ConversationId | None) -> Store:
    """The store that would hold a conversation: of a temporary chat, or of the user. Raise SignedOut, StoreUnavailable."""
    temporary = conversation_id and _shared().temporary.find(session.id, conversation_id)
    return (temporary or _person(session)).store


def middleware(pages: Collection[str]) -> list[Middleware]:
    """Return the middleware of every request, outermost first. *pages*: the addresses of the app's pages."""
    return [
        Middleware(
            SessionMiddleware,
            session_cache=lambda: (
                _shared().session_cache if _built or server_health().is_started else None
            ),
            origin=_origin(),
            read_ahead=lambda cookie, its: _shared().read_ahead(cookie, its),
            policy=content_security_policy(streamlit_assets.folder() / "index.html"),
            wait_seconds=_TAB_WAIT_SECONDS,
        ),
        Middleware(FormLimit),
        Middleware(PageAssets, pages=pages),
    ]


@asynccontextmanager
async def lifespan(_: object) -> AsyncGenerator[dict[str, object]]:
    """Have the backend checked once it runs; in the end store what is said while it answers, and stop it."""
    # openai takes the longest of all imports: here, beside the start of Node, it delays nothing
    in_thread("model-imports", lambda: import_module("services.llm.from_settings"))
    deployment = current_deployment()
    deployment.check.set_result(_failed_check)
    try:
        yield {}
    finally:
        try:
            _stop_turns()
        finally:
            deployment.stop()
            gc.freeze()  # a last collection of all imported modules would take half a second


def _failed_check() -> Failed | None:
    """The failure if the database is not as the app needs it; None also while it is away."""
    return failed_check(_shared().server, current_deployment().root_keys)


def _stop_turns() -> None:
    """Stop the live turns and store their partial replies, while the backend answers."""
    if _built:
        _built.stop_turns()


def _origin() -> Origin:
    chosen = current_deployment().settings
    url = str(chosen.url).rstrip("/") if chosen.url else None
    return Origin(url, chosen.trusted_proxies)


def _shared() -> Shared:
    global _built
    with _building:
        _built = _built or build(current_deployment())
        return _built


def build(deployment: Deployment) -> Shared:
    """Build what all users share, and begin the threads that look after it."""
    from services.llm.from_settings import configured_models, local_model  # see `lifespan`

    chosen, at = deployment.settings, deployment.endpoints
    url = at.supabase_url or str(chosen.supabase_url).rstrip("/")
    key = chosen.supabase_key or SecretStr(at.publishable_key or "")
    # the embedded API is the only one that is spoken to in plain http
    transport = LiteTransport() if url.startswith("http:") else None
    is_hosted = at.supabase_url is None
    database = DatabaseHealth(_HOSTED_SECONDS if is_hosted else _EMBEDDED_SECONDS)
    gateway = Gateway.to(url, key, transport, database.hooks)
    proof = ServerProof(deployment.root_keys.proof_key())
    server = ServerCalls(gateway.client(), proof)
    sessions = Sessions(
        gateway=gateway,
        server=server,
        root_keys=deployment.root_keys,
        proof=proof,
        idle_seconds=chosen.session_idle_seconds,
        lifetime_seconds=chosen.session_lifetime_seconds,
    )
    model_settings = CachedRead(lambda: read_model_settings(server))
    models = (
        local_model(at.model_url, at.model_key or "", model_settings.get)
        if at.model_url
        else configured_models(chosen, model_settings.get)
    )
    shared = Shared(sessions, chosen, models, model_settings, deployment.close_tabs)
    probe = DatabaseProbe(
        database=database,
        server=ServerCalls(Gateway.to(url, key, transport, timeout=_PROBE_TIMEOUT).client(), proof),
        sweep_seconds=_HOSTED_SECONDS if is_hosted else _EMBEDDED_SWEEP_SECONDS,
        health=deployment.health,
        check=lambda: failed_check(server, deployment.root_keys),
        log_erasures=threading.Event(),
    )
    in_thread("database-probe", probe.run)
    # past the circuit breaker: a log that is too large for its time limit is no outage
    eraser = ServerCalls(Gateway.to(url, key, transport).client(), proof)
    in_thread("log-erasures", lambda: keep_erasing(probe.log_erasures, eraser))
    cache = shared.session_cache
    acts = cache.forget_idle, cache.forget_ended, shared.temporary.end_deserted
    postponed = shared.background.begin_due
    in_thread("forgetting", lambda: keep_forgetting(*acts, postponed))
    # numpy takes as long as a tenth of the start, which needs none of it
    in_thread("recall-imports", lambda: import_module("services.memory.recall"))
    return shared
