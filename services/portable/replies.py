"""Conversion of replies to parts of a Markdown page: headings are lowered, HTML and images are escaped, and each line
end within a paragraph is a hard break, because it is a break on the chat page.

Markdown renderers differ. Text that is treated as code here is code in every renderer; if a reply has text for which
this is uncertain, `lower` returns None instead of the reply.
"""

import re
from collections.abc import Mapping, Sequence, Set
from types import MappingProxyType

from services.domain import safe_text

_PREFIX = r"(?P<prefix>(?:[ \t>]|(?:[*+-]|\d{1,9}[.)])(?=[ \t]))*+)"
_FENCE = re.compile(rf"{_PREFIX}(?P<mark>`{{3,}}(?=[^`]*$)|~{{3,}})(?P<info>.*)$")
# matches prefixes of a fence (indents and list markers) with which every renderer reads the indented lines as part of the
# code block. "2.", for example, does not match: a line that begins with it may continue a paragraph
_PLAIN = re.compile(r" *(?:(?:[*+-]|1[.)]) {1,4})*")
_HEADING = re.compile(rf"{_PREFIX}(?P<level>#{{1,6}})(?=[ \t]|$)")
_UNDERLINE = re.compile(r"(?P<prefix>[ \t>]*)(?P<mark>=+|-+)[ \t]*$")
_LIST = re.compile(r"[ \t>]*(?:[*+-]|\d{1,9}[.)])(?:[ \t]|$)")
_DEFINITION = re.compile(rf"{_PREFIX}(?=\[[^\]]*\]:)")
# matches a line that is not joined to the line above it: the start of a list item, table, formula, definition or footnote
_APART = re.compile(rf"[ \t>]*(?:\||\$\$|\[[^\]]*\]:|$)|{_LIST.pattern}")
_NEW = (_FENCE, _HEADING, _APART)
_LABEL = re.compile(r"\[\^([^\[\]\s^]{1,99})\]")
# matches a footnote of at least two words: CommonMark reads `[^1]: word` as the definition of a link, and does not show it
_FOOTNOTE = re.compile(
    rf" {{0,3}}{_LABEL.pattern}: (?![>|#=]|```|~~~|[*+-][ \t]|\d{{1,9}}[.)][ \t])[^\s\[<]\S*[ \t]+[^\s\"'(]"
)
_ACTIVE = re.compile(r"\\.|(?P<active><(?=[A-Za-z/!?])|!(?=\[))")
# matches text that renderers treat differently: unusual line ends, comments, containers
_UNCERTAIN = re.compile(r"[\r\v\f\x1c-\x1e\x85\u2028\u2029]|%%|^[ \t>]*:::", re.MULTILINE)
# matches characters that may need escaping; lines without such characters are not parsed further
_MARKED = re.compile(r"[\\$`<!]|\[\^")
_INLINE = re.compile(
    rf"""
      \\.
    | (?P<delimiter>\$\$)
    | (?P<formula>\$(?=[^\s$])(?:[^$\\`]|\\.)++(?<!\s)\$(?![\d$]))
    | (?P<ticks>`+)
    | (?P<link><(?:https?://|mailto:)[^\s<>`]*>)
    | (?P<active><(?=[A-Za-z/!?])|!(?=\[))
    | (?P<footnote>{_LABEL.pattern})
    """,
    re.VERBOSE,
)
_NO_LABELS = MappingProxyType[str, str]({})


class _Uncertain(Exception):
    """Raised if a line could be code in one Markdown renderer, but HTML or a heading in another."""


def footnote_labels(body: str) -> set[str]:
    """Return the footnote labels that occur in *body*; none if it is too long to be parsed."""
    readable = body if safe_text.is_readable(body) else ""
    return {found[1].casefold() for found in _LABEL.finditer(readable)}


def lower(body: str, labels: Mapping[str, str] = _NO_LABELS) -> str | None:
    """Return *body* with headings lowered by two levels, with HTML and images escaped, and with hard breaks.

    *labels* maps footnote labels that other messages use, too, to new labels, because labels must be unique on a page.
    Return None if renderers may read *body* differently, or if it is too long to be parsed.
    """
    if not safe_text.is_readable(body):
        return None
    lines = body.replace("\r\n", "\n").split("\n")
    lowering = _Lowering(labels, {one[1].casefold() for one in map(_FOOTNOTE.match, lines) if one})
    try:
        if any(map(_UNCERTAIN.search, lines)):
            raise _Uncertain
        in_code = _ends_in_code(lines)
        for at, line in enumerate(lines):
            lowering.add(line, may_break=at - 1 not in in_code)
        return lowering.end()
    except _Uncertain:
        return None


def _ends_in_code(lines: Sequence[str]) -> set[int]:
    """Return the numbers of the lines that end within code which goes on in the next line of their paragraph."""
    found: set[int] = set()
    begin = 0
    for at in range(1, len(lines) + 1):
        is_same = at < len(lines) and not any(pattern.match(lines[at]) for pattern in _NEW)
        text = "" if is_same else "\n".join(lines[begin:at])
        end = 0
        for opening, close in sorted(safe_text.tick_pairs(text).items()):
            if opening >= end and text[opening - 1 : opening] != "\\":
                begin += text.count("\n", end, opening)
                after = begin + text.count("\n", opening, close)
                found.update(range(begin, after))
                begin, end = after, close
        begin = begin if is_same else at
    return found


