"""Middleware that serves the static files of a page, and links the app's stylesheet and script in the page.

Streamlit itself reads a static file from the disk for each request and sends it uncompressed. It also serves its page
at every URL; this middleware sends a "not found" page where the app has no page.

The links are in the body: Streamlit adds its styles to the head, so the app's styles win over equally specific ones. If a
script added the stylesheet, the styles would apply half a second after the content appears. All stylesheets follow the app's
root element, because a browser shows nothing of what follows a stylesheet until it is loaded: on a slow line, the words in the
root element are read long before Streamlit replaces them.
"""

import gzip
import hashlib
from asyncio import shield, wrap_future
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.daemon_threads import in_thread
from services.events import log_event
from services.web import streamlit_assets

_ASSETS = Path(__file__).parents[2] / "assets"
_ROOT = b'<div id="root"></div>'
_LOADING = """<meta name="color-scheme" content="light dark"><style>
.db-loading, .stApp:not(:has([data-testid="stElementContainer"]))::before {
content: "Daybook is loading…"; position: fixed; inset: 30vh 0 auto; margin: 0; text-align: center;
font: 1rem system-ui, sans-serif; animation: db-loading 0.4s }
@keyframes db-loading { 0%, 50% { opacity: 0 } }
</style><div id="root"><p class="db-loading">Daybook is loading…</p></div>""".encode()
_MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_IMMUTABLE = {"Cache-Control": "public, max-age=31536000, immutable", "Vary": "Accept-Encoding"}
_PIECE_BYTES = 16_384
# request headers to remove: with them, Streamlit would send a compressed page or a 304, to which links cannot be added
_CONDITIONAL = (b"accept-encoding", b"if-none-match", b"if-modified-since")


@dataclass(frozen=True, slots=True)
class AppFiles:
    """The app's own files for browsers, at paths that change with the content, so that browsers may cache the files forever."""

    style: str = field(repr=False)  # path of the stylesheet
    script: str = field(repr=False)
    logo: str = field(repr=False)
    mark: str = field(repr=False)
    contents: Mapping[str, bytes] = field(repr=False)  # contents of the files, by path


@cache
def app_files(assets: Path = _ASSETS) -> AppFiles:
    """Return the files in the folder *assets*, read once; all scripts are joined into one file, which loads faster than many."""
    scripts = sorted((assets / "page").glob("*.js"))
    # each script gets a block scope, so that its names do not clash with those of other scripts
    script = "".join(f"{{\n{file.read_text('utf-8')}}}\n" for file in scripts)
    contents: dict[str, bytes] = {}

    def add(content: bytes, suffix: str) -> str:
        path = f"/page-{hashlib.sha256(content).hexdigest()[:12]}{suffix}"
        contents[path] = content
        return path

    logo, mark = (add((assets / name).read_bytes(), ".svg") for name in ("logo.svg", "mark.svg"))
    style = (assets / "style.css").read_text("utf-8").replace("url(logo.svg)", f"url({logo})")
    return AppFiles(add(style.encode(), ".css"), add(script.encode(), ".js"), logo, mark, contents)


class _InPieces(Response):
    """A response in pieces, each of which waits while the client has not read the pieces before: unread octets take memory."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        head = {"type": "http.response.start", "status": self.status_code}
        await send(head | {"headers": self.raw_headers})
        for start in range(0, len(self.body), _PIECE_BYTES):
            piece = {"body": bytes(self.body[start : start + _PIECE_BYTES]), "more_body": True}
            await send({"type": "http.response.body"} | piece)
        await send({"type": "http.response.body"})


class PageAssets:
    """Pure ASGI middleware: serves scripts and styles, compressed and cached in memory, and links the app's files in pages.

    *pages*: the URL paths that have a page. All methods but `_body` run in the thread of the event loop.
    """

    def __init__(self, app: ASGIApp, pages: Collection[str], assets: Path = _ASSETS) -> None:
        self._app, self._pages = app, frozenset(pages)
        static = streamlit_assets.folder() / "static"
        self._files: dict[str, Callable[[], bytes]] = {
            f"/static/{folder}/{file.name}": file.read_bytes
            for folder in ("js", "css")
            for file in (static / folder).iterdir()
        }
        # contents that are being read or have been, by path, gzipped or not
        self._bodies: dict[tuple[str, bool], Future[bytes]] = {}
        files = app_files(assets)
        for path, content in files.contents.items():
            self._files[path] = lambda content=content: content
        # unless the app's script contains Streamlit's localStorage key, choosing a theme has no effect
        if f"`{streamlit_assets.theme_key()}`".encode() not in files.contents[files.script]:
            log_event("theme.unknown")
        links = (
            f'<link rel="stylesheet" href="{files.style}">'
            f'<script type="module" async src="{files.script}" fetchpriority="high"></script>'
        )
        self._style = streamlit_assets.style_link().encode()
        self._links = f"{links}{streamlit_assets.prefetch_links()}".encode()
        not_found = (assets / "not_found.html").read_text("utf-8")
        fonts = f'<link rel="stylesheet" href="{streamlit_assets.font_style()}">'
        self._not_found = not_found.replace("</head>", f"{fonts}{links}</head>").encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if scope["type"] == "http" and scope["method"] == "GET":
            headers = Headers(scope=scope)
            if scope["path"] in self._files:
                app = await self._file(scope["path"], headers.get("accept-encoding", ""))
            elif "text/html" in headers.get("accept", ""):
                app = self._linked
        await app(scope, receive, send)

    async def _file(self, path: str, encodings: str) -> Response:
        is_gzipped = "gzip" in encodings
        key = path, is_gzipped
        if key not in self._bodies:
            self._bodies[key] = in_thread("page-file", lambda: self._body(path, is_gzipped))
        try:
            body = await shield(wrap_future(self._bodies[key]))
        except OSError:
            self._bodies.pop(key, None)  # the next request reads the file again
            raise
        headers = _IMMUTABLE | ({"Content-Encoding": "gzip"} if is_gzipped else {})
        return _InPieces(body, 200, headers, _MEDIA_TYPES[Path(path).suffix])

    def _body(self, path: str, is_gzipped: bool) -> bytes:
        body = self._files[path]()
        return gzip.compress(body, 6) if is_gzipped else body

    async def _linked(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Buffer an HTML page and add the links if the page is Streamlit's; send other responses unchanged."""
        buffered: list[Message] = []

        async def buffer(message: Message) -> None:
            if message["type"] == "http.response.start":
                kind = Headers(raw=message["headers"]).get("content-type", "")
                if "text/html" not in kind:
                    await send(message)
                    return
            elif not buffered:
                await send(message)
                return
            buffered.append(message)

        headers = [pair for pair in scope["headers"] if pair[0] not in _CONDITIONAL]
        await self._app({**scope, "headers": headers}, receive, buffer)
        body = b"".join(message.get("body", b"") for message in buffered)
        if _ROOT in body:
            is_known = scope["path"].strip("/") in self._pages
            head, found, rest = body.partition(self._style)
            linked = _LOADING + found + self._links
            body = (head + rest).replace(_ROOT, linked, 1) if is_known else self._not_found
            page = HTMLResponse(body, 200 if is_known else 404, {"Cache-Control": "no-cache"})
            await page(scope, receive, send)
        else:
            for message in buffered:
                await send(message)
