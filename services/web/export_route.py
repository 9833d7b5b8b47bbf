"""Routes that export files: `GET /export/<conversation>.md` or `.json`, and `/export/usage.csv?first=…&last=…`."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, tzinfo
from urllib.parse import quote
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from services import portable
from services.domain import ConversationId
from services.errors import AppError, SignedOut
from services.store.port import Store
from services.store.supabase.sessions import AppSession
from services.web.origin import Origin
from services.web.session_cache import SessionCache

_MEDIA_TYPES = {"csv": "text/csv", "md": "text/markdown", "json": "application/json"}


@dataclass(frozen=True, slots=True)
class ExportRoutes:
    """The routes of all exports: of a conversation as *store_of* has it now, and of the ledger, for their user."""

    session_cache: Callable[[], SessionCache]
    store_of: Callable[[AppSession, ConversationId | None], Store]
    origin: Origin

    def routes(self) -> list[Route]:
        return [
            Route("/export/usage.csv", self._usage),
            Route("/export/{conversation_id:uuid}.{suffix}", self._conversation),
        ]

    async def _conversation(self, request: Request) -> Response:
        conversation_id = ConversationId(request.path_params["conversation_id"])
        suffix: str = request.path_params["suffix"]
        if suffix not in ("md", "json"):
            return PlainTextResponse("Not Found", 404)

        def write(store: Store) -> tuple[str, str]:
            thread = store.conversations.thread(conversation_id)
            thoughts = store.turns.thoughts(thread.messages, conversation_id)
            name = thread.conversation.title
            if suffix == "json":
                return name, portable.to_json(thread, thoughts)
            zone = _zone(request.query_params.get("zone", ""))
            costs = store.turns.costs(thread.messages, thread.conversation.id)
            return name, portable.to_markdown(thread, costs, thoughts, zone)

        return await self._answer(request, conversation_id, suffix, write, f"/?c={conversation_id}")

    async def _usage(self, request: Request) -> Response:
        try:
            days = [date.fromisoformat(request.query_params[name]) for name in ("first", "last")]
        except (KeyError, ValueError):
            return PlainTextResponse("Not Found", 404)
        first, last = days

        def write(store: Store) -> tuple[str, str]:
            entries = store.usage.ledger(first, last)
            return f"Usage {first} to {last}", portable.ledger_to_csv(entries)

        return await self._answer(request, None, "csv", write, "/usage")

    async def _answer(
        self,
        request: Request,
        conversation_id: ConversationId | None,
        suffix: str,
        write: Callable[[Store], tuple[str, str]],
        page: str,
    ) -> Response:
        """Answer with the title and the text that *write* returns; after an AppError redirect to *page*, which says why."""
        if not self.origin.is_same_origin(request):
            return PlainTextResponse("Not Found", 404)
        cookie = self.origin.session_cookie(request)

        def written() -> tuple[str, str]:
            session = self.session_cache().find(cookie) if cookie else None
            if session is None:
                raise SignedOut
            return write(self.store_of(session, conversation_id))

        try:
            title, text = await run_sync(written)
        except AppError:
            return RedirectResponse(page, 303)
        name = quote(portable.file_name(title, f".{suffix}"), safe="")
        headers = {
            "Content-Disposition": f"attachment; filename*=utf-8''{name}",
            "Cache-Control": "no-store",
        }
        return Response(text, headers=headers, media_type=_MEDIA_TYPES[suffix])


def _zone(name: str) -> tzinfo:
    """The time zone *name* that the page sent, or UTC."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: a folder of zones
        return UTC
