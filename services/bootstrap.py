"""Construction of the app, its routes and its middleware; the only module that imports all others."""

from collections.abc import Callable, Collection

from starlette.middleware import Middleware
from starlette.routing import Route

from services.app import App
from services.chat.live_turn import LiveTurn as LiveTurn
from services.chat.parts import ChatParts as ChatParts
from services.chat.remote_turn import RemoteTurn as RemoteTurn
from services.chat.service import Chat as Chat
from services.chat.setup import Setup as Setup
from services.chat.temporary import ChatIsOver as ChatIsOver
from services.chat.temporary import TemporaryChat as TemporaryChat
from services.chat.view import Affordable as Affordable
from services.chat.view import ThreadView as ThreadView
from services.deployment import Deployment
from services.domain import SessionId, UserId
from services.domain.sign_in_methods import SignInMethod
from services.events import listen
from services.users import UserServices as UserServices
from services.users.full_export import FullExport as FullExport
from services.web import streamlit_assets
from services.web.address_codes import NewAddress, RestoreAddress
from services.web.code_routes import CodePurposeFlow, CodeRoutes
from services.web.confirmation_codes import ConfirmAddress, SignUpByCode, SignUpCode
from services.web.enrolments import Enrolments
from services.web.entries import Entries
from services.web.export_route import ExportRoutes
from services.web.factor_check import FactorCheck
from services.web.find_route import FindRoute
from services.web.form_guard import FormGuard
from services.web.hashing_lanes import HashingLanes
from services.web.health_route import health_route
from services.web.metrics import Metrics
from services.web.notices import Notices
from services.web.oidc_clients import ProviderClients
from services.web.oidc_routes import OidcRoutes
from services.web.oidc_steps import SignOnSteps
from services.web.oidc_visits import AddressByCode, LinkByCode, SignOnVisits, VisitRoutes
from services.web.open_route import OpenRoute
from services.web.origin import Origin
from services.web.own_factor import OwnFactor
from services.web.own_identities import OwnIdentities
from services.web.own_passkeys import AddPasskey, OwnPasskeys
from services.web.page_assets import PageAssets
from services.web.passkey_check import PasskeyCheck
from services.web.passkey_factor import EnterByPasskey, FinishProofByPasskey
from services.web.passkey_link import LinkByPasskey
from services.web.passkey_routes import PasskeyRoutes
from services.web.passkey_sign_in import ProveByPasskey, SignInByPasskey
from services.web.poll_route import PollRoute
from services.web.run_budgets import BegunRun as BegunRun
from services.web.session_middleware import ENDS as ENDS
from services.web.session_middleware import UNKNOWN as UNKNOWN
from services.web.session_middleware import SessionMiddleware, content_security_policy
from services.web.session_start import SessionStart
from services.web.sign_in_codes import ProveByCode, ResetPassword, SignInByCode
from services.web.sign_in_routes import SignInRoutes

# seconds that a tab waits for the backend to start; a browser gives up after 15 seconds
_TAB_WAIT_SECONDS = 10.0

_app: App | None = None


def build(
    deployment: Deployment,
    close_tabs: Callable[[SessionId], object],
    forget_text: Callable[[Callable[[UserId], float]], object],
) -> App:
    """Build the app of this process; for the arguments, see `App`."""
    global _app
    _app = App(deployment, close_tabs, forget_text)
    return _app


def current_app() -> App:
    """Return the app of this process."""
    if _app is None:
        raise RuntimeError("build() comes first")
    return _app


def routes(app: App) -> list[Route]:
    """Return all routes of the app. The routes for sign-in, codes, exports and polls work only once the backend has started."""
    chosen, origin = app.deployment.settings, _origin(app)
    attempts = app.attempts
    lanes = HashingLanes()
    notices = Notices(attempts, origin, app.mailer.send if app.mailer else None)
    start = SessionStart(app.shared, attempts, origin, chosen.session_lifetime_seconds, notices)
    sign_up = SignUpCode(start)
    steps = SignOnSteps(start, ProviderClients(chosen.providers))
    has_mail = app.mailer is not None
    own = OwnIdentities(steps, FactorCheck(attempts, origin, notices), has_mail)
    visits = SignOnVisits(steps, has_mail=has_mail) if app.providers else None
    codes = _code_routes(app, start, lanes, sign_up, visits)
    by_code = SignUpByCode(codes, sign_up) if codes else None
    metrics = Metrics(chosen.metrics_token, app.open_sessions)
    listen(metrics.record)
    listen(app.recent_calls.record)
    return [
        health_route(app.health),
        *_open_routes(app, origin),
        *SignInRoutes(start, lanes, by_code, chosen.methods).routes(),
        *([] if origin.is_alone else _entry_routes(Entries(start))),
        *OwnFactor(app.shared, attempts, origin, notices).routes(),
        *(codes.routes() if codes else []),
        *_passkey_routes(app, start, own if visits else None),
        *([] if origin.is_alone else own.routes_without_provider()),
        *(_single_sign_on(visits, own, lanes, codes) if visits else []),
        *ExportRoutes(app.shared, origin).routes(),
        *PollRoute(app.shared, origin).routes(),
        *FindRoute(app.shared, origin).routes(),
        *metrics.routes(),
    ]


