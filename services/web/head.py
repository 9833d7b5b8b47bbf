"""Our stylesheet and script, linked in the page that Streamlit serves: nothing is ever drawn without them.

They stand in the body, before the app's root: Streamlit adds its own styles to the head later, so ours
win ties. A stylesheet drawn by a script would come half a second after the content on a cold load.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.web import frontend

_ASSETS = Path(__file__).parents[2] / "assets"
_ROOT = b'<div id="root">'
# of the page as it lies on the disk, and no longer true of ours
_OUTDATED = ("content-length", "etag", "last-modified")
_CONDITIONS = (b"accept-encoding", b"if-none-match", b"if-modified-since")


class Look:
    """The stylesheet and the scripts, at addresses that change with them, and what links them."""

    def __init__(self, assets: Path = _ASSETS) -> None:
        scripts = sorted((assets / "page").glob("*.js"))
        # one file is fetched sooner than many; a block of its own keeps each script's names apart
        page = "".join(f"{{\n{script.read_text('utf-8')}}}\n" for script in scripts)
        self._css = _Asset.of((assets / "style.css").read_bytes(), ".css", "text/css")
        self._js = _Asset.of(page.encode(), ".js", "text/javascript")
        self.links = (
            f'<link rel="stylesheet" href="{self._css.path}">'
            f'<script type="module" async src="{self._js.path}"></script>{frontend.preloads()}'
        ).encode()

    def routes(self) -> list[Route]:
        return [Route(asset.path, asset.serve) for asset in (self._css, self._js)]


@dataclass(frozen=True, slots=True)
class _Asset:
    """What a browser may keep for ever."""

    path: str
    body: bytes
    media_type: str

    @classmethod
    def of(cls, body: bytes, suffix: str, media_type: str) -> "_Asset":
        mark = hashlib.sha256(body).hexdigest()[:12]
        return cls(f"/look-{mark}{suffix}", body, media_type)

    async def serve(self, _: Request) -> Response:
        return Response(self.body, media_type=self.media_type, headers=frontend.FOREVER)


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
