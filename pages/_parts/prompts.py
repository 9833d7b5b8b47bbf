"""Prompts as HTML: shown as typed, except that code fences become code blocks, and folded if long."""

import re
from html import escape

_FENCE = re.compile(r" {0,3}(`{3,}(?=[^`]*$)|~{3,})(.*)$")
_FOLDED_FROM = 12  # a prompt with at least this many lines is folded
_WIDTH = 72  # characters per line on a wide screen


def as_typed(text: str) -> str:
    """Return *text* as HTML in which only closed code fences are rendered.

    `assets/page/prompts.js` handles the button that unfolds a long prompt.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    out: list[str] = []
    begin, opened, fence = 0, 0, ""
    for number, line in enumerate(lines):
        mark = _FENCE.match(line)
        if not fence:
            opened, fence = number, mark[1] if mark else ""
        elif mark and mark[1].startswith(fence) and not mark[2].strip():
            out += _prose(lines[begin:opened]), _code(lines[opened + 1 : number])
            begin, fence = number + 1, ""
    body = "".join([*out, _prose(lines[begin:])])
    if sum(1 + len(line) // _WIDTH for line in lines) < _FOLDED_FROM:
        return f'<div class="db-prompt" dir="auto">{body}</div>'
    return (
        f'<div class="db-prompt db-folded" dir="auto">{body}</div>'
        '<button type="button" class="db-more" aria-expanded="false">Show all</button>'
    )


def _prose(lines: list[str]) -> str:
    return f'<p dir="auto">{_text(lines)}</p>' if lines else ""


def _code(lines: list[str]) -> str:
    return f'<pre dir="ltr"><code>{_text(lines)}</code></pre>'


def _text(lines: list[str]) -> str:
    # line breaks become entities, because Streamlit dedents the text and strips blank lines
    return "&#10;".join(map(escape, lines))
