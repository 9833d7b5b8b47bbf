"""Middleware for every request: it sets identity and security headers, blocks unused paths, and limits anonymous tabs."""

import asyncio
import base64
import hashlib
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import anyio
from anyio.to_thread import run_sync
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from services.domain import ConversationId
from services.domain.accounts import SessionEnd
from services.errors import StoreUnavailable
from services.store.accounts import AppSession
from services.users import Shared
from services.users.session_cache import count_open
from services.web.connections import allow_large_messages
from services.web.origin import Network, Origin, networks_of

# .streamlit/config.toml maps these headers to st.user; headers of these names from clients are dropped
USER_HEADER, SESSION_HEADER = b"x-app-user-id", b"x-app-session"
# sent for a tab without a session alone: a tab's identity, which a user takes to another network, must not change
NETWORK_HEADER = b"x-app-network"
_OURS = (USER_HEADER, SESSION_HEADER, NETWORK_HEADER)
# values sent in place of a session id: the reason why the cookie's session has ended, or UNKNOWN if
# the database is unreachable
ENDS, UNKNOWN = frozenset(map(str, SessionEnd)), "unknown"
MOVED = "moved"  # sent in place of a session id: a proof gave the session a new cookie, so the page must be reloaded
_STREAM = "/_stcore/stream"  # the websocket for which Streamlit reads the identity headers
# paths that respond 404, because no page uploads or shows files, and only browsers use the app
_CLOSED = ("/_stcore/agent", "/_stcore/metrics", "/_stcore/upload_file", "/media")
_TABS_OF_AN_ADDRESS, _TABS_OF_ALL = 20, 500  # limits on tabs without an app session
_ALL = "all"
_TOO_MANY = "Too many sign-in pages are open. Close some, or try again in a minute."
# the refusal of a tab whose cookie cannot be checked: the tab shows no sign-in page
_NOT_CHECKED = f"{StoreUnavailable.outage} This tab reconnects by itself."
_REFUSED = WebSocketClose(1008)  # uvicorn responds to this refusal with status 403
_POLL_SECONDS = 0.05
_INLINE_SCRIPT = re.compile(r"<script(?![^>]*\bsrc=)[^>]*>(.*?)</script>", re.DOTALL)


def content_security_policy(index: Path) -> str:
    """Return a policy for Streamlit's *index* page that allows its own inline scripts and nothing from other hosts."""
    scripts = _INLINE_SCRIPT.findall(index.read_text(encoding="utf-8"))
    digests = (hashlib.sha256(script.encode()).digest() for script in scripts)
    hashes = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return (
        "default-src 'self'; img-src 'self' data: blob:; media-src 'self' data: blob:; "
        f"script-src 'self' {hashes} blob: 'wasm-unsafe-eval'; "
        "style-src 'self' 'unsafe-inline'; font-src 'self' data:; connect-src 'self'; "
        "worker-src 'self' blob:; frame-ancestors 'none'; form-action 'self'; "
        "object-src 'none'; base-uri 'self'"
    )


