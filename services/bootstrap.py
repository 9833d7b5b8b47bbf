"""Builds everything; the only module that knows every other."""

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from functools import cache
from uuid import UUID, uuid4

import httpx
from pydantic import SecretStr
from starlette.middleware import Middleware
from starlette.routing import Route

from services import settings
from services.chat import (
    TEMPORARY_TITLE,
    BackgroundTasks,
    Elsewhere,
    LiveTurns,
    TemporaryChats,
    first_words,
)
from services.chat import Chat as Chat
from services.chat import LiveTurn as LiveTurn
from services.chat import RemoteTurn as RemoteTurn
from services.chat import Setup as Setup
from services.chat import TemporaryChat as TemporaryChat
from services.chat import affordable as affordable
from services.crypto import RootKeys, ServerProof
from services.domain import AccountRole, ConversationId, Purpose, SessionId
from services.domain.accounts import Account
from services.domain.models import LimitSource, ModelInfo
from services.domain.policies import policy_named
from services.embedded.folders import choose_folders
from services.embedded.plan import Endpoints
from services.embedded.reports import Failed, Report, Running
from services.embedded.stack import Stack, prepare
from services.errors import AppError, Misconfigured, RowsCut, SignedOut, StoreUnavailable
from services.events import log_event
from services.llm import (
    LimitRefusal,
    Models,
    ModelSpec,
    Offer,
    OpenAIModel,
    connect,
    known_model,
    narrow_limits,
    read_models,
)
from services.memory.tokens import CachingCounter, KindCounter, RegexCounter
from services.settings import Settings
from services.store.cached_read import CachedRead
from services.store.in_memory.rows import InMemoryRows
from services.store.port import Store
from services.store.sealed import sealed_store, throwaway_keys
from services.store.supabase import auth
from services.store.supabase.api import Gateway, ServerCalls
from services.store.supabase.database_health import DatabaseHealth
from services.store.supabase.first_page import FirstPageRows, FirstRead
from services.store.supabase.lite_transport import LiteTransport
from services.store.supabase.sessions import AppSession, Cookie, Sessions
from services.store.supabase.usage import UsageReports
from services.web import streamlit_assets
from services.web.attempts import Attempts
from services.web.export_route import Exported, export_route
from services.web.origin import Origin
from services.web.page_assets import PageAssets
from services.web.server_health import ServerHealth
from services.web.session_cache import SessionCache
from services.web.session_middleware import (
    ENDED,
    UNKNOWN,
    SessionMiddleware,
    content_security_policy,
)
from services.web.sign_in_routes import SignInRoutes

LOCAL_MODEL = ModelInfo(
    name="SmolLM2-135M",
    context_tokens=2048,
    reply_tokens=512,
    input_micro=0,
    output_micro=0,
    cached_input_micro=0,
    context_source=LimitSource.TABLE,
    reply_source=LimitSource.TABLE,
)
_logger = logging.getLogger(__name__)
_OPENAI = "https://api.openai.com/v1"
_LOCAL_FIRST_TOKEN_SECONDS = 180.0
_TAB_WAIT_SECONDS = 10.0  # less than the 15 for which a browser waits
_EMBEDDED_SECONDS, _HOSTED_SECONDS = 3.0, 60.0  # between two probes of the database
_EMBEDDED_SWEEP_SECONDS = 9.0  # a hosted one's probe is always the sweep
_LOOK_SECONDS = 3.0  # between two looks for pages that are gone
_GLANCE = httpx.Timeout(4.0, connect=2.0)  # what answers later is as good as away
_TEXTS = 50_000  # whose counts are remembered: at most some 25 MB
_CHECK_SECONDS = 1.0
_ACCOUNT_SECONDS = 5.0  # how long what a person may spend is not asked for again


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What one server process was begun with."""

    settings: Settings
    root_keys: RootKeys = field(repr=False)
    endpoints: Endpoints
    health: ServerHealth


_deployment: Deployment | None = None
_has_accounts = threading.Event()  # once seen, nobody asks again


def begin(url: str) -> tuple[ServerHealth, Stack]:
    """Check what can be checked at once and plan the rest. Raise Misconfigured with what to do."""
    global _deployment
    chosen = settings.read()
    prepared = prepare(
        choose_folders(chosen.data_dir, chosen.key_dir),
        root_keys=chosen.root_keys.get_secret_value() if chosen.root_keys else None,
        with_database=chosen.supabase_url is None,
        with_model=not (chosen.openai_base_url or chosen.openai_api_key),
    )
    health = ServerHealth(str(chosen.url or url), prepared.plan)
    _deployment = Deployment(
        settings=chosen,
        root_keys=prepared.root_keys,
        endpoints=prepared.plan.endpoints,
        health=health,
    )
    return health, Stack(prepared.plan, prepared.lock, _record)


def _record(report: Report) -> None:
    """Record *report*; "running" becomes a failure if a check of the database fails."""
    if isinstance(report, Running):
        report = _failed_check() or report
    _begun().health.record(report)


def _failed_check() -> Failed | None:
    """The failure where answers are cut or stored data lacks its root key; None also while nobody can tell."""
    server = _shared().server
    try:
        server.check_rows()
        _begun().root_keys.refuse_missing(server.root_key_versions())
    except (Misconfigured, RowsCut) as error:
        return Failed(error.public)
    except StoreUnavailable:  # asked again once the database is back
        pass
    return None


def server_health() -> ServerHealth:
    """Start-up progress and health of this server process."""
    return _begun().health


def _begun() -> Deployment:
    if _deployment is None:
        raise RuntimeError("begin() comes first")
    return _deployment


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What all users of this process share; it holds no identity."""

    server: ServerCalls
    session_cache: SessionCache
    live_turns: LiveTurns
    background: BackgroundTasks
    models: Models
    temporary: TemporaryChats = field(default_factory=TemporaryChats)
    counter: KindCounter = field(default_factory=lambda: CachingCounter(RegexCounter(), _TEXTS))
    people: "dict[SessionId, PersonServices]" = field(repr=False)


