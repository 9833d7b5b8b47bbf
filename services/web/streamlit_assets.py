"""Streamlit's own files for the browser: those a page needs are fetched early, and all come from memory.

Streamlit reads a file from the disk whenever it is asked for one, and sends it as it is. And its page
fetches the code of an element only when one is first drawn: while some of it is missing, React holds
back up to half a second what is there already.
"""

import gzip
import re
from importlib import metadata
from pathlib import Path

from anyio.to_thread import run_sync
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

# of which the chat page draws one, whatever it shows
_ELEMENTS = ("BidiComponent", "Button", "ChatInput", "Html", "MenuButton", "TextInput")
_THEME = re.compile(r"(\d+),\w+=`(stActiveTheme-)\$\{window\.location\.pathname\}`")
_IMPORT = re.compile(r"(?:from|import)[\"'`]\./([\w.-]+\.js)[\"'`]")
_KINDS = {"js": "text/javascript", "css": "text/css"}
FOREVER = {"Cache-Control": "public, max-age=31536000, immutable"}
_SQUEEZED = FOREVER | {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}


def folder() -> Path:
    """Where they lie: found, not imported, for services know no page."""
    return Path(str(metadata.distribution("streamlit").locate_file("streamlit/static")))


def preloads() -> str:
    """The links that fetch early what the page itself does not name."""
    fonts = (folder() / "static" / "media").glob("SourceSerifVariable-Roman*.woff2")
    return "".join(
        [f'<link rel="modulepreload" href="/static/js/{name}">' for name in _modules()]
        + [
            f'<link rel="preload" as="font" type="font/woff2" crossorigin href="/static/media/{font.name}">'
            for font in fonts
        ]
    )


def theme_key() -> str:
    """Return under which key, as a JavaScript template, Streamlit keeps the theme of a *path*; empty: unknown."""
    for file in (folder() / "static" / "js").glob("utils.*.js"):
        if found := _THEME.search(file.read_text("utf-8")):
            version, base = found.groups()
            return f"{base}${{path}}-v{version}"
    return ""


def _modules() -> list[str]:
    """The files of `_ELEMENTS` and all that they import, without those that the page names."""
    scripts = folder() / "static" / "js"
    known = set(re.findall(r"/js/([\w.-]+\.js)", (folder() / "index.html").read_text("utf-8")))
    found: list[str] = []
    coming = [file.name for element in _ELEMENTS for file in scripts.glob(f"{element}.*.js")]
    while coming:
        name = coming.pop()
        if name not in known:
            known.add(name)
            found.append(name)
            coming += _IMPORT.findall((scripts / name).read_text("utf-8"))
    return found


class StreamlitAssets:
    """Pure ASGI: sends scripts and styles from memory, compressed once; everything else passes untouched."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        files = (file for kind in _KINDS for file in (folder() / "static" / kind).iterdir())
        self._files = {f"/static/{file.parent.name}/{file.name}": file for file in files}
        self._squeezed: dict[Path, bytes] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        file = self._files.get(scope["path"]) if scope["type"] == "http" else None
        if (
            file is None
            or scope["method"] != "GET"
            or "gzip" not in Headers(scope=scope).get("accept-encoding", "")
        ):
            await self._app(scope, receive, send)
            return
        body = self._squeezed.get(file) or await run_sync(self._squeeze, file)
        answer = Response(body, headers=_SQUEEZED, media_type=_KINDS[file.parent.name])
        await answer(scope, receive, send)

    def _squeeze(self, file: Path) -> bytes:
        return self._squeezed.setdefault(file, gzip.compress(file.read_bytes(), 6))
