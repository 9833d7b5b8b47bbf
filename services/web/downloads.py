"""Responses for downloads (a text, a table sent page by page, or a file in parts), and the query parameters of the requests."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, date, tzinfo
from itertools import chain
from mimetypes import guess_type
from urllib.parse import quote
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from services import portable
from services.errors import AppError
from services.events import log_event

# limits the threads of exports separately: exports may wait long for the database, and must not take the threads
# that sign-ins need
THREADS = CapacityLimiter(10)


def days_of(request: Request) -> tuple[date, date]:
    """Return the dates `first` and `last` of the query. Raise HTTPException (404) if one is missing or invalid."""
    try:
        first, last = (date.fromisoformat(request.query_params[name]) for name in ("first", "last"))
    except (KeyError, ValueError):
        raise HTTPException(404) from None
    return first, last


def table_file(pages: Iterator[str], title: str) -> Response:
    """Return a response that sends a table page by page.

    Read the first page before the response begins, so that an AppError from it is raised here.
    """
    first = next(pages)
    return file((page.encode() for page in chain([first], pages)), title, "csv")


def file(content: str | Iterator[bytes], title: str, suffix: str) -> Response:
    """Return a response that the browser saves as a file named after *title*."""
    name = portable.file_name(title, f".{suffix}")
    disposition = f"attachment; filename*=utf-8''{quote(name, safe='')}"
    headers = {"Content-Disposition": disposition, "Cache-Control": "no-store"}
    media_type = guess_type(name)[0]
    if isinstance(content, str):
        return Response(content, headers=headers, media_type=media_type)
    return StreamingResponse(_parts_of(content), headers=headers, media_type=media_type)


async def _parts_of(content: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the parts of *content*. After an AppError, raise ConnectionAbortedError, which makes the download fail."""
    try:
        while (part := await run_sync(next, content, None, limiter=THREADS)) is not None:
            yield part
    except AppError as error:
        log_event("export.cut", reason=type(error))
        # `from None`, because the server logs an error with all its causes
        raise ConnectionAbortedError from None


def zone_of(request: Request) -> tzinfo:
    """Return the time zone that the query parameter `zone` names, or UTC."""
    try:
        return ZoneInfo(request.query_params.get("zone", ""))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        # OSError is raised if the name denotes a folder of time zones
        return UTC
