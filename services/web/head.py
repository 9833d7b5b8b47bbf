"""Our stylesheet and script, linked in the page that Streamlit serves: nothing is ever drawn without them.

They stand in the body, before the app's root: Streamlit adds its own styles to the head later, so ours
win ties. A stylesheet drawn by a script would come half a second after the content on a cold load.
"""

import hashlib
from pathlib import Path

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.web import frontend

_ASSETS = Path(__file__).parents[2] / "assets"
_ROOT = b'<div id="root">'
# of the page as it lies on the disk, and no longer true of ours
_OUTDATED = ("content-length", "etag", "last-modified")
_CONDITIONS = (b"accept-encoding", b"if-none-match", b"if-modified-since")


class Head:
    """Pure ASGI: serves our stylesheet and script, and links them in web pages; all else passes untouched."""

    def __init__(self, app: ASGIApp, assets: Path = _ASSETS) -> None:
        self._app = app
        scripts = sorted((assets / "page").glob("*.js"))
        # one file is fetched sooner than many; a block of its own keeps each script's names apart
        script = "".join(f"{{\n{file.read_text('utf-8')}}}\n" for file in scripts).encode()
        style = (assets / "style.css").read_bytes()
        # addresses that change with what is there: a browser may keep it for ever
        css, js = f"/look-{_mark(style)}.css", f"/look-{_mark(script)}.js"
        self._ours = {css: (style, "text/css"), js: (script, "text/javascript")}
        self.links = (
            f'<link rel="stylesheet" href="{css}">'
            f'<script type="module" async src="{js}"></script>{frontend.preloads()}'
        ).encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET":
            await self._app(scope, receive, send)
        elif ours := self._ours.get(scope["path"]):
            answer = Response(ours[0], media_type=ours[1], headers=frontend.FOREVER)
            await answer(scope, receive, send)
        elif "text/html" in Headers(scope=scope).get("accept", ""):
            headers = [pair for pair in scope["headers"] if pair[0] not in _CONDITIONS]
            await self._app({**scope, "headers": headers}, receive, self._linking(send))
        else:
            await self._app(scope, receive, send)

    def _linking(self, send: Send) -> Send:
        """*send*, but a web page is held back until it is whole, and given its links."""
        held: Message | None = None
        page = bytearray()

        async def linked(message: Message) -> None:
            nonlocal held
            is_start = message["type"] == "http.response.start"
            if is_start and "text/html" in Headers(raw=message["headers"]).get("content-type", ""):
                held = message
            elif held is None:
                await send(message)
            else:
                page.extend(message.get("body", b""))
                if not message.get("more_body", False):
                    body = bytes(page).replace(_ROOT, self.links + _ROOT, 1)
                    headers = MutableHeaders(scope=held)
                    for name in _OUTDATED:
                        del headers[name]
                    headers["Content-Length"] = str(len(body))
                    await send(held)
                    await send({"type": "http.response.body", "body": body})

        return linked


def _mark(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()[:12]
