"""The middleware in front of everything: who is asking, and what a browser may do with an answer."""

import base64
import hashlib
import re
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
from anyio.to_thread import run_sync
from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from services.errors import StoreUnavailable
from services.store.supabase.sessions import AppSession
from services.web.origin import Origin, session_cookie
from services.web.session_cache import SessionCache

# .streamlit/config.toml maps these to st.user; a client's own copies never pass
USER_HEADER, SESSION_HEADER = b"x-app-user-id", b"x-app-session"
# in place of a session: a tab's cookie opens none any more, or nobody can tell while the database is away
ENDED, UNKNOWN = "ended", "unknown"
_STREAM = "/_stcore/stream"  # where Streamlit looks at who is asking
_CLOSED = ("/_stcore/metrics", "/_stcore/upload_file", "/media")  # no page uploads or shows a file
_TABS_OF_AN_ADDRESS, _TABS_OF_ALL = 20, 500  # at most, without an app session
_TOO_MANY = "Too many sign-in pages are open. Close some, or try again in a minute."
_REFUSED = WebSocketClose(1008)  # which uvicorn sends as a 403
_GLANCE_SECONDS = 0.05
_INLINE_SCRIPT = re.compile(r"<script(?![^>]*\bsrc=)[^>]*>(.*?)</script>", re.DOTALL)


def content_security_policy(index: Path) -> str:
    """The policy for Streamlit's *index* page: exactly its own inline script, nothing from elsewhere."""
    scripts = _INLINE_SCRIPT.findall(index.read_text(encoding="utf-8"))
    hashes = " ".join(f"'sha256-{_sha256(script)}'" for script in scripts)
    return (
        "default-src 'self'; img-src 'self' data: blob:; media-src 'self' data: blob:; "
        f"script-src 'self' {hashes} blob: 'wasm-unsafe-eval'; "
        "style-src 'self' 'unsafe-inline'; font-src 'self' data:; connect-src 'self'; "
        "worker-src 'self' blob:; frame-ancestors 'none'; form-action 'self'; "
        "object-src 'none'; base-uri 'self'"
    )


@dataclass(frozen=True, slots=True)
class SessionMiddleware:
    """Pure ASGI: strips and sets the identity headers, closes what is nobody's, hardens answers."""

    app: ASGIApp
    session_cache: Callable[[], SessionCache | None]  # None until the backend is there
    origin: Origin
    policy: str
    patience_seconds: float = 0.0  # for which a tab that comes back waits for a backend that starts
    _strangers: Counter[str] = field(default_factory=Counter[str])  # anonymous tabs, by address

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = [
            (name, value)
            for name, value in scope["headers"]
            if name.lower() not in (USER_HEADER, SESSION_HEADER)
        ]
        path: str = scope["path"]
        app, stay = self.app, ExitStack()
        if path.startswith(_CLOSED):
            app = PlainTextResponse("Not Found", 404)
        elif path.startswith(_STREAM):
            app = await self._admit(HTTPConnection(scope), headers, stay)

        async def hardened(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                answer["Content-Security-Policy"] = self.policy
                answer["X-Content-Type-Options"] = "nosniff"
                answer["X-Frame-Options"] = "DENY"
                answer["Referrer-Policy"] = "same-origin"
                if self.origin.is_https:
                    answer["Strict-Transport-Security"] = "max-age=31536000"
            await send(message)

        with stay:
            await app({**scope, "headers": headers}, receive, hardened)

    async def _admit(
        self, connection: HTTPConnection, headers: list[tuple[bytes, bytes]], stay: ExitStack
    ) -> ASGIApp:
        """What answers a tab: the app, with *headers* that say who asks, or a refusal.

        A browser does not tell a page why its websocket was refused: the answer to a POST does.
        """
        is_tab = connection.scope["type"] == "websocket"
        if not self.origin.is_same_origin(connection):
            return _REFUSED if is_tab else PlainTextResponse(self.origin.wrong_address_message, 403)
        session = await self._session(connection, stay)
        address = self.origin.client_address(connection)
        if isinstance(session, AppSession):
            headers += [
                (USER_HEADER, str(session.user_id).encode()),
                (SESSION_HEADER, str(session.id).encode()),
            ]
        elif (
            self._strangers[address] >= _TABS_OF_AN_ADDRESS
            or self._strangers.total() >= _TABS_OF_ALL
        ):
            return _REFUSED if is_tab else PlainTextResponse(_TOO_MANY, 429)
        elif is_tab:
            headers += [(SESSION_HEADER, session.encode())] if isinstance(session, str) else []
            stay.enter_context(self._counted(address))
        return self.app if is_tab else Response(status_code=204)

    @contextmanager
    def _counted(self, address: str) -> Generator[None]:
        self._strangers[address] += 1
        try:
            yield
        finally:
            self._strangers[address] -= 1
            if not self._strangers[address]:
                del self._strangers[address]

    async def _session(
        self, connection: HTTPConnection, stay: ExitStack
    ) -> AppSession | str | None:
        """The session that the cookie opens, now connected; ENDED, UNKNOWN, or None where nobody is known yet.

        A tab is asked who it belongs to once: with a cookie it waits until that is known.
        """
        cookie = session_cookie(connection, self.origin)
        if cookie is None:
            return None
        is_tab = connection.scope["type"] == "websocket"
        deadline = time.monotonic() + (self.patience_seconds if is_tab else 0.0)
        while (session_cache := self.session_cache()) is None:
            if time.monotonic() >= deadline:
                return None
            await anyio.sleep(_GLANCE_SECONDS)
        try:
            session = await run_sync(session_cache.find, cookie)
        except StoreUnavailable:
            return UNKNOWN
        if session is None:
            return ENDED
        stay.enter_context(session_cache.connected(session))
        return session


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
