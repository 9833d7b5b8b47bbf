"""The answer that begins an app session in a browser: its cookies, and the end of what the browser had before."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from services import errors
from services.domain import ConversationId
from services.events import log_event
from services.store.accounts import AppSession, Cookie
from services.users import Shared
from services.web.attempts import DEVICE_SECONDS, Attempts
from services.web.origin import Origin


@dataclass(frozen=True, slots=True)
class SessionStart:
    """Gives a session that has just begun to the browser that signed in."""

    shared: Callable[[], Shared]  # raises StoreUnavailable until the backend has started
    attempts: Attempts
    origin: Origin
    lifetime_seconds: int

    async def answer(
        self, request: Request, cookie: Cookie, session: AppSession, target: str
    ) -> Response:
        """Return the redirect to *target*, or to the front page if *target* is another user's conversation."""
        cache = self.shared().session_cache
        await run_sync(cache.add, session)
        log_event("session.started", user=session.user_id, session=session.id)
        # the browser may have the cookie of another session or account
        if previous := self.origin.session_cookie(request):
            target = await run_sync(self._visible_target, session, target)
            with suppress(errors.StoreUnavailable):  # the old session stays then
                await run_sync(cache.leave, previous)
        answer = RedirectResponse(target, 303)
        self.origin.set_cookie(answer, request, "sid", str(cookie), self.lifetime_seconds)
        device = self.attempts.device_cookie(session.user_id)
        self.origin.set_cookie(answer, request, "device", device, DEVICE_SECONDS)
        if self.origin.step_cookie(request):  # who knew it before the session must not go on in it
            self.origin.set_step_cookie(answer, request, None)
        return answer

    def _visible_target(self, session: AppSession, target: str) -> str:
        try:
            conversation_id = UUID(dict(parse_qsl(urlsplit(target).query)).get("c", ""))
        except ValueError:
            return target
        with suppress(errors.AppError):  # for example an unknown session, which the page reports
            wanted = ConversationId(conversation_id)
            if not self.shared().store_of(session, wanted).conversations.some([wanted]):
                return "/"
        return target
