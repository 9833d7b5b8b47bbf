"""Counting tokens without the model's tokenizer.

* `count` decides what fits and is what a meter shows. It leans high, script by script, so that a
  window which is full by this count has not overflowed at the endpoint.
* `bound` decides how much money is reserved. It is never too few, and about four times too many
  for English: packing by it would leave three quarters of every window empty.
"""

import re
import unicodedata
from typing import Protocol


class TokenCounter(Protocol):
    """Counts the tokens of a text."""

    def count(self, text: str) -> int:
        """What a tokenizer most likely needs, leaning high."""
        ...

    def bound(self, text: str) -> int:
        """What no tokenizer exceeds."""
        ...


class RegexCounter:
    """Cuts a text as byte-pair tokenizers do and weighs each piece by its script."""

    def count(self, text: str) -> int:
        return min(-(-sum(map(_weight, _PIECES.finditer(text))) // 100), self.bound(text))

    def bound(self, text: str) -> int:
        if text.isascii():
            return len(text)
        # one token per byte: no byte-level tokenizer needs more, and the others normalise first
        normal = unicodedata.normalize("NFKC", text)
        return max(_bytes(text), _bytes(normal))


def _bytes(text: str) -> int:
    return len(text.encode(errors="surrogatepass"))


_PIECES = re.compile(
    r"(?P<word>[A-Za-z]+)|(?P<digits>[0-9]+)|(?P<space>\s+)|(?P<sign>[!-/:-@\[-`{-~]+)"
    r"|(?P<foreign>[^\x00-\x7f]+)|(?P<control>.)",
    re.DOTALL,
)


def _weight(piece: re.Match[str]) -> int:
    """Hundredths of a token."""
    size = piece.end() - piece.start()
    match piece.lastgroup:
        case "word":
            return 110 + max(0, size - 6) * 25
        case "digits":
            return size * 100
        case "space":
            return (size - 1) * 50
        case "sign":
            return size * 80
        case "foreign":
            return _bytes(piece.group()) * 70
        case _:
            return 100