class PersonServices:
    """The services that pages use for a signed-in user."""

    def __init__(self, session: AppSession, shared: Shared, chosen: Settings) -> None:
        self._session, self._shared, self._settings = session, shared, chosen
        self._rows = FirstPageRows(session)
        self.store = sealed_store(self._rows, session.user_keys)
        self.usage = UsageReports(session)
        self.chat = self._chat_over(
            self.store,
            live_turns=shared.live_turns,
            background=shared.background,
            elsewhere=Elsewhere(self.store.corpus),
        )
        self._read_account = FirstRead(lambda: auth.account(session.client, session.email))
        self._account = CachedRead(self._read_account.get, _ACCOUNT_SECONDS)

    def read_ahead(self) -> None:
        """Begin at once to read all that the first page needs."""
        self._rows.read_ahead()
        self._read_account.begin()

    def _chat_over(
        self,
        store: Store,
        *,
        live_turns: LiveTurns,
        background: BackgroundTasks,
        elsewhere: Elsewhere | None = None,
        reads_facts: bool = True,
        title: Callable[[str], str] = first_words,
        new_id: Callable[[], UUID] = uuid4,
    ) -> Chat:
        return Chat(
            store=store,
            live_turns=live_turns,
            models=self._shared.models,
            counter=self._shared.counter,
            instructions=self._settings.instructions,
            sweep=self._shared.server.sweep,
            first_policy=policy_named(self._settings.policy, self._settings.window_messages),
            window_messages=self._settings.window_messages,
            background=background,
            reads_facts=reads_facts,
            title=title,
            new_id=new_id,
            elsewhere=elsewhere,
        )

    def begin_temporary(
        self,
        *,
        reads_facts: bool,
        is_there: Callable[[], bool],
        in_place_of: TemporaryChat | None = None,
    ) -> TemporaryChat:
        """Begin a chat that lasts as long as the page that *is_there*, and of which only the cost is stored.

        Nothing that is shared holds its text: its turns and its index are its own.
        """
        rows = InMemoryRows(self._rows)
        chat_id = in_place_of.id if in_place_of else ConversationId(uuid4())
        store = replace(
            sealed_store(rows, throwaway_keys(rows.user_id)),
            facts=self.store.facts,
            spaces=self.store.spaces,
            profile=self.store.profile,
        )
        chat = self._chat_over(
            store,
            live_turns=LiveTurns(),
            background=BackgroundTasks(Purpose.SUMMARY),
            reads_facts=reads_facts,
            title=lambda _: TEMPORARY_TITLE,
            new_id=lambda: chat_id,
        )
        begun = TemporaryChat(
            id=chat_id,
            owner=self._session.id,
            store=store,
            rows=rows,
            is_there=is_there,
            _chat=chat,
        )
        self._shared.temporary.add(begun)
        return begun

    @property
    def account(self) -> Account:
        """The person's own account, at most a few seconds old, or as last read while the database is away.

        Raise SignedOut, StoreUnavailable.
        """
        return self._account.get()

    @property
    def is_admin(self) -> bool:
        """Whether they were one when last asked, for menus: no page need wait for it. Raise as `account`."""
        account = self._account.last or self.account
        return account.role is AccountRole.ADMIN


