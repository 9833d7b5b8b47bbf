"""The middleware in front of everything: who is asking, and what a browser may do with an answer."""

import base64
import hashlib
import re
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import anyio
from anyio.to_thread import run_sync
from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.errors import StoreUnavailable
from services.store.sessions import AppSession
from services.web.doors import Origin, cookie_of
from services.web.visitors import Visitors

# .streamlit/config.toml maps these to st.user; a client's own copies never pass
USER_HEADER, SESSION_HEADER = b"x-app-user-id", b"x-app-session"
# in place of a session: a tab's cookie opens none any more, or nobody can tell while the database is away
ENDED, UNKNOWN = "ended", "unknown"
# where Streamlit looks at who is asking; the seventy files of a cold load are the same for all
_PERSONAL = ("/_stcore/stream", "/_stcore/upload_file", "/media")
_CLOSED = ("/_stcore/metrics",)
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
class Shield:
    """Pure ASGI: strips and sets the identity headers, closes what is nobody's, hardens answers."""

    app: ASGIApp
    visitors: Callable[[], Visitors | None]  # None until the backend is there
    origin: Origin
    policy: str
    patience_seconds: float = 0.0  # for which a tab that comes back waits for a backend that starts

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
        stay = ExitStack()
        if path.startswith(_PERSONAL):
            visitors = await self._visitors(HTTPConnection(scope))
            session = await self._session(visitors, HTTPConnection(scope))
            is_tab = scope["type"] == "websocket"
            if isinstance(session, str):
                headers += [(SESSION_HEADER, session.encode())] if is_tab else []
            elif visitors and session:
                if is_tab:
                    stay.enter_context(visitors.connected(session))
                headers += [
                    (USER_HEADER, str(session.user_id).encode()),
                    (SESSION_HEADER, str(session.id).encode()),
                ]
        if path.startswith(_CLOSED):
            scope = {**scope, "path": "/nowhere", "raw_path": b"/nowhere"}

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
            await self.app({**scope, "headers": headers}, receive, hardened)

    async def _visitors(self, connection: HTTPConnection) -> Visitors | None:
        """The visitors. A tab is asked who it belongs to once: with a cookie it waits until that is known."""
        is_known_tab = connection.scope["type"] == "websocket" and cookie_of(
            connection, self.origin
        )
        deadline = time.monotonic() + (self.patience_seconds if is_known_tab else 0.0)
        while (visitors := self.visitors()) is None and time.monotonic() < deadline:
            await anyio.sleep(_GLANCE_SECONDS)
        return visitors

    async def _session(
        self, visitors: Visitors | None, connection: HTTPConnection
    ) -> AppSession | str | None:
        """The session that the cookie opens, ENDED or UNKNOWN; None: there is no cookie."""
        cookie = cookie_of(connection, self.origin)
        if visitors is None or cookie is None:
            return None
        try:
            return await run_sync(visitors.find, cookie) or ENDED
        except StoreUnavailable:
            return UNKNOWN


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
