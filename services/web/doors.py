"""The routes that set and clear the cookie: `/account`, `/session`, `/session/end`.

Native forms post here; the answer is always a redirect, with a reason in the query where it did
not work. Nothing of what was entered is repeated in an address or a log.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from urllib.parse import parse_qsl, urlencode, urlsplit
from uuid import UUID

from anyio.to_thread import run_sync
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from services.domain import ConversationId
from services.errors import AppError, StoreUnavailable, TooManyAttempts
from services.store.conversations import Conversations
from services.store.supabase.auth import REASONS, WeakPassword
from services.store.supabase.sessions import Cookie
from services.web.attempts import DEVICE_SECONDS, Attempts
from services.web.visitors import Visitors

_REASONS = {error: reason for reason, error in REASONS.items()}


@dataclass(frozen=True, slots=True)
class Origin:
    """Where people reach the app, which the app cannot see from behind a proxy."""

    url: str | None  # DAYBOOK_URL, without a path
    trusted_proxies: int

    @property
    def is_https(self) -> bool:
        return self.url is not None and self.url.startswith("https:")

    @property
    def way_there(self) -> str:
        """What a page is told that is not ours by its address."""
        if self.url:
            return f"Daybook is at {self.url}. Open it there."
        return "Daybook is not set up for this address. An admin must set DAYBOOK_URL."

    def is_ours(self, connection: HTTPConnection) -> bool:
        """Whether a page of ours sent this request or opens this websocket.

        A browser names the page's origin with every websocket and every POST. A websocket that names none is refused,
        another request only where its Sec-Fetch-Site says that it came from elsewhere.
        """
        headers, scheme = connection.headers, connection.scope["scheme"]
        host, origin = headers.get("host", ""), headers.get("origin")
        if self.url is None and not _is_nobodys(host):
            return False
        if scheme in ("ws", "wss"):
            scheme = scheme.replace("ws", "http")
        elif headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            return False
        elif origin is None:
            return True
        return origin == (self.url or f"{scheme}://{host}")

    def address_of(self, request: HTTPConnection) -> str:
        """The client's address, as the outermost trusted proxy saw it."""
        # a proxy may add a line of its own under the one that the client sent
        forwarded = ",".join(request.headers.getlist("x-forwarded-for"))
        hops = [hop.strip() for hop in forwarded.split(",")]
        if self.trusted_proxies and len(hops) >= self.trusted_proxies and hops[0]:
            return hops[-self.trusted_proxies]
        return request.client.host if request.client else ""

    def cookie_name(self, connection: HTTPConnection, name: str = "sid") -> str:
        """`__Host-` and *name*; on plain http Safari refuses a Secure cookie, even from this machine."""
        agent = connection.headers.get("user-agent", "")
        is_safari = "Safari/" in agent and "Chrome/" not in agent and "Chromium/" not in agent
        return name if is_safari and not self.is_https else f"__Host-{name}"


def _is_nobodys(host: str) -> bool:
    """Whether no name server decides where *host* leads: else a stranger's name may lead to us."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        if name != "localhost" and not name.endswith(".localhost"):
            ip_address(name)
    except ValueError:
        return False
    return True


def cookie_of(connection: HTTPConnection, origin: Origin) -> Cookie | None:
    """The session cookie that came along, if there is one."""
    text = connection.cookies.get(origin.cookie_name(connection))
    return Cookie.parse(text) if text else None


@dataclass(frozen=True, slots=True)
class Doors:
    """Signing up, in and out."""

    visitors: Callable[[], Visitors]  # there once the backend is
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
        if not self.origin.is_ours(request):
            return PlainTextResponse("This form was sent from another site.", 403)
        async with request.form(max_files=0, max_fields=10) as form:
            email, password, goal = (
                str(form.get(name, "")) for name in ("email", "password", "next")
            )
        email, goal = email.strip(), _same_site(goal)
        address = self.origin.address_of(request)
        device = request.cookies.get(self.origin.cookie_name(request, "device"), "")
        attempt = (
            self.attempts.sign_up(email, address)
            if is_new
            else self.attempts.sign_in(email, address, device)
        )
        try:
            async with self.attempts.reserved(attempt):
                visitors = self.visitors()
                enter = visitors.sign_up if is_new else visitors.sign_in
                cookie = await run_sync(enter, email, password)
                if before := cookie_of(request, self.origin):  # of another account, perhaps
                    goal = await run_sync(self._their_own, cookie, goal)
                    with suppress(StoreUnavailable):  # the old session may outlive its tab
                        await run_sync(visitors.leave, before)
        except AppError as error:
            return RedirectResponse(_with_reason(goal, error), 303)
        answer = RedirectResponse(goal, 303)
        self._set(answer, request, "sid", str(cookie), self.lifetime_seconds)
        self._set(answer, request, "device", self.attempts.device_cookie(email), DEVICE_SECONDS)
        return answer

    async def _end(self, request: Request) -> Response:
        if not self.origin.is_ours(request):
            return PlainTextResponse("This form was sent from another site.", 403)
        try:
            if cookie := cookie_of(request, self.origin):
                await run_sync(lambda: self.visitors().leave(cookie))
        except StoreUnavailable as error:  # still signed in, and the cookie may try again
            return RedirectResponse(_with_reason("/", error), 303)
        answer = RedirectResponse("/", 303)
        self._set(answer, request, "sid", "", 0)
        return answer

    def _their_own(self, cookie: Cookie, goal: str) -> str:
        """*goal*, or the front page where it is a conversation of somebody else."""
        try:
            asked = UUID(dict(parse_qsl(urlsplit(goal).query)).get("c", ""))
        except ValueError:
            return goal
        with suppress(AppError):  # nobody can tell: the page will say
            session = self.visitors().find(cookie)
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
