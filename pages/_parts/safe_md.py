"""Untrusted text, made safe for Streamlit's Markdown: it may link to other hosts, but never load content from them.

Formulas are rewritten to Streamlit's syntax: between dollars (`inline_md`), or between lines of `$$`.

Where two parsers of Markdown could disagree, `body` makes the text safe for both. Code stays unchanged only where
no parser could find an image in it: in a fence at the start of a line, which also ends any open list or
quotation; and elsewhere if the text has no `](` and no link definition that could complete an image.
"""

import re
from collections.abc import Generator, Iterator, Sequence, Set
from contextlib import suppress
from html import unescape
from itertools import groupby, pairwise
from textwrap import dedent
from typing import NamedTuple
from urllib.parse import urlsplit

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages._parts import inline_md
from pages._parts.inline_md import JOINER
from services.domain import safe_text

_IMAGE = "!["
_DIAGRAM_NAME = "diagram"  # assets/page/text.js shows "mermaid" instead

_CONTAINER = r"(?:[ \t>*+-]|\d{1,9}[.)]|\[\^[^\]]*\]:)*"
_LINKED = frozenset({"http", "https", "mailto", "tel"})
_DANGEROUS = frozenset({"data", "blob", "file", "filesystem", "javascript", "vbscript"})
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):", re.IGNORECASE)
# places in Markdown that a URL follows: in a link, in a link definition, in an automatic link
_ADDRESS = re.compile(
    r"\](?P<mark>[(:])(?=\s*<?(?P<address>[^\s()<>\[\]]{1,300}))|<(?=(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]{1,31}):)"
)
_FOOTNOTE = re.compile(r"\[\^[^\[\]\s]+$")
_ADDRESS_FOLLOWS = re.compile(r"\][(:]\s*+(?:<\s*+)?$")
_LINE_BEGINS = re.compile(rf"{_CONTAINER}\s*<?(?P<address>[^\s()<>\[\]]{{1,300}})?")
_ESCAPED = re.compile(r"\\([!-/:-@\[-`{-~])")

_TEXT = r"(?:[^\[\]\\]|\\.)*+"
_LOADED = rf"!\[(?P<text>{_TEXT})\]\([ \t]*(?P<address>https?://(?:[^\s()<>\[\]]|\([^\s()<>\[\]]*+\))++)(?:[ \t]+(?:\"[^\"]*\"|'[^']*'))?[ \t]*\)"
_LINKED_IMAGE = re.compile(rf"(?<![\\!])\[{_LOADED}\]\(")
_ONE_IMAGE = re.compile(rf"(?<!\\){_LOADED}")

_FENCE = re.compile(r"(`{3,})[^`]*$|(~{3,})")
_FENCE_INSIDE = re.compile(rf"({_CONTAINER})(`{{3,}}(?=[^`]*$)|~{{3,}})(.*)$")
# first lines of blocks in which a line may look like a code fence without being one: raw HTML, formulas, container
# directives, and an indented fence (an unindented fence below it ends its block)
_HOLDS_LINES = re.compile(
    rf" {{1,3}}(?:```|~~~)|{_CONTAINER}(?:<[A-Za-z/!?]|\$\$|\\[\[\]]|\\begin\{{|:::)"
)
# Streamlit draws a code block in this language as a diagram, which can load images; it decodes escapes
# and entities in the name of the language
_DIAGRAM = re.compile("mermaid", re.IGNORECASE)
_UNTRUSTED_NAME = re.compile(r"mermaid|language-|[&\\]", re.IGNORECASE)
_NAMES = {
    "c++": "cpp",
    "c#": "csharp",
    "f#": "fsharp",
    "objective-c": "objectivec",
}  # Streamlit accepts only letters, digits and underscores in a language's name
# not str.isspace: a line with a no-break space does not end a paragraph
_BLANK = re.compile(r"[ \t]*$")

_MARKED = re.compile(r"[`$~\\:!<\]]|--|->|>=|&[lg]t;|www\.|W[wW]{2}\.")
_ICON = re.compile(r":(?=material[/_]|streamlit:)")
# its name is any run of characters but punctuation; one that is not known is drawn without what is in the brackets
_DIRECTIVE = re.compile(
    r"(?<!mailto)(?<!\\)((?:\\\\)*+):(?=[^\s!-/:-@\[-`{-~][^\s!-,./:-@\[-^`{-~]*[\[{])"
)
_BLOCK_DIRECTIVE = re.compile(rf"({_CONTAINER.removesuffix('*')}*+)(::+)(?=[^\W\d])")

