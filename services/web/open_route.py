"""The route `/open/<secret>`, through which the only user of a deployment without sign-in opens the app."""

import hmac
from collections.abc import Callable
from dataclasses import dataclass, field

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from services.errors import AppError, SignedOut
from services.events import log_event
from services.store.accounts import AppSession, Cookie
from services.users import Shared
from services.web.origin import Origin

_DELETED = "This account was deleted. Restart Daybook to begin a new one."


@dataclass(frozen=True, slots=True)
class OpenRoute:
    """Begins an app session for a browser that sends the secret of this process, and redirects to a URL without the secret."""

    secret: str = field(repr=False)
    opening: str  # says where the user finds the URL with the secret
    shared: Callable[[], Shared]  # raises StoreUnavailable until the store has started
    enter: Callable[[], tuple[Cookie, AppSession]]  # raises AppError
    origin: Origin
    lifetime_seconds: int

    def routes(self) -> list[Route]:
        return [Route("/open/{secret}", self._open)]

    async def _open(self, request: Request) -> Response:
        given = request.path_params["secret"].encode()
        if not self.origin.is_same_origin(request) or not hmac.compare_digest(
            given, self.secret.encode()
        ):
            return PlainTextResponse(
                f"This address is not valid, or no longer. Open {self.opening}.", 403
            )
        try:
            cache, cookie = self.shared().session_cache, self.origin.session_cookie(request)
            if cookie and await run_sync(cache.find, cookie):
                return RedirectResponse("/", 303)  # the browser already has a session
            cookie, session = await run_sync(self.enter)
            await run_sync(cache.add, cookie, session)
        except SignedOut:
            return PlainTextResponse(_DELETED, 503)
        except AppError as error:
            return PlainTextResponse(error.public, 503)
        log_event("session.started", user=session.user_id, session=session.id)
        answer = RedirectResponse("/", 303)
        self.origin.set_cookie(answer, request, "sid", str(cookie), self.lifetime_seconds)
        return answer
