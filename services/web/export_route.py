"""Routes that export files.

`GET /export/<conversation>.md` or `.json`, `/export/usage.csv?first=…&last=…`, `/export/everything.zip`; for admins
`/export/users.csv`, `/export/models.csv`, `/export/invitations.csv`, `/export/audit.csv`, and `/export/users/usage.csv` or
`/export/users/<user>/usage.csv` with `?first=…&last=…`. `?m=…` names a message: the Markdown contains the branch with
this message. A user's exports run one at a time; a HEAD request asks whether an export may begin, without building it.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from uuid import UUID

from anyio.to_thread import run_sync
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from services import portable
from services.domain import ConversationId, MessageId, UserId
from services.domain.usage import DayUsage, LedgerEntry
from services.errors import AppError, ExportRunning, SignedOut
from services.store.accounts import AppSession
from services.users import Shared
from services.users.full_export import ledger_after, read_export
from services.web.admin_tables import TABLES
from services.web.downloads import THREADS, days_of, file, table_file, zone_of
from services.web.origin import Origin


@dataclass(frozen=True, slots=True)
class ExportRoutes:
    """The routes of all exports: a conversation, the ledger, all data of a user, and the admins' tables."""

    shared: Callable[[], Shared]  # raises StoreUnavailable until the backend has started
    origin: Origin
    # users whose export is being sent
    _running: set[UserId] = field(default_factory=set[UserId], repr=False)

    def routes(self) -> list[Route]:
        return [
            Route(f"/export/{path}", self._endpoint(write, page))
            for path, write, page in (
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
        exported = read_export(self.shared().store_of(session, conversation_id), conversation_id)
        if suffix == "json":
            text = portable.to_json(exported)
        else:
            with suppress(ValueError):  # no valid `m`: export the branch with the newest message
                shown = MessageId(UUID(request.query_params.get("m", "")))
                exported = replace(exported, thread=exported.thread.through(shown))
            text = portable.to_markdown(exported, zone_of(request))
        return file(text, exported.thread.conversation.title, suffix)

    def _usage(self, session: AppSession, request: Request) -> Response:
        days = first, last = days_of(request)
        read = partial(ledger_after, self.shared().store_of(session, None).usage, days)
        return table_file(portable.pages_to_csv(LedgerEntry, read), f"Usage {first} to {last}")

    def _users_usage(self, session: AppSession, request: Request) -> Response:
        first, last = days_of(request)
        administration = self.shared().user_of(session).administration
        usage = administration.usage((first, last), request.path_params.get("user_id"))
        text = portable.values_to_csv(DayUsage, usage.days)
        return file(text, f"Usage by day {first} to {last}", "csv")

    def _table(self, session: AppSession, request: Request) -> Response:
        name: str = request.path_params["table"]
        if name not in TABLES:
            raise HTTPException(404)
        return table_file(TABLES[name](self.shared().user_of(session)), name.capitalize())

    def _everything(self, session: AppSession, request: Request) -> Response:
        zone = zone_of(request)
        name = f"Daybook {datetime.now(zone):%Y-%m-%d}"
        return file(self.shared().user_of(session).begin_export(zone).parts(), name, "zip")

    def _endpoint(
        self, write: Callable[[AppSession, Request], Response], page: str
    ) -> Callable[[Request], Awaitable[ASGIApp]]:
        """Return a handler that sends the result of *write*, or redirects to *page* after an AppError."""

        async def answer(request: Request) -> ASGIApp:
            if not self.origin.is_same_origin(request):
                raise HTTPException(404)
            back = RedirectResponse(page.format_map(request.path_params), 303)
            try:
                session = await run_sync(self._session, request, limiter=THREADS)
            except AppError:
                return back
            if session.user_id in self._running:
                return PlainTextResponse(ExportRunning.public, 429)
            if request.method == "HEAD":
                return Response(status_code=204)

            async def export(scope: Scope, receive: Receive, send: Send) -> None:
                self._running.add(session.user_id)
                try:
                    response = await run_sync(write, session, request, limiter=THREADS)
                    await response(scope, receive, send)
                except AppError:
                    await back(scope, receive, send)
                finally:
                    self._running.discard(session.user_id)

            return export

        return answer

    def _session(self, request: Request) -> AppSession:
        cookie = self.origin.session_cookie(request)
        session = self.shared().session_cache.find(cookie) if cookie else None
        if session is None:
            raise SignedOut
        return session
