"""Token counts without the model's tokenizer.

* `count` decides which messages fit, and is shown in the context meter. It is too high on purpose, for every script, so
  that a prompt that fills the context window by this count does not overflow at the endpoint.
* `bound` decides how much money is reserved. It is never too low, and for English four times too high: if it decided
  which messages fit, three quarters of every context window would stay empty.
* `kinds` splits `count` by kind of text, because the error of the count depends on the kind and the model (forecast.py).
"""

import re
from bisect import bisect
from collections import Counter
from collections.abc import Mapping
from typing import Protocol

from services.domain import safe_text


class TokenCounter(Protocol):
    """Counts the tokens of a text."""

    def count(self, text: str) -> int:
        """Estimate the tokens of *text*. The estimate is deliberately too high."""
        ...

    def bound(self, text: str) -> int:
        """Return an upper bound of the tokens of *text*, valid for any tokenizer."""
        ...

    @property
    def uncalibrated(self) -> "TokenCounter":
        """The same counter, but without the calibration for a model."""
        ...


class KindCounter(TokenCounter, Protocol):
    """A token counter that also counts by kind of text."""

    def kinds(self, text: str) -> Mapping[str, int]:
        """Return the estimated tokens of *text* for each kind of text in it, in hundredths of a token."""
        ...


