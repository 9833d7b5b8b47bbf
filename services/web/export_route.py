"""The route that exports a conversation as a file: `GET /export/<conversation>.md` or `.json`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, tzinfo
from urllib.parse import quote
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from services import portable
from services.domain import ConversationId, MessageId, Thoughts, Thread, TurnCost, TurnId
from services.errors import AppError, SignedOut
from services.store.supabase.sessions import AppSession, Cookie
from services.web.origin import Origin, session_cookie
from services.web.session_cache import SessionCache

Exported = tuple[Thread, Mapping[TurnId, TurnCost], Mapping[MessageId, Thoughts]]

_FORMATS = {"md": "text/markdown", "json": "application/json"}


@dataclass(frozen=True, slots=True)
class ExportRoute:
    """Conversations as files, each for the app session that may read it, as it is stored now."""

    session_cache: Callable[[], SessionCache]
    find: Callable[[AppSession, ConversationId], Exported]
    origin: Origin

    def routes(self) -> list[Route]:
        return [Route("/export/{conversation_id:uuid}.{suffix}", self._export)]

    async def _export(self, request: Request) -> Response:
        conversation_id = ConversationId(request.path_params["conversation_id"])
        suffix: str = request.path_params["suffix"]
        if suffix not in _FORMATS or not self.origin.is_same_origin(request):
            return PlainTextResponse("Not Found", 404)
        cookie = session_cookie(request, self.origin)
        try:
            zone = _zone(request.query_params.get("zone", ""))
            name, text = await run_sync(self._write, cookie, conversation_id, suffix, zone)
        except AppError:
            return RedirectResponse(f"/?c={conversation_id}", 303)  # the page says why
        return Response(
            text,
            media_type=_FORMATS[suffix],
            headers={
                "Content-Disposition": f"attachment; filename*=utf-8''{quote(name, safe='')}",
                "Cache-Control": "no-store",
            },
        )

    def _write(
        self, cookie: Cookie | None, conversation_id: ConversationId, suffix: str, zone: tzinfo
    ) -> tuple[str, str]:
        session = self.session_cache().find(cookie) if cookie else None
        if session is None:
            raise SignedOut
        thread, costs, thoughts = self.find(session, conversation_id)
        if suffix == "md":
            text = portable.to_markdown(thread, costs, thoughts, zone)
        else:
            text = portable.to_json(thread, thoughts)
        return portable.file_name(thread.conversation.title, f".{suffix}"), text


def _zone(name: str) -> tzinfo:
    """The time zone that the page named, or UTC."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # a folder of zones is an OSError
        return UTC
