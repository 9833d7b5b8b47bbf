"""The words by which texts and queries are compared: folded, in order, stop words too.

A word is a run of letters, digits and marks. Texts in scripts without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese)
are pairs of adjacent characters and the last character alone, so a query of two characters or more is a phrase of pairs.
The index's tokenizer (`ascii` of SQLite's FTS5) takes each character outside ASCII for a part of a word, so `indexed` puts
blanks where words end.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise

from services.domain import safe_text

_MOST_CHARACTERS = 10_000  # of a query
_MOST_WORDS = 32  # of a query
_LONGEST_WORD = (
    200  # characters of a word that are compared; FTS5 would cut a longer one within a character
)
# letters that Unicode does not decompose, as they are written without their strokes
_PLAIN = str.maketrans(
    {
        "ł": "l",
        "ø": "o",
        "đ": "d",
        "ħ": "h",
        "\u0131": "i",
        "æ": "ae",
        "œ": "oe",
        "ð": "d",
        "þ": "th",
    }
)
# marks that readers leave out in a search: accents, Hebrew points, Arabic vowel signs; and characters without a width.
# Vowel signs of Thai and Indic scripts stay: words differ by them alone.
_LEFT_OUT = re.compile(
    "[\u00ad\u0300-\u036f\u0483-\u0487\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u0640"
    "\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed\u1ab0-\u1aff\u1dc0-\u1dff"
    "\u200b-\u200f\u202a-\u202e\u2060-\u2064\u20d0-\u20ff\ufe00-\ufe0f\ufe20-\ufe2f\ufeff]+"
)
# scripts without spaces: Thai, Lao, Burmese, Khmer; Japanese, Bopomofo, Chinese
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u312f\u31a0-\u31ff"
    "\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_RUNS = re.compile(f"[{_UNSPACED}]+")
_ASCII_RUN = re.compile(r"[a-zA-Z0-9]+")
_BLANKS = {
    code: " " for code in range(128) if not chr(code).isalnum()
}  # several times as fast as `_ASCII_RUN`
_PIECE = re.compile(r'(-?)"([^"]*)"?|(-?)([^\s"]+)')


def fold(text: str) -> str:
    """Return *text* in lower case, without accents and letter variants."""
    if text.isascii():
        return text.lower()
    text = safe_text.normalize("NFKD", text.casefold()).translate(_PLAIN)
    return safe_text.normalize("NFC", _LEFT_OUT.sub("", text))


def indexed(text: str) -> str:
    """Return the words of *text* in order, for a tokenizer that ends words at ASCII characters other than letters and digits."""
    folded = fold(text)
    return folded if folded.isascii() else " ".join(words_of(folded))


def placed_words(text: str) -> Iterator[tuple[str, int, int]]:
    """Yield the words of *text* in order, each with its begin and its end in *text*."""
    if text.isascii():
        yield from ((match[0], *match.span()) for match in _runs(text.lower()))
        return
    for match in _runs(text):
        run, begin = fold(match[0]), match.start()
        is_even = len(run) == len(match[0])  # each character is one character of the text
        at = 0
        for part in _parts(run):
            if is_even:
                yield part, begin + at, begin + at + len(part)
            else:
                yield part, begin, match.end()
            at += 1 if _RUNS.match(part) else len(part)


def words_of(folded: str) -> list[str]:
    """Return the words of a *folded* text in order."""
    if folded.isascii():
        return [run[:_LONGEST_WORD] for run in folded.translate(_BLANKS).split()]
    runs = [match[0] for match in _runs(folded)]
    if _RUNS.search(folded):
        return [word for run in runs for word in _parts(run)]
    return [run[:_LONGEST_WORD] for run in runs]


def _parts(run: str, *, is_open: bool = False) -> Iterator[str]:
    """Yield a run of letters, or the pairs and the last character of each part of it that is in a script without spaces.

    *is_open*: the run may go on, so after pairs its last character does not stand alone.
    """
    begun = 0
    for match in _RUNS.finditer(run):
        if match.start() > begun:
            yield run[begun : match.start()]
        begun = match.end()
        yield from map("".join, pairwise(match[0]))
        if not (is_open and begun == len(run) and len(match[0]) > 1):
            yield match[0][-1]
    if begun < len(run):
        yield run[begun : begun + _LONGEST_WORD]


def _runs(text: str) -> Iterator[re.Match[str]]:
    """Match each run of letters, digits and marks."""
    pattern = _ASCII_RUN if text.isascii() else _run()
    return pattern.finditer(text.replace("_", " "))


@cache
def _run() -> re.Pattern[str]:
    """Match a run that is not ASCII alone. Compiled at the first call, as 2,000 characters are marks."""
    codes = range(0x300, 0x20000)
    marks = (chr(code) for code in codes if unicodedata.category(chr(code)) in {"Mn", "Mc"})
    return re.compile(f"[\\w{''.join(marks)}\u00ad\u0640\u200b-\u200f\u2060-\u2064\ufeff]+")


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a query that a text must have, or must not have."""

    words: tuple[str, ...] = field(repr=False)  # adjacent, in this order
    is_exact: bool  # True: in no other form
    is_begun: bool = False  # True: the last word may go on


@dataclass(frozen=True, slots=True)
class Query:
    """What a text must have, and what it must not have, to be found."""

    wanted: tuple[Part, ...]
    excluded: tuple[Part, ...] = ()

    @property
    def is_empty(self) -> bool:
        """True if nothing is wanted: the query finds nothing, whatever it excludes."""
        return not self.wanted

    @property
    def wanted_words(self) -> list[str]:
        """The words of all wanted parts."""
        return [word for part in self.wanted for word in part.words]

    @property
    def excluded_words(self) -> list[str]:
        """The words of all excluded parts."""
        return [word for part in self.excluded for word in part.words]

    @classmethod
    def read(cls, text: str) -> "Query":
        """Read what a user typed: words, "phrases", and either with a minus in front. The last word may be unfinished."""
        wanted, excluded, count = list[Part](), list[Part](), 0
        text = text[:_MOST_CHARACTERS]
        for match in _PIECE.finditer(text):
            is_phrase = match[4] is None
            minus, typed = (match[1], match[2]) if is_phrase else (match[3], match[4])
            *others, last = ["", *(run[0] for run in _runs(fold(typed)))]
            words = [word for run in others for word in _parts(run)]
            words += _parts(last, is_open=True)
            found = words[: _MOST_WORDS - count]
            count += len(found)
            if found:
                is_last = match.end() == len(text) and not is_phrase
                is_begun = is_last or bool(_RUNS.fullmatch(found[-1]) and len(found[-1]) == 1)
                is_exact = is_phrase or len(found) > 1 or bool(_RUNS.search(found[0]))
                part = Part(tuple(found), is_exact, is_begun)
                (excluded if minus else wanted).append(part)
        return cls(tuple(wanted), tuple(excluded))
