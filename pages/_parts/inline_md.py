"""Text of a line outside of code, rewritten so that Streamlit's Markdown draws it as it was written.

Formulas are put between dollars. Of what Streamlit adds to CommonMark and GitHub's variant, directives without brackets, seven
replaced marks and names of emoji within a path are undone. Beside Chinese, Japanese and Korean punctuation, bold text is closed
and bare links end.
"""

import re
import unicodedata
from collections.abc import Callable
from types import MappingProxyType

# the file of Streamlit's bundle in which the names and marks below were read; a test fails once there is another
BUNDLE = "StreamlitMarkdown.oOG-xoxw.js"
# an invisible character that keeps its two neighbours from being parsed as one token
JOINER = "\u2060"

_COLOURS = "red|orange|yellow|green|blue|violet|gray|grey|primary|rainbow"
# directives that vanish even without brackets: `:red` is drawn as an empty element of that colour
_VANISHING = rf"(?:(?:{_COLOURS})(?:-background|-badge)?|small|shimmer|color|help)(?=https?://|www\.|(?![\w:-]))"
# marks that Streamlit replaces between blanks and the ends of a piece of text, as `->` by an arrow. Backslashes and entities
# do not help, because the browser decodes them first
_LESS, _MORE = r"(?:\\?<|&lt;)", r"(?:\\?>|&gt;)"
_MARKS = rf"{_LESS}\\?-{_MORE}|{_LESS}\\?-|\\?-(?:{_MORE}|\\?-)|(?:{_LESS}|{_MORE}|\\?~)\\?="
_MARK_ENDS = (
    r"(?=[\s|*_`()\[\]$:;&\\]|~~|<[A-Za-z/!]|https?://|www\.|$)"  # what may begin another piece
)

_OPENING = "“‘（【「『《〈〔［｛"  # noqa: RUF001
_CLOSING = "，。、；：！？…”’）】」』》〉〕］｝｜～"  # noqa: RUF001
# punctuation that a bare link does not contain: of full width, and quotation marks, dashes and dots of Chinese text. The
# dot in names of Japanese pages (U+30FB) is not among it
_WIDE = (
    r"\u2014\u2015\u2018-\u201f\u2025-\u2027\u3001-\u3004\u3008-\u3020\u3030\u303d-\u303f\ufe10-\ufe6f"
    r"\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff64\uffe0-\uffe6"
)
_LINK_ENDS = re.compile(rf"[{_WIDE}]|(?P<marks>\*\*|~~)(?=[\w{_WIDE}])")
_EMOJI_BEFORE = re.compile(rf"[\s(*~\"'>{_WIDE}]?")
_EMOJI_AFTER = re.compile(rf"[\s).,!?*~\"'<{_WIDE}]?")
_BEFORE_ADDRESS = re.compile(r"(?:\]:[ \t]*|[<\[])$")
_LONGEST_LABEL = 300  # characters of a link's text in which another link is looked for
_AFTER_LINK = re.compile(r"[?!.,:*_~\"']+$")

# a host begins with no sign, as in "http://$HOST", and has no underscore
_LINK = r"(?i:https?://(?=[^\W_](?:[^\W_]|[.-])*+(?!_))|www\.)"
_DOLLARS = r"\$\$(?P<wide>(?:[^$\\]|\\.)++)\$\$(?!\$) | \$(?P<narrow>(?:[^$\\]|\\.)++)\$(?!\$)"
_SPAN = re.compile(
    rf"""
      (?P<link>{_LINK}(?:[^\s<>`\[\]*~{_WIDE}]|\*(?!\*)|~(?!~))+)
    | mailto:\S+ | \]\((?:[^\s()]|\([^\s()]*\))*+  # a backslash or a joiner would become part of these
    | \\\((?P<round>(?:[^\\]|\\[^()])*+)\\\)
    | \\\[(?P<square>(?:[^\\]|\\[^\[\]])*+)\\\](?!\()
    | (?<![-<=~{JOINER}])(?P<mark>{_MARKS}){_MARK_ENDS}
    | \\.
    | {_DOLLARS}
    | (?P<stars>\*+|(?<!~)~~(?!~))
    | (?P<directive>:(?={_VANISHING}))
    | (?P<emoji>(?::(?!(?!100:|1234:)\d+:)[a-zA-Z0-9_+-]+:(?!//))+)
    | \$+ | ~+
    """,
    re.VERBOSE,
)
# where a span may begin: a search for these is several times as fast as one for spans
_BEGINS = re.compile(r"\\|\$|\*|~|:|<|>|&|-|\]\(|http|Http|HTTP|www\.|Www\.|WWW\.|mailto:")
_IN_DOLLARS = re.compile(_DOLLARS, re.VERBOSE)

