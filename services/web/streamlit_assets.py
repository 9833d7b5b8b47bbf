"""Streamlit's own files for the browser: their folder, early links to those that a chat needs, and the theme's key.

Streamlit's page fetches the code of an element only when the element is first drawn; while some code is
missing, React holds back what is there already for up to half a second.
"""

import re
from importlib import metadata
from pathlib import Path

# of every chat page
_ELEMENTS = ("BidiComponent", "Button", "ChatInput", "Html", "MenuButton", "TextInput")
_THEME = re.compile(r"(\d+),\w+=`(stActiveTheme-)\$\{window\.location\.pathname\}`")
_IMPORT = re.compile(r"(?:from|import)[\"'`]\./([\w.-]+\.js)[\"'`]")


def folder() -> Path:
    """The folder of Streamlit's files, found without importing Streamlit: services know no user interface."""
    return Path(str(metadata.distribution("streamlit").locate_file("streamlit/static")))


def preload_links() -> str:
    """HTML links that fetch early the code and the font that Streamlit's page does not name itself."""
    fonts = (folder() / "static" / "media").glob("SourceSerifVariable-Roman*.woff2")
    return "".join(
        [f'<link rel="modulepreload" href="/static/js/{name}">' for name in _modules()]
        + [
            f'<link rel="preload" as="font" type="font/woff2" crossorigin href="/static/media/{font.name}">'
            for font in fonts
        ]
    )


def theme_key() -> str:
    """The localStorage key of a *path*'s theme, as a JavaScript template; empty if Streamlit's code differs."""
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
    pending = [file.name for element in _ELEMENTS for file in scripts.glob(f"{element}.*.js")]
    while pending:
        name = pending.pop()
        if name not in known:
            known.add(name)
            found.append(name)
            pending += _IMPORT.findall((scripts / name).read_text("utf-8"))
    return found