class RegexCounter(KindCounter):
    """Splits a text roughly as tokenizers do, and weights the pieces by length and script.

    The weights were fitted to the vocabularies of GPT-4, GPT-4o, Claude 2, DeepSeek and SmolLM2. For each of them,
    ordinary text in 30 languages, code, tables and base64 is counted at most a sixth too low, and most such text is
    not counted too low at all. English is counted a third too high, and languages that only large vocabularies know
    well (Hindi, Russian, Chinese) two to six times too high. The counts of at most *size* texts are cached by hash
    and length, without the texts, because successive plans of a conversation repeat them.
    """

    def __init__(self, size: int = 8192) -> None:
        self._size = size
        self._cache: dict[tuple[int, int], tuple[Mapping[str, int], int]] = {}

    # needs only one cache look-up, because plans count thousands of texts
    def count(self, text: str) -> int:
        kinds, bound = self._figures(text)
        return min(-(-sum(kinds.values()) // 100), bound)

    def kinds(self, text: str) -> Mapping[str, int]:
        return self._figures(text)[0]

    def bound(self, text: str) -> int:
        return self._figures(text)[1]

    @property
    def uncalibrated(self) -> "RegexCounter":
        return self

    def _figures(self, text: str) -> tuple[Mapping[str, int], int]:
        key = hash(text), len(text)
        cache = self._cache  # read once, because another thread may replace `_cache`
        if (figures := cache.get(key)) is None:
            if len(cache) >= self._size:
                self._cache = cache = {}
            figures = cache[key] = (_kinds(text), _longest_size(text) + _LEADING_BLANK)
        return figures


def min_tokens(text: str) -> int:
    """Return a lower bound of the tokens of *text*: one token per 32 bytes, ignoring runs of one character or of blanks.

    Such runs are the longest tokens of vocabularies (128 blanks in o200k_base). Only a handful of other tokens exceed
    32 bytes, and no reply consists of such tokens.
    """
    return _size(_RUNS.sub("", text)) // 32


# tokens for the space that SentencePiece prepends to every text: the space is a separate token if the first character of
# the text is encoded as bytes
_LEADING_BLANK = 1


def _longest_size(text: str) -> int:
    """Return the maximum number of bytes that a tokenizer sees in *text*, which it may first normalise to any Unicode form."""
    if text.isascii():
        return len(text)
    # a text with many combining marks is normalised in pieces, which does not compose all marks; the decomposed
    # form is an upper bound, because no composed character is longer than its parts
    forms = ("NFD", "NFKD") if safe_text.has_many_marks(text) else ("NFC", "NFKC")
    return max(_size(text), *(_size(safe_text.normalize(form, text)) for form in forms))


def _size(text: str) -> int:
    # bytes in UTF-8: no byte-level tokenizer needs more than one token per byte
    return len(text.encode(errors="surrogatepass"))


_RUNS = re.compile(r"(\S)\1{3,}|\s{2,}")
_WORDS = re.compile(r"[A-Z]?[a-z]+")
# matches words that make up at least a twelfth of nearly every English text, but not of texts in other languages
_ENGLISH = re.compile(
    r"\b(?:the|and|of|that|this|with|for|you|your|are|was|have|what|it|is|my)\b", re.IGNORECASE
)
# matches long runs with digits (base64, keys, checksums), which would distort the calibration if they counted as words
_CODES = re.compile(r" ?(?<![\w+/=-])(?=[a-zA-Z+/_=-]{0,40}[0-9])([\w+/=-]{24,})", re.ASCII)
# Hundredths of a token: the minimum for a piece, and the weight of each character.
_PIECES = (
    ("capitals", re.compile(r"[A-Z]+(?![a-z])"), 100, 47),
    # the weight of digits is high, because some vocabularies need a token for each digit
    ("digits", re.compile(r"[0-9]+"), 160, 120),
    ("blanks", re.compile(r"[\t-\r]+|[ ]{2,}"), 80, 25),
    ("signs", re.compile(r"[!-/:-@\[-`{-~]+"), 75, 65),
    ("controls", re.compile(r"[\x00-\x08\x0e-\x1f\x7f]+"), 100, 100),
)
# For each block of code points: the first code point after the block, the weight of a byte in hundredths of a
# token, and the kind of text.
_BLOCKS = (
    (0x80, 0, "ascii"),  # counted by `_weigh_ascii` instead
    (0x250, 62, "accents"),
    (0x370, 80, "phonetics"),
    (0x400, 66, "greek"),
    (0x530, 48, "cyrillic"),
    (0x590, 100, "armenian"),
    (0x600, 68, "hebrew"),
    (0x900, 68, "arabic"),
    (0x980, 72, "devanagari"),
    (0xA00, 72, "bengali"),
    (0xB80, 72, "indic"),
    (0xC00, 72, "tamil"),
    (0xE00, 72, "indic"),
    (0x1000, 72, "thai"),  # includes Lao and Tibetan
    (0x10A0, 100, "burmese"),
    (0x1100, 100, "georgian"),
    (0x1E00, 100, "scripts"),
    (0x2000, 68, "accents"),  # Vietnamese, and Greek with accents
    (0x3000, 90, "symbols"),
    (0x3100, 64, "kana"),
    (0x4E00, 100, "scripts"),
    (0xA000, 64, "han"),
    (0xAC00, 100, "scripts"),
    (0xD7B0, 100, "hangul"),
    (0xFB50, 100, "scripts"),
    (0xFE00, 100, "arabic forms"),
    (0x10000, 100, "forms"),
    (0x1F000, 100, "scripts"),
    (0x20000, 100, "emoji"),
    (0x110000, 100, "scripts"),
)
_ENDS = [end for end, _, _ in _BLOCKS]
# hundredths of a token for each byte that Unicode normalisation adds, mostly in Arabic text
_COMPOSITION_WEIGHT = 68


def _kinds(text: str) -> Mapping[str, int]:
    codes = _CODES.findall(text)
    kinds = Counter(_weigh_ascii(_CODES.sub("", text) if codes else text))
    kinds["codes"] = sum(_weigh_ascii(" ".join(codes)).values())
    if not text.isascii():
        for sign, times in Counter(text).items():
            _, weight, kind = _BLOCKS[bisect(_ENDS, ord(sign))]
            kinds[kind] += times * weight * _size(sign)
        kinds["compositions"] = (_longest_size(text) - _size(text)) * _COMPOSITION_WEIGHT
    return +kinds


def _weigh_ascii(text: str) -> dict[str, int]:
    words = _WORDS.findall(text)
    is_english = len(_ENGLISH.findall(text)) * 12 >= len(words)
    kind, each = ("english", 30) if is_english else ("words", 45)
    kinds = {kind: _weigh(words, 100, each)}
    for kind, pieces, least, each in _PIECES:
        kinds[kind] = _weigh(pieces.findall(text), least, each)
    return kinds


def _weigh(pieces: list[str], least: int, each: int) -> int:
    lengths = Counter(map(len, pieces))
    return sum(times * max(least, each * length) for length, times in lengths.items())
