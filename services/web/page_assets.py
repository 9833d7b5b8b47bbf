"""Our stylesheet and script, linked in the page that Streamlit serves: nothing is ever drawn without them.

Streamlit serves that page at every address; where the app has none, ours says so.

They stand in the body, before the app's root: Streamlit adds its own styles to the head later, so ours
win ties. A stylesheet drawn by a script would come half a second after the content on a cold load.
"""

import hashlib
from collections.abc import Collection
from pathlib import Path

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.events import log_event
from services.web import streamlit_assets

_ASSETS = Path(__file__).parents[2] / "assets"
_ROOT = b'<div id="root">'
# of the page as it lies on the disk, and no longer true of ours
_OUTDATED = ("content-length", "etag", "last-modified")
_CONDITIONS = (b"accept-encoding", b"if-none-match", b"if-modified-since")


class PageAssets:
    """Pure ASGI: serves our stylesheet and script, and links them in web pages; all else passes untouched.

    *pages*: the addresses that have a page.
    """

    def __init__(self, app: ASGIApp, pages: Collection[str], assets: Path = _ASSETS) -> None:
        self._app, self._pages = app, frozenset(pages)
        scripts = sorted((assets / "page").glob("*.js"))
        # one file is fetched sooner than many; a block of its own keeps each script's names apart
        script = "".join(f"{{\n{file.read_text('utf-8')}}}\n" for file in scripts).encode()
        if (
            f"`{streamlit_assets.theme_key()}`".encode() not in script
        ):  # a theme that is chosen would do nothing
            log_event("theme.unknown")
        style = (assets / "style.css").read_bytes()
        # addresses that change with what is there: a browser may keep it for ever
        css, js = f"/look-{_mark(style)}.css", f"/look-{_mark(script)}.js"
        self._ours = {css: (style, "text/css"), js: (script, "text/javascript")}
        sheet = f'<link rel="stylesheet" href="{css}">'
        ours = f'{sheet}<script type="module" async src="{js}"></script>'
        self.links = f"{ours}{streamlit_assets.preloads()}".encode()
        not_found = (assets / "not_found.html").read_text("utf-8")
        self._not_found = not_found.replace("</head>", f"{ours}</head>").encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET":
            await self._app(scope, receive, send)
        elif ours := self._ours.get(scope["path"]):
            answer = Response(ours[0], media_type=ours[1], headers=streamlit_assets.FOREVER)
            await answer(scope, receive, send)
        elif "text/html" in Headers(scope=scope).get("accept", ""):
            headers = [pair for pair in scope["headers"] if pair[0] not in _CONDITIONS]
            is_known = scope["path"].strip("/") in self._pages
            linked = self._linking(send, is_known=is_known)
            await self._app({**scope, "headers": headers}, receive, linked)
        else:
            await self._app(scope, receive, send)

    def _linking(self, send: Send, *, is_known: bool) -> Send:
        """*send*, but a web page is held back until it is whole, and given its links.

        In place of Streamlit's page, where the address is not known, ours is sent.
        """
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
                    if _ROOT in page and not is_known:
                        held["status"], body = 404, self._not_found
                    headers = MutableHeaders(scope=held)
                    for name in _OUTDATED:
                        del headers[name]
                    headers["Content-Length"] = str(len(body))
                    await send(held)
                    await send({"type": "http.response.body", "body": body})

        return linked


def _mark(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()[:12]