class _Lowering:
    """Converts a reply line by line, and keeps track of its open code block, paragraph and formula."""

    def __init__(self, labels: Mapping[str, str], defined: Set[str]) -> None:
        self._labels = {label: new for label, new in labels.items() if label in defined}
        self._lines: list[str] = []
        self._indent, self._fence = 0, ""
        # true inside a paragraph, where a line of `=` or `-` would turn the line above it into a heading
        self._is_paragraph = False
        # false if this paragraph may contain a backtick that no later backtick closes
        self._is_code_known = True
        self._in_formula = False
        # column at which the text of the last list item begins; 0 outside of lists
        self._item_indent = 0

    def add(self, line: str, *, may_break: bool) -> None:
        """Convert *line* and add it to the result, below a hard break within a paragraph if it *may_break* there.

        Raise _Uncertain if renderers may read it differently.
        """
        mark = _FENCE.match(line)
        is_text = not self._fence and line.strip(" \t") != ""
        is_code = is_text and self._is_indented_code(line)
        if self._fence:
            self._add_code(line, mark)
        elif mark:
            self._open_fence(line, mark)
        elif not is_text:
            self._lines.append(line)
            self._is_paragraph, self._is_code_known = False, True
        elif underline := _UNDERLINE.match(line):
            if is_code:
                raise _Uncertain
            self._add_underline(line, underline)
        else:
            typed = line
            heading = _HEADING.match(line)
            if may_break and self._is_paragraph and not heading and not _APART.match(line):
                self._break_line()
            if heading:
                level = "#" * min(6, len(heading["level"]) + 2)
                line = f"{heading['prefix']}{level}{line[heading.end() :]}"
            if not _FOOTNOTE.match(line) and (definition := _DEFINITION.match(line)):
                line = f"{definition['prefix']}\\{line[definition.end() :]}"
            self._lines.append(self._escape_line(line) if _MARKED.search(line) else line)
            if is_code and self._lines[-1] != typed:
                raise _Uncertain
            self._is_paragraph = not (is_code or heading or line.lstrip().startswith("|"))

    def end(self) -> str:
        """Close an open code block; return the converted reply. Raise _Uncertain if a formula is still open."""
        if self._in_formula:
            raise _Uncertain
        closing = [" " * self._indent + self._fence] if self._fence else []
        return "\n".join([*self._lines, *closing])

    def _break_line(self) -> None:
        """Make the end of the last line a hard break, outside of formulas.

        Two spaces, not a backslash, because they change nothing where a renderer reads code.
        """
        line = self._lines[-1]
        last = line.rstrip(" \t")
        is_broken = (
            len(line) - len(line.rstrip("\\"))
        ) % 2 == 1  # by a backslash that none escapes
        if not self._in_formula and not is_broken and last.lstrip(" \t>") not in ("", "$$"):
            self._lines[-1] = f"{last}  "

    def _is_indented_code(self, line: str) -> bool:
        columns = line.expandtabs(4)
        indent = len(columns) - len(columns.lstrip(" "))
        if indent >= self._item_indent + 4:
            return not self._is_paragraph
        if item := _LIST.match(columns):
            self._item_indent = item.end()
        elif _FOOTNOTE.match(columns):
            self._item_indent = 4
        elif not self._is_paragraph:
            self._item_indent = min(self._item_indent, indent)
        return False

    def _open_fence(self, line: str, mark: re.Match[str]) -> None:
        self._indent, self._fence = len(mark["prefix"]), mark["mark"]
        # A line that looks like a fence may be something else: a deeply indented line may be indented code or part of a
        # paragraph, and a line with "|" may be a row of a table.
        is_deep = self._indent > 3
        if (
            self._in_formula
            or "|" in mark["info"]
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
        if self._indent > 3 and _escaped(line) != line:
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

    def _escape_line(self, line: str) -> str:
        pairs = safe_text.tick_pairs(line)
        out: list[str] = []
        at = 0
        while found := _INLINE.search(line, at):
            begin, end = found.span()
            close = pairs.get(begin, 0)
            is_code = close > 0 and line.find("|", end, close) < 0
            out.append(line[at:begin])
            at = close if is_code else end
            out.append(self._escape_inline(found, line[begin:at], is_code=is_code))
        return "".join([*out, line[at:]])

    def _escape_inline(self, found: re.Match[str], text: str, *, is_code: bool) -> str:
        if found["delimiter"]:
            self._in_formula = not self._in_formula
        if found["link"] or (is_code and self._is_code_known):
            return text
        if label := found["footnote"]:
            new = None if self._in_formula else self._labels.get(label[2:-1].casefold())
            return f"[^{new}]" if new else text
        if found["ticks"]:
            self._is_code_known = False
        separator = " " if self._in_formula or found["formula"] else "\\"
        return _split(found, separator) if found["active"] else _escaped(text, separator)


def _escaped(text: str, separator: str = "\\") -> str:
    """Return *text* with HTML and images escaped."""
    return _ACTIVE.sub(lambda one: _split(one, separator) if one["active"] else one[0], text)


def _split(found: re.Match[str], separator: str) -> str:
    """Break up the start of an HTML tag or image: with a backslash, or in a TeX formula with a space, which TeX ignores."""
    is_escape = separator == "\\" and found[0] == "<"
    return f"{separator}<" if is_escape else f"{found[0]}{separator}"
