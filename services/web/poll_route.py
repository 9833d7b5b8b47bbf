"""The route by which an open tab polls for changes: `GET /poll?c=<conversation>&s=<space>&archive=1`.

A poll runs no Streamlit script and makes one database query; once a minute, the cookie is checked first. The response
contains revisions, which the tab compares with its own (assets/page/news.js).
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from uuid import UUID

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services.domain import ConversationId, SpaceId
from services.domain.revisions import OpenPlace, Revisions
from services.errors import AppError, SignedOut
from services.users import Shared
from services.web.current_session import opened_user
from services.web.origin import Origin

# maximum polls that use threads at the same time, so that sign-ins never wait for polls
_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class PollRoute:
    """The route that returns the revisions of the data that a tab shows, for the session of the request's cookie."""

    shared: Callable[[], Shared]  # raises StoreUnavailable until the backend has started
    origin: Origin
    _limiter: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(_AT_ONCE))

    def routes(self) -> list[Route]:
        return [Route("/poll", self._answer)]

    async def _answer(self, request: Request) -> Response:
        if not self.origin.is_same_origin(request):
            return Response(status_code=404)
        try:
            place = _place(request.query_params)
        except ValueError:
            return Response(status_code=404)
        try:
            found = await run_sync(self._poll, request, place, limiter=self._limiter)
        except SignedOut:
            return Response(status_code=401)
        except AppError:
            return Response(status_code=503)
        values = asdict(found) | {
            "running": sorted(map(str, found.running - {place.conversation_id}))
        }
        return JSONResponse(values, headers={"Cache-Control": "no-store"})

    def _poll(self, request: Request, place: OpenPlace) -> Revisions:
        """Return the newest revisions. Raise SignedOut if the request has no session."""
        with opened_user(self.shared(), self.origin.session_cookie(request)) as user:
            return user.poll(place)


def _place(query: QueryParams) -> OpenPlace:
    """Parse the place that is open in the tab (conversation, space, archive) from *query*.

    Raise ValueError if an id is invalid.
    """
    conversation, space = query.get("c"), query.get("s")
    return OpenPlace(
        conversation_id=ConversationId(UUID(conversation)) if conversation else None,
        space_id=SpaceId(UUID(space)) if space else None,
        is_archive="archive" in query,
    )
