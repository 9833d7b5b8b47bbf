"""The routes that set and clear the cookie: `/account`, `/session`, `/session/end`.

Native forms post here; the answer is always a redirect, with a reason in the query where it did
not work. Nothing of what was entered is repeated in an address or a log.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from urllib.parse import parse_qsl, urlencode, urlsplit
from uuid import UUID

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from services.domain import ConversationId
from services.errors import AppError, StoreUnavailable, TooManyAttempts
from services.store.conversations import Conversations
from services.store.supabase.auth import REASONS, WeakPassword
from services.store.supabase.sessions import Cookie
from services.web.attempts import DEVICE_SECONDS, Attempts
from services.web.origin import Origin, session_cookie
from services.web.session_cache import SessionCache

_REASONS = {error: reason for reason, error in REASONS.items()}


@dataclass(frozen=True, slots=True)
class SignInRoutes:
    """Signing up, in and out."""

    session_cache: Callable[[], SessionCache]  # there once the backend is
    attempts: Attempts
    origin: Origin
    lifetime_seconds: int

    def routes(self) -> list[Route]:
        return [
            Route("/account", partial(self._enter, is_new=True), methods=["POST"]),
            Route("/session", partial(self._enter, is_new=False), methods=["POST"]),
            Route("/session/end", self._end, methods=["POST"]),
        ]

    async def _enter(self, request: Request, *, is_new: bool) -> Response:
        if not self.origin.is_same_origin(request):
            return PlainTextResponse("This form was sent from another site.", 403)
        async with request.form(max_files=0, max_fields=10) as form:
            email, password, goal = (
                str(form.get(name, "")) for name in ("email", "password", "next")
            )
        email, goal = email.strip(), _same_site(goal)
        address = self.origin.client_address(request)
        device = request.cookies.get(self.origin.cookie_name(request, "device"), "")
        attempt = (
            self.attempts.sign_up(email, address)
            if is_new
            else self.attempts.sign_in(email, address, device)
        )
        try:
            async with self.attempts.reserved(attempt):
                session_cache = self.session_cache()
                enter = session_cache.sign_up if is_new else session_cache.sign_in
                cookie = await run_sync(enter, email, password)
                if before := session_cookie(request, self.origin):  # of another account, perhaps
                    goal = await run_sync(self._visible_target, cookie, goal)
                    with suppress(StoreUnavailable):  # the old session may outlive its tab
                        await run_sync(session_cache.leave, before)
        except AppError as error:
            return RedirectResponse(_with_reason(goal, error), 303)
        answer = RedirectResponse(goal, 303)
        self._set(answer, request, "sid", str(cookie), self.lifetime_seconds)
        self._set(answer, request, "device", self.attempts.device_cookie(email), DEVICE_SECONDS)
        return answer

    async def _end(self, request: Request) -> Response:
        if not self.origin.is_same_origin(request):
            return PlainTextResponse("This form was sent from another site.", 403)
        try:
            if cookie := session_cookie(request, self.origin):
                await run_sync(lambda: self.session_cache().leave(cookie))
        except StoreUnavailable as error:  # still signed in, and the cookie may try again
            return RedirectResponse(_with_reason("/", error), 303)
        answer = RedirectResponse("/", 303)
        self._set(answer, request, "sid", "", 0)
        return answer

    def _visible_target(self, cookie: Cookie, goal: str) -> str:
        """*goal*, or the front page if *goal* is another user's conversation."""
        try:
            asked = UUID(dict(parse_qsl(urlsplit(goal).query)).get("c", ""))
        except ValueError:
            return goal
        with suppress(AppError):  # nobody can tell: the page will say
            session = self.session_cache().find(cookie)
            if session and not Conversations(session).has(ConversationId(asked)):
                return "/"
        return goal

    def _set(self, answer: Response, request: Request, name: str, value: str, seconds: int) -> None:
        name = self.origin.cookie_name(request, name)
        answer.set_cookie(
            name,
            value,
            max_age=seconds,
            path="/",
            secure=name.startswith("__Host-"),
            httponly=True,
            samesite="lax",
        )


def _same_site(goal: str) -> str:
    """A path on this site, or the front page."""
    is_path = goal.startswith("/") and not goal.startswith(("//", "/\\"))
    return goal if is_path and goal.isprintable() and len(goal) < 2000 else "/"


def _with_reason(goal: str, error: AppError) -> str:
    parts = urlsplit(goal)
    query = [(k, v) for k, v in parse_qsl(parts.query) if k not in ("reason", "wait", "why")]
    query.append(("reason", _REASONS.get(type(error), "unavailable")))
    if isinstance(error, TooManyAttempts):
        query.append(("wait", str(error.retry_after)))
    if isinstance(error, WeakPassword) and error.reasons:
        query.append(("why", ",".join(error.reasons)))
    return parts._replace(query=urlencode(query)).geturl()