_IN_TEX = re.compile(r"(\\[^$])|(%)|\\?\$")
_COMMAND = re.compile(r"\\[A-Za-z]|\^|=")
_SIGN = re.compile(r"[\\^_={}+*<>|/]")
_WORD = re.compile(r"(?:^|\s)(?:[a-z]{3,}|or|and|to|of|is|in|by|at|on|if|as)(?=[\s.,;]|$)")
# functions that are often written without their backslash
_FUNCTION = re.compile(
    r"\b(?:mod|sin|cos|tan|log|exp|max|min|lim|gcd|det|sup|inf|arg|dim|ker|var|cov)\b"
)
_NO_BEGIN = re.compile(r"[\s/,;:)}\"'&]|\.(?!\d)")
_ORDINAL = re.compile(r"(?:th|st|nd|rd|s)\b")
# the rest of a shell variable, a ticker or a command of the shell, up to the next dollar
_VARIABLE = re.compile(
    r"(?P<name>\{[#!]?[A-Za-z_][^{}\\]*\}|\{\{[^{}\\]*\}\}|\([^()\\^]*\)|[A-Za-z_]\w*|\d+|[@#?])(?P<rest>.*)$"
)
# ends of the text between the names of two: nothing but signs, or a sign that ends no formula
_BETWEEN = re.compile(r"^(?:\^|(?:[^\w^!]|_)+)$|[^\w\s\\!*^\]})'](?<![\^{_][+-])$")
_SHELL_COMMAND = re.compile(r"\([a-z]{2,}\b[^()\\^=]*\)[/:,;]")
_AMOUNT = r"\d[\d.,]*(?:[kKMB万亿]|bn)?\+?"
_PRICE = re.compile(rf"{_AMOUNT}(?: ?[-–—~～到至] ?{_AMOUNT})?(?:/[a-z]{{2,}})?$")  # noqa: RUF001
_PRICE_BEFORE = re.compile(r"\d[kKMB万]?$")
_SECOND_PRICE = re.compile(
    r"(?:[^\w\s\\^{}<>]|(?=[\u3040-\u9fff\uac00-\ud7af]))[^\\^_={}]*\d[kKMB万]?$"
)

# a formula of more than a number, anywhere in a text
_ANY_FORMULA = re.compile(r"\\[A-Za-z(\[]|\$\$|\$[A-Za-z\\(][^$\n]*(?<!\s)\$(?![A-Za-z{(])")
_BLANK_MARK = re.compile(r"(?<!\S)(?:<->|<-|->|--|<=|>=|~=)(?!\S)")  # in plain text


def rewrite(text: str, before: str = "", after: str = "", *, has_formulas: bool = True) -> str:
    """Return *text*, which stands between the characters *before* and *after* ("" at an end of the line), rewritten.

    *has_formulas*: an amount between dollars is a formula, and no price.
    """
    whole = f"{before}{text}{after}"
    begin, stop = len(before), len(before) + len(text)
    out: list[str] = []
    at = begin
    while found := _BEGINS.search(whole, at, stop):
        at = found.start()
        if not (span := _SPAN.match(whole, at, stop)):
            at += 1
            continue
        if not has_formulas and _PRICE.match(span["narrow"] or ""):
            drawn, end = r"\$", at + 1
        else:
            drawn, end = _RULES.get(span.lastgroup or "", _escape)(span)
        out += [whole[begin:at], drawn]
        begin = at = end
    return "".join([*out, whole[begin:stop]])


def holds_formulas(text: str) -> bool:
    """Return whether *text* has formulas of more than a number."""
    return _ANY_FORMULA.search(text) is not None


def separate_marks(label: str) -> str:
    """Return *label*, whose punctuation is not escaped yet, with a joiner beside each mark that Streamlit replaces."""
    return _BLANK_MARK.sub(lambda found: f"{found[0]}{JOINER}", label)


def _escape(span: re.Match[str]) -> tuple[str, int]:
    """Return *span* with its dollar signs and a single tilde escaped, and its end."""
    text = span[0]
    escaped = re.sub(r"\$|^~$", r"\\\g<0>", text) if text[0] in "$~" else text
    return escaped, span.end()


