"""Replies as parts of a Markdown page: their own Markdown, with lower headings and nothing live in it.

CommonMark reads a line by the blocks that it stands in. What is taken for code here is code for every reader;
a reply of which that cannot be said is not lowered at all.
"""

import re

_PREFIX = r"(?P<prefix>(?:[ \t>]|(?:[*+-]|\d{1,9}[.)])(?=[ \t]))*+)"
_FENCE = re.compile(rf"{_PREFIX}(?P<mark>`{{3,}}(?=[^`]*$)|~{{3,}})(?P<info>.*)$")
# what stands further to the right than these is in the same block; other numbers may go on a paragraph
_PLAIN = re.compile(r" *(?:(?:[*+-]|1[.)]) {1,4})*")
_HEADING = re.compile(rf"{_PREFIX}(?P<level>#{{1,6}})(?=[ \t]|$)")
_UNDERLINE = re.compile(r"(?P<prefix>[ \t>]*)(?P<mark>=+|-+)[ \t]*$")
_LIST = re.compile(r"[ \t>]*(?:[*+-]|\d{1,9}[.)])(?:[ \t]|$)")
_DEFINITION = re.compile(rf"{_PREFIX}(?=\[[^\]]*\]:)")
_LIVE = re.compile(r"\\.|(?P<live><(?=[A-Za-z/!?])|!(?=\[))")
# other line ends, and the comments and containers of some readers
_UNCERTAIN = re.compile(r"[\r\v\f\x1c-\x1e\x85\u2028\u2029]|%%|^[ \t>]*:::", re.MULTILINE)
_INLINE = re.compile(
    r"""
      \\.
    | (?P<edge>\$\$)
    | (?P<formula>\$(?=[^\s$])(?:[^$\\`]|\\.)++(?<!\s)\$(?![\d$]))
    | (?P<code>(?P<ticks>(?<!`)`+)(?!`)[^|]+?(?<!`)(?P=ticks)(?!`))
    | (?P<tick>`+)
    | (?P<link><(?:https?://|mailto:)[^\s<>`]*>)
    | (?P<live><(?=[A-Za-z/!?])|!(?=\[))
    """,
    re.VERBOSE,
)


class _Uncertain(Exception):
    """A line could be code for one reader, and live for another."""


def lower(body: str) -> str | None:
    """Return *body* with headings two levels down and neither HTML nor images, or None where that is uncertain."""
    body = body.replace("\r\n", "\n")
    lowering = _Lowering()
    try:
        if _UNCERTAIN.search(body):
            raise _Uncertain
        for line in body.split("\n"):
            lowering.add(line)
        return lowering.end()
    except _Uncertain:
        return None


class _Lowering:
    """The lines of a reply so far, and the blocks that are open after them."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._indent, self._fence = 0, ""
        self._is_paragraph = False  # of whose last line an underline would make a heading
        self._is_code_known = True  # no backticks of this paragraph wait for their end
        self._in_formula = False

    def add(self, line: str) -> None:
        """Add *line*. Raise _Uncertain."""
        mark = _FENCE.match(line)
        if self._fence:
            self._add_code(line, mark)
        elif mark:
            self._open_fence(line, mark)
        elif not line.strip(" \t"):
            self._lines.append(line)
            self._is_paragraph, self._is_code_known = False, True
        elif underline := _UNDERLINE.match(line):
            self._add_underline(line, underline)
        else:
            heading = _HEADING.match(line)
            if heading:
                level = "#" * min(6, len(heading["level"]) + 2)
                line = f"{heading['prefix']}{level}{line[heading.end() :]}"
            line = _DEFINITION.sub(r"\g<prefix>\\", line, count=1)
            self._lines.append(_INLINE.sub(self._quieten, line))
            self._is_paragraph = not (heading or line.lstrip().startswith("|"))

    def end(self) -> str:
        """Return all lines, after closing a fence. Raise _Uncertain."""
        if self._in_formula:
            raise _Uncertain
        closing = [" " * self._indent + self._fence] if self._fence else []
        return "\n".join([*self._lines, *closing])

    def _open_fence(self, line: str, mark: re.Match[str]) -> None:
        self._indent, self._fence = len(mark["prefix"]), mark["mark"]
        # perhaps no fence, but indented code, or backticks in a paragraph
        is_deep = self._indent > 3
        if (
            self._in_formula
            or not _PLAIN.fullmatch(mark["prefix"])
            or (is_deep and "~" in self._fence)
        ):
            raise _Uncertain
        self._lines.append(line)
        self._is_paragraph, self._is_code_known = False, not is_deep

    def _add_code(self, line: str, mark: re.Match[str] | None) -> None:
        indent = " " * self._indent
        if line.strip(" \t") and not line.startswith(indent):
            raise _Uncertain
        if self._indent > 3 and _quiet(line) != line:
            raise _Uncertain
        self._lines.append(line)
        if mark and mark["mark"].startswith(self._fence) and not mark["info"].strip():
            if mark["prefix"] != indent:
                raise _Uncertain
            self._fence = ""

    def _add_underline(self, line: str, underline: re.Match[str]) -> None:
        before = self._lines[-1] if self._lines else ""
        prefix, mark = underline["prefix"], underline["mark"]
        is_rule = "-" in mark and len(mark) > 2
        if self._in_formula:
            self._lines.append(f"{prefix}{{}}{mark}")
        elif self._is_paragraph and not _LIST.match(before):
            level = "###" if "=" in mark else "####"
            start = len(before) - len(before.lstrip(" \t>"))
            self._lines[-1] = f"{before[:start]}{level} {before[start:]}"
            is_rule = True
        else:
            self._lines += ["", line] if before.strip(" \t") else [line]
        self._is_paragraph = not (is_rule or self._in_formula)

    def _quieten(self, found: re.Match[str]) -> str:
        if found["edge"]:
            self._in_formula = not self._in_formula
        if found["link"] or (found["code"] and self._is_code_known):
            return found[0]
        if found["code"] or found["tick"]:
            self._is_code_known = False
        parting = " " if self._in_formula or found["formula"] else "\\"
        return _part(found, parting) if found["live"] else _quiet(found[0], parting)


def _quiet(text: str, parting: str = "\\") -> str:
    """*text* without HTML and images."""
    return _LIVE.sub(lambda found: _part(found, parting) if found["live"] else found[0], text)


def _part(found: re.Match[str], parting: str) -> str:
    """Split the start of HTML or an image by a backslash, or in TeX by a space, which means nothing there."""
    is_escape = parting == "\\" and found[0] == "<"
    return f"{parting}<" if is_escape else f"{found[0]}{parting}"
