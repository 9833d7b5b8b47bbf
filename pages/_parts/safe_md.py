"""Text that others wrote, made safe for Streamlit's Markdown: it may link to the world, never load from it.

Where Markdown could be read in two ways, `body` trusts neither. Code keeps its text where no reading
makes an image of it: inside a fence that begins its line, for that ends whatever list or quotation stands
open; and elsewhere as long as no `](` and no definition could complete an image.
"""

import re
from collections.abc import Iterator
from itertools import groupby
from textwrap import dedent

# parts what would be read as one, and shows nothing
_JOINER = "\u2060"
_IMAGE = "!["

_FENCE = re.compile(r"(`{3,})[^`]*$|(~{3,})")
_CONTAINER = r"(?:[ \t>*+-]|\d{1,9}[.)]|\[\^[^\]]*\]:)*"
_FENCE_INSIDE = re.compile(rf"({_CONTAINER})(`{{3,}}(?=[^`]*$)|~{{3,}})(.*)$")
# what can hold lines that look as if they opened a fence, and do not: raw HTML, formulas, container
# directives, and a fence a little to the right, which a fence at the left ends
_HOLDS_LINES = re.compile(rf" {{1,3}}(?:```|~~~)|{_CONTAINER}(?:<[A-Za-z/!?]|\$\$|\\[\[\]]|:::)")
# Streamlit draws diagrams, which hold images; in a fence's name it decodes escapes and entities
_UNTRUSTED_NAME = re.compile(r"mermaid|language-|[&\\]", re.IGNORECASE)
_BLANK = re.compile(r"[ \t]*$")  # not str.isspace: a no-break space does not end a paragraph
_CODE_SPAN = re.compile(r"((?<![`\\])(`+)(?!`).+?(?<!`)\2(?!`))")

_ICON = re.compile(r":(?=material[/_]|streamlit:)")
_DIRECTIVE = re.compile(r"(?<!\\):(?=[^\W\d][\w-]*[\[{])")
_BLOCK_DIRECTIVE = re.compile(r"^(?=[ \t]*::+[^\W\d])([ \t]*)(:+)")
_TEX_SPAN = re.compile(r"(?<!\\)\\\([ \t]*([^$]*?[^$\s\\])[ \t]*\\\)")
_TEX_LINE = re.compile(r"^([ \t]*)\\\[[ \t]*([^$\s:][^$]*?)[ \t]*\\\][ \t]*$")
_TEX_EDGE = re.compile(r"^([ \t]*)\\[\[\]][ \t]*$")

_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")
_LINKS_ITSELF = re.compile(r"(:)(?=\S)|(@)|(\bwww)(?=\\?\.)", re.IGNORECASE)


def body(text: str) -> str:
    """*text* as Markdown without images, diagrams and Streamlit's own directives; TeX's brackets become dollars."""
    # Streamlit dedents and strips what it is given: we must read what the browser will
    text = dedent(text.replace("\r\n", "\n").replace("\r", "\n")).strip()
    has_definitions = "]:" in text
    out: list[str] = []
    loose: list[str] = []
    fence: str | None = None
    may_trust = True
    for line in text.split("\n"):
        if fence:
            out.append(line)
            fence = None if _ends(line, fence) else fence
        elif may_trust and (opening := _FENCE.match(line)):
            out += [*_loose(loose, has_definitions), _name_safely(line)]
            loose, fence = [], opening[1] or opening[2]
        else:
            may_trust = may_trust and not _HOLDS_LINES.match(line)
            loose.append(line)
    return "\n".join([*out, *_loose(loose, has_definitions)])


def label(text: str, limit: int = 60) -> str:
    """*text* as one plain line of at most *limit* characters, for what draws Markdown without being asked."""
    line = " ".join(text.split())
    line = line if len(line) <= limit else line[: limit - 1].rstrip() + "…"
    # escapes are decoded before addresses and icons are looked for
    parted = _LINKS_ITSELF.sub(lambda match: f"{match[0]}{_JOINER}", line)
    return _PUNCTUATION.sub(r"\\\1", parted)


def _loose(lines: list[str], has_definitions: bool) -> Iterator[str]:
    """The lines outside trusted fences. What we take for code here is a guess, and safe if wrong."""
    fence: str | None = None
    for _, group in groupby(lines, key=lambda line: bool(_BLANK.match(line))):
        paragraph = list(group)
        could_be_image = has_definitions or any("](" in line for line in paragraph)
        for line in paragraph:
            if fence:
                fence = None if _ends(line.lstrip(" \t>"), fence) else fence
                yield _code(_name_safely(line), could_be_image)
            elif opening := _FENCE_INSIDE.match(line):
                fence = opening[2]
                yield _code(_name_safely(line), could_be_image)
            else:
                yield _prose(line, could_be_image)


def _ends(line: str, fence: str) -> bool:
    return bool(re.match(rf" {{0,3}}{fence[0]}{{{len(fence)},}}[ \t]*$", line))


def _name_safely(line: str) -> str:
    """*line* with the language after a fence replaced if it is, or could be, one that draws."""
    opening = _FENCE_INSIDE.match(line)
    if opening and _UNTRUSTED_NAME.search(opening[3]):
        return f"{opening[1]}{opening[2]}text"
    return line


def _code(text: str, could_be_image: bool) -> str:
    return text.replace(_IMAGE, f"!{_JOINER}[") if could_be_image else text


def _prose(line: str, could_be_image: bool) -> str:
    line = _TEX_LINE.sub(r"\1$$\n\1\2\n\1$$", line)
    line = _TEX_EDGE.sub(r"\1$$", line)
    line = _BLOCK_DIRECTIVE.sub(lambda match: match[1] + r"\:" * len(match[2]), line)
    out, end = "", 0
    for span in _CODE_SPAN.finditer(line):
        out += _words(line[end : span.start()], could_be_image) + _code(span[0], could_be_image)
        end = span.end()
    return out + _words(line[end:], could_be_image)


def _words(text: str, could_be_image: bool) -> str:
    text = _TEX_SPAN.sub(r"$\1$", text)
    text = _ICON.sub(f":{_JOINER}", text)
    text = _DIRECTIVE.sub(r"\\:", text)
    return text.replace(_IMAGE, r"!\[") if could_be_image else text