def _dollars(span: re.Match[str]) -> tuple[str, int]:
    """Return *span* if it is a formula, else its first dollars escaped; and the end of what was read."""
    begin, end = span.start(), span.end()
    if formula := span["wide"]:
        is_variable = _is_variable(formula, span.string[end : end + 3])
        if formula.strip() and not (is_variable or _is_prose(formula)):
            return f"$${_tex(formula)}$$", end
        return r"\$\$", begin + 2
    formula = span["narrow"]
    if _is_formula(formula, span.string[max(0, begin - 2) : begin], span.string[end : end + 3]):
        return f"${_tex(formula)}$", end
    return r"\$", begin + 1


def _is_formula(text: str, before: str, after: str) -> bool:
    """Return whether *text* between two single dollars is a formula.

    *before* are two characters before the first dollar, *after* the three behind the second, as far as there are any. It is
    one by pandoc's rule (no blank inside beside a dollar, no digit behind the second), unless the dollars are signs of
    shell variables ("$HOME/bin:$PATH"), tickers ("$A/$B") or prices ("5$/7$", "$5 or 7$").
    """
    is_command = _SHELL_COMMAND.match(text) or (text[0] == "(" and after[:1] == "(")
    is_price = _PRICE_BEFORE.search(before) and _SECOND_PRICE.match(text)
    return not (
        _NO_BEGIN.match(text)
        or text[-1].isspace()
        or after[:1].isdigit()
        or _is_variable(text, after)
        or is_command
        or is_price
        or _is_prose(text)
    )


def _is_variable(text: str, after: str) -> bool:
    """Return whether *text* begins with the name of a variable or ticker, and *after* with that of another."""
    found = _VARIABLE.match(text)
    if _ORDINAL.match(after) or not re.match(r"[A-Za-z_{(@?#*!]", after):
        return False
    name, rest = (found["name"], found["rest"]) if found else ("", text)
    if not re.match(r"[A-Za-z_{]", after):
        return rest[-1:] in {"/", ":", "="}
    if rest == "":
        return len(name) > 1 and not name.isdigit() and not name.startswith("(")
    return name != "" and (rest[0] in "/:" or _BETWEEN.search(rest) is not None)


def _is_prose(text: str) -> bool:
    """Return whether *text* has words, and no sign of a formula."""
    return bool(
        re.search(r"\s", text)
        and not _SIGN.search(text)
        and not _FUNCTION.search(text)
        and (_WORD.search(text) or re.match(r"\d.*\s(?:[a-z]{3,}|USD|EUR)\b", text))
    )


def _brackets(span: re.Match[str]) -> tuple[str, int]:
    r"""Return the formula in TeX's brackets, `\(…\)` or `\[…\]`, between dollars; a mere escaped bracket unchanged."""
    begin, end = span.span()
    inner = span["round"] or span["square"] or ""
    tex = inner.strip()  # of no-break spaces, too, before which a dollar would not begin a formula
    is_padded = inner[:1].isspace() and inner[-1:].isspace()
    is_meant = span["square"] is None or is_padded or _COMMAND.search(tex)
    holds_formula = any(_dollars(found)[1] == found.end() for found in _IN_DOLLARS.finditer(tex))
    if not tex or tex.endswith("\\") or not is_meant or holds_formula or _is_prose(tex):
        return span[0][:2], begin + 2
    before, after = span.string[max(0, begin - 2) : begin], span.string[end : end + 3]
    # Streamlit does not read a single dollar before a digit as the end of a formula
    if not _is_formula(tex, before, after.lstrip("0123456789")):
        tex = f"{{{tex}}}"  # as it is, it would be no formula between dollars
    dollars = "$$" if after[:1].isdigit() else "$"
    # without the joiners, the dollars of two adjacent formulas would be read as `$$`
    first = JOINER if before.endswith(("$", r"\)", r"\]")) else ""
    return f"{first}{dollars}{_tex(tex)}{dollars}{JOINER if after[:1] == '$' else ''}", end


def _tex(formula: str) -> str:
    """Return *formula* with a TeX command for each dollar sign, because a backslash does not escape it in a formula.

    A percent sign is escaped, because it would hide the rest of the formula.
    """
    return _IN_TEX.sub(lambda found: found[1] or (r"\%" if found[2] else r"\char36{}"), formula)