_PREFIX = r"(?P<prefix>(?:[ \t]*+(?:>|(?:[*+-]|\d{1,9}[.)])(?=[ \t])))*+[ \t]*+)"
_ENVIRONMENT = (
    r"(?:align|alignat|gather|equation)\*?|aligned|gathered|split|cases|[pbvBV]?matrix|CD"
)
_FORMULA = re.compile(
    rf"""
    (?<!\\\[\n)^{_PREFIX}(?:
        \$\$(?!\$)(?P<dollars>(?:[^$\\]|\\[\s\S]|\$(?!\$))++)\$\$(?!\$)
      | \\\[(?P<brackets>(?:[^\\]|\\(?![\[\]])[\s\S])*+)\\\]
      | (?P<whole>\\begin\{{(?P<name>{_ENVIRONMENT})\}}
          (?:[^\\]|\\(?!(?:begin|end)\{{(?P=name)\}})[\s\S])*+\\end\{{(?P=name)\}})
    )[ \t]*$
    """,
    re.MULTILINE | re.VERBOSE,
)
_EDGE = re.compile(rf"{_PREFIX}(?P<mark>\$\$|\\[\[\]])[ \t]*$")
# a formula in TeX's brackets that goes on in further lines of its paragraph
_WRAPPED = re.compile(
    r"\\\((?:[^\\`$\n]|\\[^()$\n])*+(?:\n(?![ \t>]*[|#*\n])(?:[^\\`$\n]|\\[^()$\n])*+){1,9}\\\)"
    r"|\\\[(?:[^\\`$\n]|\\[^\[\]$\n])*+(?:\n(?![ \t>]*[|#*\n])(?:[^\\`$\n]|\\[^\[\]$\n])*+){1,9}\\\]"
)
_LINE_END = re.compile(r"[ \t]*\n[ \t>]*")
# a line that may be the underline of a heading or table, or a break: no mark in it is text
_UNDERLINE = re.compile(r"[ \t>]*[-:| \t]+$")

_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")
_LINKS_ITSELF = re.compile(r"(:)(?=\S)|(@)|(\bwww)(?=\\?\.)", re.IGNORECASE)


def draw(text: str, place: DeltaGenerator | None = None) -> None:
    """Draw *text* as safe Markdown, in *place* if given; a text that is too long to parse is drawn as code."""
    target = place or st
    if (markdown := body(text)) is not None:
        target.markdown(markdown)
    else:
        # two line breaks are added, because st.code removes one at each end, which would otherwise be the text's own
        target.code(f"\n{text}\n", language=None, wrap_lines=True)


def body(text: str) -> str | None:
    """Return *text* as Markdown without images, diagrams and Streamlit's directives; None if it is too long to parse.

    TeX's brackets around formulas become dollars. An image becomes a link that names the image's host. Links may lead to
    web pages, mail addresses and telephone numbers.
    """
    if not safe_text.is_readable(text):
        return None
    # dedented and stripped as Streamlit does, so that the text is parsed as the browser will see it
    text = dedent(text.replace("\r\n", "\n").replace("\r", "\n")).strip()
    has_definitions, has_formulas = "]:" in text, inline_md.holds_formulas(text)
    out: list[str] = []
    loose: list[str] = []
    fence: str | None = None
    may_trust = True
    for line in text.split("\n"):
        if fence:
            out.append(line)
            fence = None if _ends(line, fence) else fence
        elif may_trust and (opening := _FENCE.match(line)):
            out += [*_loose(loose, has_definitions, has_formulas), _name_safely(line)]
            loose, fence = [], opening[1] or opening[2]
        else:
            may_trust = may_trust and not _HOLDS_LINES.match(line)
            loose.append(line)
    return "\n".join([*out, *_loose(loose, has_definitions, has_formulas)])


