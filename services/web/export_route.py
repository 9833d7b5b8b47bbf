"""The route that exports a conversation as a file: `GET /export/<conversation>.md` or `.json`."""

from collections.abc import Callable
from datetime import UTC, tzinfo
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

_MEDIA_TYPES = {"md": "text/markdown", "json": "application/json"}


def export_route(
    session_cache: Callable[[], SessionCache],
    store_of: Callable[[AppSession, ConversationId], Store],
    origin: Origin,
) -> Route:
    """The route of all exports: a conversation as *store_of* has it now, for the app session that may read it."""

    async def export(request: Request) -> Response:
        conversation_id = ConversationId(request.path_params["conversation_id"])
        suffix: str = request.path_params["suffix"]
        if suffix not in _MEDIA_TYPES or not origin.is_same_origin(request):
            return PlainTextResponse("Not Found", 404)
        cookie = origin.session_cookie(request)

        def write() -> tuple[str, str]:
            session = session_cache().find(cookie) if cookie else None
            if session is None:
                raise SignedOut
            store = store_of(session, conversation_id)
            thread = store.conversations.thread(conversation_id)
            thoughts = store.turns.thoughts(thread.messages, conversation_id)
            name = portable.file_name(thread.conversation.title, f".{suffix}")
            if suffix == "json":
                return name, portable.to_json(thread, thoughts)
            zone = _zone(request.query_params.get("zone", ""))
            costs = store.turns.costs(thread.messages, thread.conversation.id)
            return name, portable.to_markdown(thread, costs, thoughts, zone)

        try:
            name, text = await run_sync(write)
        except AppError:
            return RedirectResponse(f"/?c={conversation_id}", 303)  # the page says why
        disposition = f"attachment; filename*=utf-8''{quote(name, safe='')}"
        headers = {"Content-Disposition": disposition, "Cache-Control": "no-store"}
        return Response(text, headers=headers, media_type=_MEDIA_TYPES[suffix])

    return Route("/export/{conversation_id:uuid}.{suffix}", export)


def _zone(name: str) -> tzinfo:
    """The time zone *name* that the page sent, or UTC."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: a folder of zones
        return UTC