def _link(span: re.Match[str]) -> tuple[str, int]:
    """Return a bare link; one that wide punctuation or the end of bold text follows gets brackets.

    By GitHub's rule, it would go on.
    """
    address, begin, end = span["link"], span.start(), span.end()
    line = span.string[max(0, begin - _LONGEST_LABEL) : begin]
    is_in_label = line.rfind("[") > line.rfind(
        "]"
    )  # a link within the text of another would end that
    ends = _LINK_ENDS.match(span.string, end)
    if is_in_label or _BEFORE_ADDRESS.search(line) or not ends:
        return address, end
    address = _without_last_brackets(_AFTER_LINK.sub("", address))
    end = begin + len(address)
    is_www = address.lower().startswith("www.")
    if is_www and re.search(r"[()\\]", address):
        return span["link"], span.end()
    # an exclamation mark would make an image of the link, and bold text neither opens nor closes beside a bracket
    first = JOINER if line.endswith(("!", "*", "~")) else ""
    last = JOINER if ends["marks"] else ""
    linked = f"[{address}](http://{address})" if is_www else f"<{address}>"
    return f"{first}{linked}{last}", end


def _without_last_brackets(address: str) -> str:
    """Return *address* up to the first closing bracket that none in it opened."""
    depth = 0
    for at, character in enumerate(address):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth < 0:
            return address[:at]
    return address


def _mark(span: re.Match[str]) -> tuple[str, int]:
    """Return a mark with a joiner: behind it or before it, at a blank, where it parts no other tokens; else within it."""
    before, after = _beside(span)
    mark = span[0] if span[0][0] != "~" else rf"\{span[0]}"
    if not after or after.isspace():
        return f"{mark}{JOINER}", span.end()
    if not before or before.isspace():
        return f"{JOINER}{mark}", span.end()
    first = re.match(r"\\?[-<>~]|&[lg]t;", mark)
    size = first.end() if first else 1
    return f"{mark[:size]}{JOINER}{mark[size:]}", span.end()


def _stars(span: re.Match[str]) -> tuple[str, int]:
    """Return a run of stars or tildes, with a joiner where it could else not open or close beside CJK characters.

    CommonMark lets no run open before punctuation and behind a letter, and none close behind punctuation and before a
    letter: right where blanks part words. The rule for CJK is that of github.com/tats-u/markdown-cjk-friendly.
    """
    before, after = _beside(span)
    if not (_is_cjk(before) or _is_cjk(after)):
        return span[0], span.end()
    kinds = _kind(before), _kind(after)
    first = JOINER if kinds == ("punctuation", "letter") and before not in _OPENING else ""
    last = JOINER if kinds == ("letter", "punctuation") and after not in _CLOSING else ""
    return f"{first}{span[0]}{last}", span.end()


def _beside(span: re.Match[str]) -> tuple[str, str]:
    """Return the characters before and after *span*; "" at an end of the line."""
    begin, end = span.span()
    return span.string[max(0, begin - 1) : begin], span.string[end : end + 1]


def _is_cjk(character: str) -> bool:
    return character != "" and unicodedata.east_asian_width(character) in "WFH"


def _kind(character: str) -> str:
    """Return what the browser's parser, which reads UTF-16, takes *character* for; "" is an end of the line."""
    if not character or character.isspace():
        return "blank"
    is_punctuation = unicodedata.category(character)[0] in "PS" and character <= "\uffff"
    return "punctuation" if is_punctuation else "letter"


def _directive(span: re.Match[str]) -> tuple[str, int]:
    return r"\:", span.end()


def _emoji(span: re.Match[str]) -> tuple[str, int]:
    """Return names of emoji that stand by themselves; in others, as in a path or a slice, joiners behind the colons."""
    before, after = _beside(span)
    is_alone = _EMOJI_BEFORE.fullmatch(before) and _EMOJI_AFTER.fullmatch(after)
    if is_alone:
        return span[0], span.end()
    # the last colon may begin a directive
    return re.sub(r":(?=[\w+-])", f":{JOINER}", span[0][:-1]), span.end() - 1


_RULES: MappingProxyType[str, Callable[[re.Match[str]], tuple[str, int]]] = MappingProxyType(
    {
        "link": _link,
        "round": _brackets,
        "square": _brackets,
        "mark": _mark,
        "wide": _dollars,
        "narrow": _dollars,
        "stars": _stars,
        "directive": _directive,
        "emoji": _emoji,
    }
)