def person_services(session_id: str | None) -> PersonServices | None:
    """The services of the user of an app session; None if it is known to have ended. Raise StoreUnavailable."""
    if session_id == UNKNOWN:
        raise StoreUnavailable
    if session_id in (None, ENDED):
        return None
    shared = _shared()
    session = shared.session_cache.by_id(SessionId(UUID(session_id)))
    return shared.people.get(session.id) if session else None


def has_ended(session_id: str) -> bool:
    """Return True if the app session is known to have ended. Wait a second for a check that is under way."""
    return _shared().session_cache.has_ended(SessionId(UUID(session_id)), _CHECK_SECONDS)


def doubt(session_id: str) -> None:
    """Have the app session checked before it is used again: a call was refused."""
    _shared().session_cache.doubt(SessionId(UUID(session_id)))


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


def routes() -> list[Route]:
    """The sign-in and export routes; they work once the backend is ready."""
    begun = _begun()
    sign_in = SignInRoutes(
        session_cache=lambda: _shared().session_cache,
        attempts=Attempts(
            server=lambda: _shared().server,
            root_keys=begun.root_keys,
            sign_ups_an_hour=begun.settings.sign_ups_an_hour,
        ),
        has_conversation=_has_conversation,
        origin=_origin(),
        lifetime_seconds=begun.settings.session_lifetime_seconds,
    )
    export = export_route(lambda: _shared().session_cache, _exported, _origin())
    return [*sign_in.routes(), export]


def _has_conversation(session: AppSession, conversation_id: ConversationId) -> bool:
    """Return True if a conversation of the session's user has this id. Raise StoreUnavailable."""
    person = person_services(str(session.id))
    return person is not None and bool(person.store.conversations.some([conversation_id]))


def _exported(session: AppSession, conversation_id: ConversationId) -> Exported:
    """A conversation of this person, or a temporary chat of this session, and what its replies cost.

    Raise SignedOut, NotFound, StoreUnavailable.
    """
    held = _shared().temporary.find(session.id, conversation_id)
    services = held or person_services(str(session.id))
    if services is None:
        raise SignedOut
    store = services.store
    thread, turns = store.conversations.thread(conversation_id), store.turns
    thoughts = turns.thoughts(thread.messages, conversation_id)
    return thread, turns.costs(thread.messages), thoughts


def middleware(pages: Collection[str]) -> list[Middleware]:
    """Return the middleware of every request, outermost first. *pages*: the addresses of the app's pages."""
    return [
        Middleware(
            SessionMiddleware,
            session_cache=lambda: (
                _shared().session_cache if _is_built() or server_health().is_started else None
            ),
            origin=_origin(),
            policy=content_security_policy(streamlit_assets.folder() / "index.html"),
            wait_seconds=_TAB_WAIT_SECONDS,
        ),
        Middleware(PageAssets, pages=pages),
    ]


def stop_turns() -> None:
    """Let what is being said be stored before the backend goes."""
    if _is_built():
        shared = _shared()
        shared.temporary.stop(within=0.0)
        shared.live_turns.stop(within=0.8)
        shared.temporary.stop(within=0.2)


def _is_built() -> bool:
    return _build.cache_info().currsize > 0


def _origin() -> Origin:
    chosen = _begun().settings
    url = str(chosen.url).rstrip("/") if chosen.url else None
    return Origin(url, chosen.trusted_proxies)


_building = threading.Lock()


def _shared() -> Shared:
    with _building:  # `cache` alone would build two for two threads
        return _build()


@cache
def _build() -> Shared:
    begun = _begun()
    chosen, at = begun.settings, begun.endpoints
    url = at.supabase_url or str(chosen.supabase_url).rstrip("/")
    key = chosen.supabase_key or SecretStr(at.publishable_key or "")
    # the embedded API is the only one that is spoken to in plain http
    transport = LiteTransport(trust_env=False) if url.startswith("http:") else None
    is_hosted = at.supabase_url is None
    reach = DatabaseHealth(_HOSTED_SECONDS if is_hosted else _EMBEDDED_SECONDS)
    gateway = Gateway.to(url, key, transport, reach)
    proof = ServerProof(begun.root_keys.proof_key())
    server = ServerCalls(gateway.client(), proof)
    sessions = Sessions(
        gateway=gateway,
        server=server,
        root_keys=begun.root_keys,
        proof=proof,
        idle_seconds=chosen.session_idle_seconds,
        lifetime_seconds=chosen.session_lifetime_seconds,
    )
    people: dict[SessionId, PersonServices] = {}
    temporary = TemporaryChats()
    purposes = [Purpose.SUMMARY, Purpose.FACTS, *([Purpose.TITLE] if chosen.titles else [])]
    background = BackgroundTasks(*purposes)

    def leave(session: AppSession) -> None:
        temporary.end_of(session.id)
        if person := people.get(session.id):
            person.chat.leave()

    def add(session: AppSession) -> None:
        people[session.id] = PersonServices(session, shared, chosen)
        people[session.id].read_ahead()

    session_cache = SessionCache(
        sessions,
        on_add=add,
        on_leave=leave,
        on_forget=lambda session: _forget(session, people, temporary, background),
    )
    shared = Shared(
        server=server,
        session_cache=session_cache,
        live_turns=LiveTurns(),
        background=background,
        models=_models(chosen, at),
        temporary=temporary,
        people=people,
    )
    glances = ServerCalls(Gateway.to(url, key, transport, timeout=_GLANCE).client(), proof)
    sweep_seconds = _HOSTED_SECONDS if is_hosted else _EMBEDDED_SWEEP_SECONDS
    _begin_thread("reach", _keep_asking, reach, glances, begun.health, sweep_seconds)
    _begin_thread("temporary", _keep_ending_deserted, temporary)
    return shared


