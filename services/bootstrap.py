"""Builds everything; the only module that knows every other."""

import gc
import threading
from collections.abc import AsyncGenerator, Collection
from contextlib import asynccontextmanager
from functools import cache
from importlib import import_module
from uuid import UUID

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
from services.deployment import Deployment, current_deployment
from services.domain import ConversationId, SessionId
from services.domain.accounts import SignUps
from services.domain.health import ModelCalls
from services.embedded.reports import Failed
from services.errors import SignedOut, StoreUnavailable
from services.events import listen
from services.store.accounts import Accounts, AppSession
from services.store.backend import Backend
from services.store.port import Store
from services.stores import open_backend
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
from services.web.upkeep import failed_check, keep_forgetting

_TAB_WAIT_SECONDS = 10.0  # less than the 15 for which a browser waits
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


def has_accounts() -> bool:
    """Return False as long as no account was ever made; True also while the database is unreachable."""
    if not _has_accounts.is_set():
        try:
            if not _shared().backend.root_key_versions():
                return False
        except StoreUnavailable:
            return True
        _has_accounts.set()
    return True


def next_is_admin() -> bool:
    """Return True if the next account is the first, and becomes the admin's."""
    try:
        return not has_accounts() and _shared().backend.sign_up_state().is_first_admin
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
            backend=_backend,
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
    in_thread("store-imports", _backend)
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
    return failed_check(_shared().backend, current_deployment().root_keys)


def _stop_turns() -> None:
    """Stop the live turns and store their partial replies, while the backend answers."""
    if _built:
        _built.stop_turns()


def _origin() -> Origin:
    chosen = current_deployment().settings
    url = str(chosen.url).rstrip("/") if chosen.url else None
    return Origin(url, chosen.trusted_proxies)


@cache
def _backend() -> Backend:
    """The store of this process; opening it calls nothing."""
    deployment = current_deployment()
    return open_backend(deployment.settings, deployment.endpoints, deployment.root_keys)


def _shared() -> Shared:
    global _built
    with _building:
        _built = _built or build(current_deployment(), _backend())
        return _built


def build(deployment: Deployment, backend: Backend) -> Shared:
    """Build what all users share over *backend*, and begin the threads that look after it."""
    from services.llm.from_settings import configured_models, local_model  # see `lifespan`

    chosen, at = deployment.settings, deployment.endpoints
    accounts = Accounts(
        backend,
        deployment.root_keys,
        chosen.session_idle_seconds,
        chosen.session_lifetime_seconds,
    )
    model_settings = CachedRead(backend.model_settings)
    models = (
        local_model(at.model_url, at.model_key or "", model_settings.get)
        if at.model_url
        else configured_models(chosen, model_settings.get)
    )
    shared = Shared(accounts, chosen, models, model_settings, deployment.close_tabs)

    def report(is_away: bool) -> None:
        if not is_away and (failure := failed_check(backend, deployment.root_keys)):
            deployment.health.record(failure)
        deployment.health.record_outage(is_away=is_away)

    backend.start_upkeep(report)
    cache = shared.session_cache
    acts = cache.forget_idle, cache.forget_ended, shared.temporary.end_deserted
    postponed = shared.background.begin_due
    in_thread("forgetting", lambda: keep_forgetting(*acts, postponed))
    # numpy takes as long as a tenth of the start, which needs none of it
    in_thread("recall-imports", lambda: import_module("services.memory.recall"))
    return shared