def label(text: str, limit: int = 60) -> str:
    """Return *text* as one plain line of at most *limit* characters, for elements that always render Markdown."""
    line = " ".join(text.split())
    line = line if len(line) <= limit else line[: limit - 1].rstrip() + "…"
    # joiners, not backslashes, because the browser decodes backslash escapes before it looks for URLs and icons
    parted = inline_md.separate_marks(_LINKS_ITSELF.sub(lambda match: f"{match[0]}{JOINER}", line))
    return _PUNCTUATION.sub(r"\\\1", parted)


class _Traits(NamedTuple):
    """Traits of a paragraph and its text: it may have an image, and the text has formulas of more than a number."""

    could_be_image: bool
    has_formulas: bool


def _loose(lines: list[str], has_definitions: bool, has_formulas: bool) -> Iterator[str]:
    """Make *lines*, which are outside of trusted fences, safe, and yield them.

    The search for code and formulas in *lines* is only a guess; the lines are safe even if the guess is wrong.
    """
    fence: str | None = None
    in_formula = False
    lines = [_part_address(line, after) for line, after in pairwise([*lines, ""])]
    for _, group in groupby(lines, key=lambda line: bool(_BLANK.match(line))):
        paragraph, prose = list(group), list[str]()
        could_be_image = has_definitions or any("](" in line for line in paragraph)
        traits = _Traits(could_be_image, has_formulas)
        for line in paragraph:
            opening = None if fence else _FENCE_INSIDE.match(line)
            if not (fence or opening):
                prose.append(line)
                continue
            in_formula = yield from _prose(prose, traits, in_formula)
            prose = []
            yield _code(_name_safely(line), could_be_image)
            if opening:
                fence = opening[2]
            elif fence and _ends(line.lstrip(" \t>"), fence):
                fence = None
        in_formula = yield from _prose(prose, traits, in_formula)


def _ends(line: str, fence: str) -> bool:
    return bool(re.match(rf" {{0,3}}{fence[0]}{{{len(fence)},}}[ \t]*$", line))


def _name_safely(line: str) -> str:
    """Return *line*; if it opens a code fence, use Streamlit's name for the language, and replace unsafe languages."""
    opening = _FENCE_INSIDE.match(line)
    if not opening:
        return line
    known = _NAMES.get(opening[3].strip().lower())
    name = "text" if _UNTRUSTED_NAME.search(opening[3]) else known
    if _DIAGRAM.search(opening[3]):
        name = _DIAGRAM_NAME
    return f"{opening[1]}{opening[2]}{name}" if name else line


def _code(text: str, could_be_image: bool) -> str:
    text = _part_addresses(text, _DANGEROUS, are_linked=False)
    return text.replace(_IMAGE, f"!{JOINER}[") if could_be_image else text


def _part_addresses(text: str, schemes: Set[str], *, are_linked: bool) -> str:
    """Return *text* with some links disabled (automatic links too), depending on the schemes of their URLs.

    If *are_linked*, only links with one of *schemes* stay; otherwise only such links are disabled. Relative links stay.
    """

    def part(found: re.Match[str]) -> str:
        scheme = (found["scheme"] or "").lower() or _scheme(found["address"])
        is_linked = not scheme or (scheme in schemes) == are_linked
        is_note = found["mark"] == ":" and _FOOTNOTE.search(
            text, max(0, found.start() - 99), found.start()
        )
        if is_linked or is_note:
            return found[0]
        return f"{found[0][0]}{JOINER}{found[0][1:]}"

    return _ADDRESS.sub(part, text)


def _part_address(line: str, after: str) -> str:
    """Return *line*; if it ends in a link whose URL, on the next line (*after*), is dangerous, disable the link."""
    if not _ADDRESS_FOLLOWS.search(line):
        return line
    begins = _LINE_BEGINS.match(after)
    scheme = _scheme(begins["address"] or "") if begins else ""
    if scheme not in _DANGEROUS:
        return line
    at = line.rindex("]") + 1
    return f"{line[:at]}{JOINER}{line[at:]}"


def _scheme(address: str) -> str:
    """Return the scheme of the URL *address* as a browser reads it, in lower case; "" for a relative URL."""
    found = _SCHEME.match(unescape(_ESCAPED.sub(r"\1", address)))
    return found[1].lower() if found else ""


