"""Routes that export files.

`GET /export/<conversation>.md` or `.json`, `/export/usage.csv?first=…&last=…`, `/export/everything.zip`; for admins
`/export/users.csv`, `/export/audit.csv`, and `/export/users/usage.csv` or `/export/users/<user>/usage.csv` with `?first=…&last=…`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, tzinfo
from itertools import chain
from urllib.parse import quote
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from services import portable
from services.domain import ConversationId
from services.domain.accounts import AuditEntry, PeopleOrder, UserUsage
from services.domain.usage import DayUsage
from services.errors import AppError, SignedOut
from services.store.port import Store
from services.store.supabase.administration import Administration
from services.store.supabase.sessions import AppSession
from services.web.full_export import FullExport, read_export
from services.web.origin import Origin
from services.web.session_cache import SessionCache

_MEDIA_TYPES = {
    "csv": "text/csv",
    "md": "text/markdown",
    "json": "application/json",
    "zip": "application/zip",
}


@dataclass(frozen=True, slots=True)
class ExportRoutes:
    """The routes of all exports: of a conversation as *store_of* has it now, of the ledger, of everything, and of
    what admins see."""

    session_cache: Callable[[], SessionCache]
    store_of: Callable[[AppSession, ConversationId | None], Store]
    begin_export: Callable[[AppSession, tzinfo], FullExport]
    administration_of: Callable[[AppSession], Administration]
    origin: Origin

    def routes(self) -> list[Route]:
        return [
            Route("/export/usage.csv", self._usage),
            Route("/export/everything.zip", self._everything),
            Route("/export/users.csv", self._users),
            Route("/export/audit.csv", self._audit),
            Route("/export/users/usage.csv", self._users_usage),
            Route("/export/users/{user_id:uuid}/usage.csv", self._users_usage),
            Route("/export/{conversation_id:uuid}.{suffix}", self._conversation),
        ]

    async def _conversation(self, request: Request) -> Response:
        conversation_id = ConversationId(request.path_params["conversation_id"])
        suffix: str = request.path_params["suffix"]
        if suffix not in ("md", "json"):
            return PlainTextResponse("Not Found", 404)

        def write(session: AppSession) -> Response:
            exported = read_export(self.store_of(session, conversation_id), conversation_id)
            if suffix == "json":
                text = portable.to_json(exported)
            else:
                parts = exported.thread, exported.costs, exported.thoughts
                text = portable.to_markdown(*parts, _zone(request))
            return _file(text, exported.thread.conversation.title, suffix)

        return await self._answer(request, write, f"/?c={conversation_id}")

    async def _usage(self, request: Request) -> Response:
        days = _days(request)
        if days is None:
            return PlainTextResponse("Not Found", 404)
        first, last = days

        def write(session: AppSession) -> Response:
            entries = self.store_of(session, None).usage.ledger(first, last)
            return _file(portable.ledger_to_csv(entries), f"Usage {first} to {last}", "csv")

        return await self._answer(request, write, "/usage")

    async def _users(self, request: Request) -> Response:
        return await self._pages(request, _pages_of_users, "Users")

    async def _audit(self, request: Request) -> Response:
        return await self._pages(request, _pages_of_audit, "Audit")

    async def _pages(
        self, request: Request, read: Callable[[Administration], Iterator[bytes]], title: str
    ) -> Response:
        def write(session: AppSession) -> Response:
            pages = read(self.administration_of(session))
            first = next(pages)  # a refusal comes before the answer begins
            return _file(chain([first], pages), title, "csv")

        return await self._answer(request, write, "/admin")

    async def _users_usage(self, request: Request) -> Response:
        days = _days(request)
        if days is None:
            return PlainTextResponse("Not Found", 404)
        first, last = days

        def write(session: AppSession) -> Response:
            usage = self.administration_of(session).usage(days, request.path_params.get("user_id"))
            text = portable.values_to_csv(DayUsage, usage.days)
            return _file(text, f"Usage by day {first} to {last}", "csv")

        return await self._answer(request, write, "/admin")

    async def _everything(self, request: Request) -> Response:
        def begin(session: AppSession) -> Response:
            zone = _zone(request)
            name = f"Daybook {datetime.now(zone):%Y-%m-%d}"
            return _file(self.begin_export(session, zone).parts(), name, "zip")

        return await self._answer(request, begin, "/data")

    async def _answer(
        self, request: Request, write: Callable[[AppSession], Response], page: str
    ) -> Response:
        """Answer with what *write* returns; after an AppError redirect to *page*, which says why."""
        if not self.origin.is_same_origin(request):
            return PlainTextResponse("Not Found", 404)
        cookie = self.origin.session_cookie(request)

        def written() -> Response:
            session = self.session_cache().find(cookie) if cookie else None
            if session is None:
                raise SignedOut
            return write(session)

        try:
            return await run_sync(written)
        except AppError:
            return RedirectResponse(page, 303)


def _pages_of_users(administration: Administration) -> Iterator[bytes]:
    """The table of users as a CSV file, a page of them at a time."""
    skip, total = 0, 1
    while skip < total:
        page = administration.people("", PeopleOrder.EMAIL, is_descending=False, skip=skip)
        yield portable.values_to_csv(UserUsage, page.people, has_header=not skip).encode()
        skip, total = skip + max(1, len(page.people)), page.total


def _pages_of_audit(administration: Administration) -> Iterator[bytes]:
    """The audit as a CSV file, a page at a time, the newest entries first."""
    entries = administration.audit()
    yield portable.values_to_csv(AuditEntry, entries).encode()
    while entries:
        entries = administration.audit(entries[-1].id)
        yield portable.values_to_csv(AuditEntry, entries, has_header=False).encode()


def _days(request: Request) -> tuple[date, date] | None:
    """The days `first` and `last` of the query."""
    try:
        first, last = (date.fromisoformat(request.query_params[name]) for name in ("first", "last"))
    except (KeyError, ValueError):
        return None
    return first, last


def _file(content: str | Iterator[bytes], title: str, suffix: str) -> Response:
    """The answer that a browser stores as a file named by *title*."""
    name = quote(portable.file_name(title, f".{suffix}"), safe="")
    headers = {
        "Content-Disposition": f"attachment; filename*=utf-8''{name}",
        "Cache-Control": "no-store",
    }
    kind = Response if isinstance(content, str) else StreamingResponse
    return kind(content, headers=headers, media_type=_MEDIA_TYPES[suffix])


def _zone(request: Request) -> tzinfo:
    """The time zone that the page sent, or UTC."""
    try:
        return ZoneInfo(request.query_params.get("zone", ""))
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: a folder of zones
        return UTC