@dataclass(frozen=True, slots=True)
class SessionMiddleware:
    """Pure ASGI middleware: sets the identity headers of the app session, and refuses tabs of other sites."""

    app: ASGIApp
    shared: Callable[[], Shared]  # raises StoreUnavailable until the backend has started
    origin: Origin
    policy: str
    # seconds that a tab with a cookie waits for the backend to start
    wait_seconds: float = 0.0
    # the number of tabs without a session, for each network of clients and in total
    _anonymous_tabs: Counter[str] = field(default_factory=Counter[str], repr=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = [(name, value) for name, value in scope["headers"] if name.lower() not in _OURS]
        path: str = scope["path"]

        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                # browsers enforce both this policy and any policy that the route has set, so a route can only be stricter
                answer.append("Content-Security-Policy", self.policy)
                answer["X-Content-Type-Options"] = "nosniff"
                answer["X-Frame-Options"] = "DENY"
                answer["Cross-Origin-Opener-Policy"] = "same-origin"
                answer["Referrer-Policy"] = "same-origin"
                if self.origin.is_https:
                    answer["Strict-Transport-Security"] = "max-age=31536000"
            await send(message)

        with ExitStack() as open_tab:
            app = self.app
            if path.startswith(_CLOSED):
                app = PlainTextResponse("Not Found", 404)
            elif path.startswith(_STREAM):
                app = await self._admit(HTTPConnection(scope), headers, open_tab)
            # raised if the client disconnects before its request is complete, which is not the app's fault
            with suppress(ClientDisconnect):
                await app({**scope, "headers": headers}, receive, send_secured)
        if path == "/" and scope["type"] == "http":
            await self._read_ahead(HTTPConnection(scope))

    async def _read_ahead(self, connection: HTTPConnection) -> None:
        """Read the chat page's data ahead, while the browser is still loading the page, which takes about a second."""
        cookie, conversation_id = self.origin.session_cookie(connection), None
        if cookie:
            with suppress(ValueError):
                conversation_id = ConversationId(UUID(connection.query_params.get("c", "")))
            with suppress(StoreUnavailable):
                await run_sync(self.shared().read_ahead, cookie, conversation_id)

    async def _admit(
        self, connection: HTTPConnection, headers: list[tuple[bytes, bytes]], open_tab: ExitStack
    ) -> ASGIApp:
        """Return the ASGI app that serves a tab: the app with identity *headers*, or a refusal.

        A browser does not tell a page why its websocket was refused, so the page asks for the reason with a POST to the same URL.
        """
        is_tab = connection.scope["type"] == "websocket"
        if not self.origin.is_same_origin(connection):
            return _REFUSED if is_tab else PlainTextResponse(self.origin.wrong_address_message, 403)
        app, session = self.app, await self._session(connection, open_tab)
        networks = networks_of(self.origin.client_address(connection))
        if isinstance(session, AppSession):
            headers.append((USER_HEADER, str(session.user_id).encode()))
            headers.append((SESSION_HEADER, str(session.id).encode()))
            allow_large_messages(connection.scope)
            app = self._while_current(connection, session)
        elif self._has_too_many_tabs(networks):
            has_cookie = self.origin.session_cookie(connection) is not None
            sentence = _NOT_CHECKED if has_cookie and session in ("", UNKNOWN) else _TOO_MANY
            return _REFUSED if is_tab else PlainTextResponse(sentence, 429)
        elif is_tab:
            if session:
                headers.append((SESSION_HEADER, session.encode()))
            headers.append((NETWORK_HEADER, networks[0].name.encode()))
            for name in (_ALL, *(network.name for network in networks)):
                open_tab.enter_context(count_open(self._anonymous_tabs, name))
        return app if is_tab else Response(status_code=204)

    def _while_current(self, connection: HTTPConnection, session: AppSession) -> ASGIApp:
        """Return an app that disconnects the tab once a proof has replaced the cookie with which the tab connected.

        The browser reconnects the tab with the new cookie, and Streamlit continues with the tab's state. A thief who has copied
        the old cookie cannot take over the tab: Streamlit gives a state only to the identity that the state belongs to.
        """
        cache, cookie = self.shared().session_cache, self.origin.session_cookie(connection)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            is_hung_up, waiting, loop = False, anyio.CancelScope(), asyncio.get_running_loop()

            def wake() -> None:  # called from any thread
                loop.call_soon_threadsafe(lambda: waiting.cancel())

            async def receive_until_replaced() -> Message:
                nonlocal is_hung_up, waiting
                while (seconds := cache.replaced_in(session, cookie)) > 0:
                    with anyio.move_on_after(seconds) as waiting:
                        return await receive()
                is_hung_up = True
                return {"type": "websocket.disconnect", "code": 1001}

            with cache.waking(session, wake):
                await self.app(scope, receive_until_replaced, send)
            if is_hung_up:
                await send({"type": "websocket.close", "code": 1001})

        return app

    def _has_too_many_tabs(self, networks: Iterable[Network]) -> bool:
        tabs = self._anonymous_tabs
        return tabs[_ALL] >= _TABS_OF_ALL or any(
            tabs[network.name] >= _TABS_OF_AN_ADDRESS * network.addresses for network in networks
        )

    async def _session(self, connection: HTTPConnection, open_tab: ExitStack) -> AppSession | str:
        """Return the cookie's session, and count the tab as open.

        Without a session, return one of ENDS, MOVED, UNKNOWN, or "" (the browser sent no cookie, or there is no
        backend). A tab's identity is set only once, when it connects, so a tab with a cookie waits for the backend.
        """
        cookie = self.origin.session_cookie(connection)
        if cookie is None:
            return ""
        is_tab = connection.scope["type"] == "websocket"
        deadline = time.monotonic() + (self.wait_seconds if is_tab else 0.0)
        while True:
            try:
                cache = self.shared().session_cache
                break
            except StoreUnavailable:
                if time.monotonic() >= deadline:
                    return ""
            await anyio.sleep(_POLL_SECONDS)
        try:
            session = await run_sync(cache.find, cookie)
        except StoreUnavailable:
            return UNKNOWN
        if session is None:
            return MOVED if cache.has_moved(cookie) else cache.why_ended(cookie)
        open_tab.enter_context(cache.connected(session))
        return session