def _link_image(found: re.Match[str], rest: str = "") -> str:
    """Return a link that names the host of the image *found*, then *rest*; if no host can be read, return the image unchanged."""
    address = unescape(found["address"])
    with suppress(ValueError):
        if "\\" not in address and (host := urlsplit(address).hostname):
            text = found["text"].strip()
            named = f"{text} (image on {host})" if text else f"Image on {host}"
            return f"[{named}]({found['address']}){rest}"
    return found[0]


def _prose(lines: list[str], traits: _Traits, in_formula: bool) -> Generator[str, None, bool]:
    """Yield the *lines* of a paragraph outside of code fences, made safe; return True if a formula continues after them."""
    text = "\n".join(lines)
    if not in_formula:
        text = _FORMULA.sub(_on_lines, text)
        text = _WRAPPED.sub(lambda formula: _LINE_END.sub(" ", formula[0]), text)
    before: list[str] = []
    for line in text.split("\n") if lines else ():
        if "::" in line and (block := _BLOCK_DIRECTIVE.match(line)):
            line = block[1] + r"\:" * len(block[2]) + line[block.end() :]
        edge = _EDGE.match(line)
        if edge and edge["mark"] != (r"\[" if in_formula else r"\]"):
            in_formula = not in_formula
            yield f"{edge['prefix']}$$"
        elif in_formula:
            yield _guard(_name_safely(line), traits.could_be_image)
        elif _is_underline(line, before):
            yield line
        else:
            yield _line(line, traits)
        before.append(line)
    return in_formula


def _is_underline(line: str, before: Sequence[str]) -> bool:
    """Return whether *line*, behind the lines *before* of its paragraph, is a break, or underlines a heading or a table."""
    if not _UNDERLINE.match(line):
        return False
    if "|" in line:  # below the underline of a table, a row of it
        return not any(map(_UNDERLINE.match, before))
    return len(before) > 0 or line.count("-") > 2


def _on_lines(formula: re.Match[str]) -> str:
    """Return *formula* between two lines of `$$`, because Streamlit would hide text beside the dollars."""
    prefix = formula["prefix"]
    # the indentation of a list item's second and later lines
    inner = re.sub(r"[^>\s]", " ", prefix)
    tex = formula["dollars"] or formula["brackets"] or formula["whole"] or ""
    first, *more = tex.split("\n")
    if not (first.strip() or more):
        return formula[0]
    *more, last = more or [inner]
    end = last[: len(last) - len(last.lstrip(" \t>"))]
    lines = [
        f"{prefix}$$",
        *([f"{inner}{first.strip()}"] if first.strip() else []),
        *more,
        *([last] if last != end else []),
        f"{end}$$",
    ]
    return "\n".join(lines)


def _line(line: str, traits: _Traits) -> str:
    is_bold = "*" in line and not line.isascii()  # perhaps beside CJK characters
    if not (_MARKED.search(line) or is_bold):
        return line  # a short cut: most lines need no escaping
    out: list[str] = []
    end = 0
    for begin, close in sorted(safe_text.tick_pairs(line).items()):
        if begin >= end and line[begin - 1 : begin] != "\\":
            out.append(_words(line, end, begin, traits))
            out.append(_code(line[begin:close], traits.could_be_image))
            end = close
    return "".join([*out, _words(line, end, len(line), traits)])


def _words(line: str, begin: int, end: int, traits: _Traits) -> str:
    """Return the part of *line* from *begin* to *end*, between two code spans, made safe and as it was written."""
    text, before = line[begin:end], line[max(0, begin - 1) : begin]
    if traits.could_be_image and _IMAGE in text:
        text = _LINKED_IMAGE.sub(
            lambda found: _link_image(found, f" [{found['text'] or 'link'}]("), text
        )
        text = _ONE_IMAGE.sub(_link_image, text)
    after = line[end : end + 1]
    text = inline_md.rewrite(text, before, after, has_formulas=traits.has_formulas)
    return _guard(text, traits.could_be_image)


def _guard(text: str, could_be_image: bool) -> str:
    text = _part_addresses(text, _LINKED, are_linked=True)
    text = _ICON.sub(f":{JOINER}", text)
    text = _DIRECTIVE.sub(r"\1\\:", text)
    # also if a link was made of an address
    return text.replace(_IMAGE, r"!\[") if could_be_image or "](" in text else text