def _forget(
    session: AppSession,
    people: dict[SessionId, PersonServices],
    temporary: TemporaryChats,
    background: BackgroundTasks,
) -> None:
    """*session* has left; with the last of its person goes what is held of them."""
    people.pop(session.id, None)
    temporary.end_of(session.id)
    if not any(each.store.turns.user_id == session.user_id for each in list(people.values())):
        background.forget(session.user_id)


def _models(chosen: Settings, at: Endpoints) -> Models:
    if at.model_url:
        client = connect(at.model_url, at.model_key or "")
        local = OpenAIModel(
            client, LOCAL_MODEL.name, first_token_seconds=_LOCAL_FIRST_TOKEN_SECONDS
        )
        return Models(Offer(LOCAL_MODEL, local))
    url = str(chosen.openai_base_url or _OPENAI)
    key = chosen.openai_api_key.get_secret_value() if chosen.openai_api_key else "none"
    first, *others = chosen.offered_models
    refusals = defaultdict[str, set[LimitRefusal]](set)

    def narrow(name: str, refusal: LimitRefusal) -> None:
        refusals[name].add(replace(refusal, prompt_tokens=None))
        if refused := models.named(name):
            models.learn(narrow_limits(refused.info, refusal))

    model = OpenAIModel(connect(url, key), first, on_refusal=narrow)
    setting = ModelSpec(
        context_tokens=chosen.context_tokens,
        reply_tokens=chosen.reply_tokens,
        input_micro=chosen.input_price_micro,
        output_micro=chosen.output_price_micro,
    )

    def offer(name: str) -> Offer:
        info = known_model(name, base_url=url, setting=setting)
        client = model.named(name, is_reasoning=info.is_reasoning)
        return Offer(info, client, chosen.assistant_prefix)

    def read_list() -> None:
        document = model.list_models()
        for name in chosen.offered_models:
            stated = read_models(document, name)
            info = known_model(name, base_url=url, setting=setting, endpoint=stated)
            for refusal in tuple(refusals[name]):
                info = narrow_limits(info, refusal)
            models.learn(info)

    models = Models(offer(first), tuple(map(offer, others)))
    _begin_thread("model-list", read_list)  # replies need not wait for it
    return models


def _begin_thread(name: str, target: Callable[..., None], *args: object) -> None:
    threading.Thread(target=target, args=args, name=name, daemon=True).start()


def _keep_asking(
    reach: DatabaseHealth, server: ServerCalls, health: ServerHealth, sweep_seconds: float
) -> None:
    nobody, sweep_at = Cookie.new().hash, time.monotonic()

    def ask() -> None:
        nonlocal sweep_at
        # after an outage live turns prolong their leases first
        if not reach.is_away and time.monotonic() >= sweep_at:
            sweep_at = time.monotonic() + sweep_seconds
            try:
                while server.sweep():
                    pass
                return
            except StoreUnavailable as error:
                log_event("sweep.missed")
                if isinstance(error.__cause__, httpx.HTTPError):
                    raise
        server.call("open_session", cookie=nobody)

    def tell(is_away: bool) -> None:
        if not is_away and (failure := _failed_check()):
            health.record(failure)
        health.record_outage(is_away=is_away)

    reach.keep_asking(ask, tell)


def _keep_ending_deserted(temporary: TemporaryChats) -> None:
    while True:
        time.sleep(_LOOK_SECONDS)
        try:
            temporary.end_deserted()
        except AppError:
            log_event("desertion.missed")
        except Exception:  # a bug, seen in the log; the next time is still due
            _logger.exception("desertion.missed")