def middleware(app: App, pages: Collection[str]) -> list[Middleware]:
    """Return the middleware of every request, outermost first. *pages* are the URL paths of the app's pages."""
    return [
        Middleware(
            SessionMiddleware,
            shared=app.shared,
            origin=_origin(app),
            policy=content_security_policy(streamlit_assets.folder() / "index.html"),
            wait_seconds=_TAB_WAIT_SECONDS,
        ),
        Middleware(FormGuard, origin=_origin(app)),
        Middleware(PageAssets, pages=pages),
    ]


def _entry_routes(entries: Entries) -> list[Route]:
    return [*entries.routes(), *Enrolments(entries).routes()]


def _single_sign_on(
    visits: SignOnVisits, own: OwnIdentities, lanes: HashingLanes, codes: CodeRoutes | None
) -> list[Route]:
    routes = OidcRoutes(visits.steps, visits, own).routes()
    return [*routes, *own.routes(), *VisitRoutes(visits, lanes, codes).routes()]


def _code_routes(
    app: App,
    start: SessionStart,
    lanes: HashingLanes,
    sign_up: SignUpCode,
    visits: SignOnVisits | None,
) -> CodeRoutes | None:
    """Return the routes for mailed codes; None if the app sends no mail."""
    attempts, origin, notices = start.attempts, start.origin, start.notices
    if app.mailer is None:
        return None
    by_code, by_password = {SignInMethod.CODE}, {SignInMethod.PASSWORD}
    of_providers = (LinkByCode(visits), AddressByCode(visits)) if visits else ()
    # each flow with the sign-in methods that it needs; a flow is left out if one of its methods is switched off
    flows: tuple[tuple[CodePurposeFlow, set[SignInMethod]], ...] = (
        (SignInByCode(start), by_code),
        (ResetPassword(start, lanes), by_code | by_password),
        (ProveByCode(FactorCheck(attempts, origin, notices)), by_code),
        (sign_up, set()),  # never left out: every sign-up mails a code, even with a password
        (ConfirmAddress(), set()),
        (NewAddress(notices), set()),
        (RestoreAddress(start, lanes), by_code),
        *((flow, set[SignInMethod]()) for flow in of_providers),
    )
    methods = app.deployment.settings.methods
    on = [flow for flow, needed in flows if needed <= methods]
    return CodeRoutes(app.shared, attempts, origin, app.mailer, on)


def _passkey_routes(app: App, start: SessionStart, own: OwnIdentities | None) -> list[Route]:
    """Return the routes for passkeys; *own* is None if single sign-on is off."""
    check = PasskeyCheck(start.attempts, start.origin, start.notices)
    flows = (
        *(SignInByPasskey(start, check), ProveByPasskey(check), AddPasskey(start.notices)),
        EnterByPasskey(Entries(start)),
        *([LinkByPasskey(own.steps, check), FinishProofByPasskey(own)] if own else []),
    )
    return [
        *PasskeyRoutes(app.shared, start.attempts, start.origin, flows).routes(),
        *OwnPasskeys(app.shared, start.origin, start.notices).routes(),
    ]


def _open_routes(app: App, origin: Origin) -> list[Route]:
    secret, seconds = app.deployment.secret, app.deployment.settings.session_lifetime_seconds
    if secret is None:
        return []
    return OpenRoute(secret, app.opening, app.shared, app.enter, origin, seconds).routes()


def _origin(app: App) -> Origin:
    chosen = app.deployment.settings
    return Origin(app.public_url, chosen.trusted_proxies, chosen.is_alone)
