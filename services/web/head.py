"""The stylesheet, linked in the page that Streamlit serves, so that nothing is ever drawn unstyled.

It stands in the body, before the app's root: Streamlit adds its own styles to the head later, so ours
win ties. A stylesheet drawn by a script would come half a second after the content on a cold load.
"""

import hashlib
import importlib.util
from pathlib import Path

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_STYLESHEET = Path(__file__).parents[2] / "assets" / "style.css"
_ROOT = b'<div id="root">'
# of the page as it lies on the disk, and no longer true of ours
_OUTDATED = ("content-length", "etag", "last-modified")
_CONDITIONS = (b"accept-encoding", b"if-none-match", b"if-modified-since")


class Look:
    """The stylesheet under an address that changes with it, and what links it."""

    def __init__(self, stylesheet: Path = _STYLESHEET) -> None:
        self._css = stylesheet.read_bytes()
        self._path = f"/look-{hashlib.sha256(self._css).hexdigest()[:12]}.css"
        preloads = (
            f'<link rel="preload" as="font" type="font/woff2" crossorigin href="/static/media/{font}">'
            for font in _serifs()
        )
        self.links = f'<link rel="stylesheet" href="{self._path}">{"".join(preloads)}'.encode()

    def routes(self) -> list[Route]:
        return [Route(self._path, self._serve)]

    async def _serve(self, _: Request) -> Response:
        headers = {"Cache-Control": "public, max-age=31536000, immutable"}
        return Response(self._css, media_type="text/css", headers=headers)


class Head:
    """Pure ASGI: only a web page is held back and given its links; everything else passes untouched."""

    def __init__(self, app: ASGIApp, look: Look) -> None:
        self._app, self._links = app, look.links

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_get = scope["type"] == "http" and scope["method"] == "GET"
        if not is_get or "text/html" not in Headers(scope=scope).get("accept", ""):
            await self._app(scope, receive, send)
            return
        headers = [pair for pair in scope["headers"] if pair[0] not in _CONDITIONS]
        await self._app({**scope, "headers": headers}, receive, self._linking(send))

    def _linking(self, send: Send) -> Send:
        held: Message | None = None
        page = bytearray()

        async def linked(message: Message) -> None:
            nonlocal held
            if message["type"] == "http.response.start":
                if "text/html" in Headers(raw=message["headers"]).get("content-type", ""):
                    held = message
                else:
                    await send(message)
                return
            if held is None:
                await send(message)
                return
            page.extend(message.get("body", b""))
            if message.get("more_body", False):
                return
            body = bytes(page).replace(_ROOT, self._links + _ROOT, 1)
            headers = MutableHeaders(scope=held)
            for name in _OUTDATED:
                del headers[name]
            headers["Content-Length"] = str(len(body))
            await send(held)
            await send({"type": "http.response.body", "body": body})

        return linked


def _serifs() -> list[str]:
    """The files of the serif that Streamlit brings: found, not imported, for services know no page."""
    streamlit = importlib.util.find_spec("streamlit")
    if streamlit is None or streamlit.origin is None:
        return []
    media = Path(streamlit.origin).parent / "static" / "static" / "media"
    return sorted(file.name for file in media.glob("SourceSerifVariable-Roman*.woff2"))
