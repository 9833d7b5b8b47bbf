"""Routes that export files.

`GET /export/<conversation>.md` or `.json`, `/export/usage.csv?first=…&last=…`, `/export/everything.zip`; for admins
`/export/users.csv`, `/export/models.csv`, `/export/invitations.csv`, `/export/audit.csv`, and `/export/users/usage.csv` or
`/export/users/<user>/usage.csv` with `?first=…&last=…`. A user's exports run one at a time: HEAD asks whether one may begin,
and builds nothing.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, tzinfo
from functools import partial
from itertools import chain
from mimetypes import guess_type
from typing import Protocol
from urllib.parse import quote
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from services import portable
from services.domain import ConversationId, UserId
from services.domain.accounts import AuditEntry, Invitation, UserOrder, UserUsage
from services.domain.models import ModelInfo
from services.domain.usage import DayUsage, LedgerEntry
from services.errors import AppError, ExportRunning, SignedOut
from services.llm import Models
from services.store.port import Store
from services.store.supabase.administration import Administration
from services.store.supabase.model_settings import ModelAdministration
from services.store.supabase.sessions import AppSession
from services.store.supabase.sign_ups import SignUpAdministration
from services.web.full_export import FullExport, ledger_after, read_export
from services.web.origin import Origin
from services.web.session_cache import SessionCache

# beside the threads of other requests: sign-in needs those, and a read for an export may wait for the database
_THREADS = CapacityLimiter(10)


class Person(Protocol):
    """The services of a signed-in user whose data are exported."""

    administration: Administration
    models: ModelAdministration
    sign_ups: SignUpAdministration
    offers: Models

    def begin_export(self, zone: tzinfo) -> FullExport: ...


@dataclass(frozen=True, slots=True)
class ExportRoutes:
    """The routes of all exports: of a conversation as *store_of* has it now, of the ledger, of everything, and of
    what admins see."""

    session_cache: Callable[[], SessionCache]
    store_of: Callable[[AppSession, ConversationId | None], Store]
    person_of: Callable[[AppSession], Person]
    origin: Origin
    _running: set[UserId] = field(default_factory=set[UserId], repr=False)  # whose export is sent

    def routes(self) -> list[Route]:
        return [
            Route(f"/export/{file}", self._endpoint(write, page))
            for file, write, page in (
                ("usage.csv", self._usage, "/usage"),
                ("everything.zip", self._everything, "/data"),
                ("users/usage.csv", self._users_usage, "/admin"),
                ("users/{user_id:uuid}/usage.csv", self._users_usage, "/admin"),
                ("{table}.csv", self._table, "/admin"),
                ("{conversation_id:uuid}.{suffix}", self._conversation, "/?c={conversation_id}"),
            )
        ]

    def _conversation(self, session: AppSession, request: Request) -> Response:
        conversation_id = ConversationId(request.path_params["conversation_id"])
        suffix: str = request.path_params["suffix"]
        if suffix not in ("md", "json"):
            raise HTTPException(404)
        exported = read_export(self.store_of(session, conversation_id), conversation_id)
        if suffix == "json":
            text = portable.to_json(exported)
        else:
            text = portable.to_markdown(exported, _zone(request))
        return _file(text, exported.thread.conversation.title, suffix)

    def _usage(self, session: AppSession, request: Request) -> Response:
        days = first, last = _days(request)
        read = partial(ledger_after, self.store_of(session, None).usage, days)
        return _table_file(portable.pages_to_csv(LedgerEntry, read), f"Usage {first} to {last}")

    def _users_usage(self, session: AppSession, request: Request) -> Response:
        first, last = _days(request)
        administration = self.person_of(session).administration
        usage = administration.usage((first, last), request.path_params.get("user_id"))
        text = portable.values_to_csv(DayUsage, usage.days)
        return _file(text, f"Usage by day {first} to {last}", "csv")

    def _table(self, session: AppSession, request: Request) -> Response:
        name: str = request.path_params["table"]
        if name not in _TABLES:
            raise HTTPException(404)
        return _table_file(_TABLES[name](self.person_of(session)), name.capitalize())

    def _everything(self, session: AppSession, request: Request) -> Response:
        zone = _zone(request)
        name = f"Daybook {datetime.now(zone):%Y-%m-%d}"
        return _file(self.person_of(session).begin_export(zone).parts(), name, "zip")

    def _endpoint(
        self, write: Callable[[AppSession, Request], Response], page: str
    ) -> Callable[[Request], Awaitable[ASGIApp]]:
        """Answer with what *write* returns; after an AppError redirect to *page*."""

        async def answer(request: Request) -> ASGIApp:
            if not self.origin.is_same_origin(request):
                raise HTTPException(404)
            back = RedirectResponse(page.format_map(request.path_params), 303)
            try:
                session = await run_sync(self._session, request, limiter=_THREADS)
            except AppError:
                return back
            if session.user_id in self._running:
                return PlainTextResponse(ExportRunning.public, 429)
            if request.method == "HEAD":
                return Response(status_code=204)

            async def export(scope: Scope, receive: Receive, send: Send) -> None:
                self._running.add(session.user_id)
                try:
                    response = await run_sync(write, session, request, limiter=_THREADS)
                    await response(scope, receive, send)
                except AppError:
                    await back(scope, receive, send)
                finally:
                    self._running.discard(session.user_id)

            return export

        return answer

    def _session(self, request: Request) -> AppSession:
        cookie = self.origin.session_cookie(request)
        session = self.session_cache().find(cookie) if cookie else None
        if session is None:
            raise SignedOut
        return session


def _users(person: Person) -> Iterator[str]:
    skip, total = 0, 1
    while skip < total:
        page = person.administration.list_users("", UserOrder.EMAIL, skip)
        yield portable.values_to_csv(UserUsage, page.users, has_header=not skip)
        skip, total = skip + max(1, len(page.users)), page.total


def _audit(person: Person) -> Iterator[str]:
    """The newest entries first."""
    audit = person.administration.audit
    return portable.pages_to_csv(AuditEntry, lambda last: audit(last.id) if last else audit())


def _invitations(person: Person) -> Iterator[str]:
    yield portable.values_to_csv(Invitation, person.sign_ups.invitations())


@dataclass(frozen=True, slots=True)
class _Model(ModelInfo):
    is_offered: bool = True


def _models(person: Person) -> Iterator[str]:
    person.administration.deployment()  # raises AdminsOnly
    settings = person.models.settings()
    every = [offer.info for offer in person.offers.every()]
    rows = [_Model(**asdict(one), is_offered=settings.of(one.name).is_offered) for one in every]
    yield portable.values_to_csv(_Model, rows)


# tables as CSV files, a page at a time
_TABLES: dict[str, Callable[[Person], Iterator[str]]] = {
    "users": _users,
    "models": _models,
    "invitations": _invitations,
    "audit": _audit,
}


def _days(request: Request) -> tuple[date, date]:
    """The days `first` and `last` of the query. Raise HTTPException."""
    try:
        first, last = (date.fromisoformat(request.query_params[name]) for name in ("first", "last"))
    except (KeyError, ValueError):
        raise HTTPException(404) from None
    return first, last


def _table_file(pages: Iterator[str], title: str) -> Response:
    """The answer that sends a table page by page; a refusal of the first page is raised before it begins."""
    first = next(pages)
    return _file((page.encode() for page in chain([first], pages)), title, "csv")


def _file(content: str | Iterator[bytes], title: str, suffix: str) -> Response:
    """The answer that a browser stores as a file named by *title*."""
    name = portable.file_name(title, f".{suffix}")
    disposition = f"attachment; filename*=utf-8''{quote(name, safe='')}"
    headers = {"Content-Disposition": disposition, "Cache-Control": "no-store"}
    media_type = guess_type(name)[0]
    if isinstance(content, str):
        return Response(content, headers=headers, media_type=media_type)
    return StreamingResponse(_parts_of(content), headers=headers, media_type=media_type)


async def _parts_of(content: Iterator[bytes]) -> AsyncIterator[bytes]:
    while (part := await run_sync(next, content, None, limiter=_THREADS)) is not None:
        yield part


def _zone(request: Request) -> tzinfo:
    """The time zone that the page sent, or UTC."""
    try:
        return ZoneInfo(request.query_params.get("zone", ""))
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: a folder of zones
        return UTC
