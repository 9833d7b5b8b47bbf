"""Safe processing of untrusted text: normalisation in linear time, and limits before regular expressions.

Python holds its global lock while it normalises text or matches an expression, and normalisation sorts a run of combining
marks in quadratic time. One text could therefore stop the process for all users. The limits apply only to display and
search: text is stored, sent, encrypted and exported unchanged, byte for byte.
"""

import re
import unicodedata
from collections.abc import Iterator
from typing import Literal

MOST_MARKS = 30  # maximum combining marks in a row, as in the Stream-Safe Text Format (UAX #15)
LONGEST_TEXT = 400_000  # characters of a text that is parsed as Markdown: twice the longest prompt
# characters of a line that is parsed as Markdown; longer lines are taken for data, not prose
LONGEST_LINE = 20_000
JOINERS = "\u200c\u200d"  # zero-width joiners, which occur in Persian and Hindi words and in emoji

# a superset of the combining marks, for a fast first test; U+FF9E and U+FF9F decompose to marks
_MARK = r"(?:[^\w\x00-\x7f]|[\uff9e\uff9f])"
_TICKS = re.compile("`+")
_MAYBE_MANY = re.compile(rf"(?<!{_MARK}){_MARK}{{{MOST_MARKS + 1}}}")


def pieces(text: str) -> Iterator[str]:
    """Yield *text* in pieces that have at most `MOST_MARKS` combining marks in a row. Ordinary text is one piece."""
    if not _MAYBE_MANY.search(text):
        yield text
        return
    begin = marks = 0
    for at, sign in enumerate(text):
        is_mark = unicodedata.combining(unicodedata.normalize("NFKD", sign)[0])
        marks = marks + 1 if is_mark else 0
        if marks > MOST_MARKS:
            yield text[begin:at]
            begin, marks = at, 1
    yield text[begin:]


def has_many_marks(text: str) -> bool:
    """Return True if *text* has more than `MOST_MARKS` combining marks in a row."""
    return any(piece != text for piece in pieces(text))


def normalize(form: Literal["NFC", "NFD", "NFKC", "NFKD"], text: str) -> str:
    """Normalise *text* piece by piece; if it is one piece, the result equals that of `unicodedata.normalize`."""
    return "".join(unicodedata.normalize(form, piece) for piece in pieces(text))


def tick_pairs(text: str) -> dict[int, int]:
    """Map the start of each run of backticks to the end of the next run of the same length, which closes a code span."""
    ends: dict[int, int] = {}
    pairs: dict[int, int] = {}
    for run in reversed(list(_TICKS.finditer(text))):
        size = run.end() - run.start()
        if size in ends:
            pairs[run.start()] = ends[size]
        ends[size] = run.end()
    return pairs


def is_readable(text: str) -> bool:
    """Return True if *text* and all its lines are short enough to be parsed as Markdown."""
    return len(text) <= LONGEST_TEXT and all(
        len(line) <= LONGEST_LINE for line in text.splitlines()
    )
