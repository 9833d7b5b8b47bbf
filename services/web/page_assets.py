"""Middleware that serves the static files of a page, and links the app's stylesheet and script in the page.

Streamlit itself reads a static file from the disk for each request and sends it uncompressed. It also serves its page
at every address; this middleware sends a "not found" page where the app has no page.

The links are in the body, before the app's root element: Streamlit adds its styles to the head, so the app's styles
win over equally specific ones. If a script added the stylesheet, it would come half a second after the content.
"""

import gzip
import hashlib
from collections.abc import Callable, Collection
from pathlib import Path

from anyio.to_thread import run_sync
from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.events import log_event
from services.web import streamlit_assets

_ASSETS = Path(__file__).parents[2] / "assets"
_ROOT = b'<div id="root">'
_MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css"}
_IMMUTABLE = {"Cache-Control": "public, max-age=31536000, immutable", "Vary": "Accept-Encoding"}
# request headers that are removed: with them, Streamlit would send a compressed page, or a 304
_CONDITIONAL = (b"accept-encoding", b"if-none-match", b"if-modified-since")


class PageAssets:
    """Pure ASGI: serves scripts and styles, compressed once and kept in memory, and links the app's own in pages.

    *pages*: the addresses that have a page.
    """

    def __init__(self, app: ASGIApp, pages: Collection[str], assets: Path = _ASSETS) -> None:
        self._app, self._pages = app, frozenset(pages)
        static = streamlit_assets.folder() / "static"
        self._files: dict[str, Callable[[], bytes]] = {
            f"/static/{folder}/{file.name}": file.read_bytes
            for folder in ("js", "css")
            for file in (static / folder).iterdir()
        }
        self._compressed: dict[str, bytes] = {}
        scripts = sorted((assets / "page").glob("*.js"))
        # one file loads faster than many; a block around each script keeps its names from the others
        script = "".join(f"{{\n{file.read_text('utf-8')}}}\n" for file in scripts)
        # without Streamlit's key, choosing a theme would have no effect
        if f"`{streamlit_assets.theme_key()}`" not in script:
            log_event("theme.unknown")
        css = self._add((assets / "style.css").read_bytes(), ".css")
        js = self._add(script.encode(), ".js")
        links = (
            f'<link rel="stylesheet" href="{css}"><script type="module" async src="{js}"></script>'
        )
        self._links = f"{links}{streamlit_assets.preload_links()}".encode()
        not_found = (assets / "not_found.html").read_text("utf-8")
        self._not_found = not_found.replace("</head>", f"{links}</head>").encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if scope["type"] == "http" and scope["method"] == "GET":
            headers = Headers(scope=scope)
            if scope["path"] in self._files:
                app = await self._file(scope["path"], headers.get("accept-encoding", ""))
            elif "text/html" in headers.get("accept", ""):
                app = self._linked
        await app(scope, receive, send)

    def _add(self, content: bytes, suffix: str) -> str:
        """Add a file; return its path, which changes with *content*, so that browsers may cache the file for ever."""
        path = f"/page-{hashlib.sha256(content).hexdigest()[:12]}{suffix}"
        self._files[path] = lambda: content
        return path

    async def _file(self, path: str, encodings: str) -> Response:
        media_type = _MEDIA_TYPES[Path(path).suffix]
        if "gzip" not in encodings:
            return Response(await run_sync(self._files[path]), 200, _IMMUTABLE, media_type)
        if path not in self._compressed:
            self._compressed[path] = await run_sync(lambda: gzip.compress(self._files[path](), 6))
        headers = _IMMUTABLE | {"Content-Encoding": "gzip"}
        return Response(self._compressed[path], 200, headers, media_type)

    async def _linked(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Buffer an HTML page and add the links if it is Streamlit's; send other answers as they come."""
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
            body = body.replace(_ROOT, self._links + _ROOT, 1) if is_known else self._not_found
            page = HTMLResponse(body, 200 if is_known else 404, {"Cache-Control": "no-cache"})
            await page(scope, receive, send)
        else:
            for message in buffered:
                await send(message)
