"""Streamlit's own files for the browser: their folder, the fonts, and the localStorage key of the theme."""

import re
from importlib import metadata
from pathlib import Path

_THEME = re.compile(r"(\d+),\w+=`(stActiveTheme-)\$\{window\.location\.pathname\}`")


def folder() -> Path:
    """Return the folder of Streamlit's files, found without importing Streamlit, which services must not import."""
    return Path(str(metadata.distribution("streamlit").locate_file("streamlit/static")))


def prefetch_links() -> str:
    """Return HTML links that load the text font once the browser is idle: on a slow line, a preload would delay the scripts."""
    fonts = (folder() / "static" / "media").glob("SourceSerifVariable-Roman*.woff2")
    return "".join(
        f'<link rel="prefetch" as="font" type="font/woff2" crossorigin href="/static/media/{font.name}">'
        for font in fonts
    )


def font_style() -> str:
    """Return the path of the stylesheet that declares the fonts, for pages without Streamlit."""
    [file] = (folder() / "static" / "css").glob("index.*.css")
    return f"/static/css/{file.name}"


def style_link() -> str:
    """Return the link to the stylesheet in Streamlit's page, as it is written there."""
    return f'<link rel="stylesheet" crossorigin href=".{font_style()}">'


def theme_key() -> str:
    """Return the localStorage key of the theme, as a JavaScript template with the variable `path`.

    Return "" if this version of Streamlit builds the key in another way.
    """
    for file in (folder() / "static" / "js").glob("utils.*.js"):
        if found := _THEME.search(file.read_text("utf-8")):
            version, base = found.groups()
            return f"{base}${{path}}-v{version}"
    return ""
