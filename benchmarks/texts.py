"""Texts whose tokens are to be counted, generated from a seed out of sources that are available offline.

Words of 13 scripts come from CLDR (babel), sentences from the tests' vectors, prose from Python's own
help, code from this repository.
"""

import base64
import json
import pydoc_data.topics
import random
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

from babel import Locale

ROOT = Path(__file__).parents[1]
SCRIPTS = {
    "arabic": "ar",
    "armenian": "hy",
    "bengali": "bn",
    "chinese": "zh",
    "cyrillic": "ru",
    "devanagari": "hi",
    "georgian": "ka",
    "greek": "el",
    "hebrew": "he",
    "japanese": "ja",
    "korean": "ko",
    "tamil": "ta",
    "thai": "th",
}
_SENTENCES = json.loads((ROOT / "tests/vectors/token_counts.json").read_text("utf-8"))
_VECTORS = {"cyrillic": "russian", "devanagari": "hindi"}  # the names that the vectors use
_PROSE = [
    paragraph
    for topic in pydoc_data.topics.topics.values()
    for paragraph in topic.split("\n\n")
    if 40 < len(paragraph) < 900 and "::" not in paragraph
]
_CODE = [
    block
    for path in sorted(ROOT.glob("services/**/*.py"))
    for block in path.read_text("utf-8").split("\n\n\n")
    if 100 < len(block) < 2500
]
_OPENINGS = (
    "Could you",
    "Please",
    "I would like to",
    "Do you think I should",
    "How do I",
    "Yesterday I tried to",
    "My sister wants to",
    "Can we",
)
_VERBS = (
    "fix",
    "plan",
    "write",
    "cook",
    "explain",
    "translate",
    "compare",
    "paint",
    "repair",
    "order",
    "book",
    "find",
    "visit",
)
_THINGS = (
    "the garden shed",
    "a birthday party",
    "my old bicycle",
    "this letter",
    "the train to Lisbon",
    "a tomato soup",
    "two insurance offers",
    "the kitchen tap",
    "my son's homework",
    "the lease",
    "a small website",
    "the dog's diet",
)
_ENDINGS = (
    "before Friday",
    "without spending much",
    "for 6 people",
    "in an hour or two",
    "and what would you do first?",
    "because the last one broke",
    ", please be brief",
    "; it is urgent :)",
    ", any ideas?",
)
_EMOJI = (
    "\U0001f600",
    "\U0001f389",
    "\U0001f44d\U0001f3fd",
    "\U0001f1e9\U0001f1ea",
    "\U0001f916",
    "\u2615",
    "\u2764\ufe0f",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466",
    "\U0001f3f3\ufe0f\u200d\U0001f308",
)
_MARKS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<s>",
    "</s>",
    "[INST]",
    "<bos>",
    "[UNK]",
    "<0x0A>",
    "<unk>",
    "\n\nHuman: ",
)

Chooser = Callable[[random.Random], str]


def chat(chance: random.Random) -> str:
    return " ".join(
        f"{chance.choice(_OPENINGS)} {chance.choice(_VERBS)} {chance.choice(_THINGS)}"
        f" {chance.choice(_ENDINGS)}."
        for _ in range(chance.randint(1, 4))
    )


def emoji(chance: random.Random) -> str:
    said = ("So happy", "ok", "yes!", "see you", "wow")
    return " ".join(
        f"{chance.choice(said)} {''.join(chance.choices(_EMOJI, k=chance.randint(1, 6)))}"
        for _ in range(chance.randint(1, 4))
    )


def encoded(chance: random.Random) -> str:
    return "Decode this: " + base64.b64encode(chance.randbytes(chance.randint(30, 600))).decode()


def ligature(chance: random.Random) -> str:
    return "\ufdfa" * chance.randint(1, 10) + " " + chat(chance)


def in_script(name: str) -> Chooser:
    """Return a function that draws sentences, and lists of names, in the script of that name."""
    locale = Locale(SCRIPTS[name])
    listed = (locale.territories, locale.languages, locale.currencies)
    words = [word for names in listed for word in names.values() if not word.isascii()]
    words += [*locale.months["format"]["wide"].values(), *locale.days["format"]["wide"].values()]
    sentence = _SENTENCES[_VECTORS.get(name, name)]["text"]

    def choose(chance: random.Random) -> str:
        return ". ".join(
            sentence
            if chance.random() < 0.3
            else ", ".join(chance.sample(words, chance.randint(2, 6)))
            for _ in range(chance.randint(1, 5))
        )

    return choose


def kinds() -> dict[str, Chooser]:
    """Return the function that draws a text, for each kind of text."""
    return {
        "chat": chat,
        "prose": lambda chance: chance.choice(_PROSE),
        "code": lambda chance: chance.choice(_CODE),
        **{name: in_script(name) for name in SCRIPTS},
        "emoji": emoji,
        "base64": encoded,
        "U+FDFA": ligature,
    }


def fuzzed() -> Chooser:
    """Return a function that draws short texts of any characters, mostly of those that are hard to tokenize."""
    combining = [chr(code) for code in range(0x300, 0x2000) if unicodedata.combining(chr(code))]
    unassigned = [
        chr(code)
        for code in range(0x378, sys.maxunicode, 97)
        if unicodedata.category(chr(code)) == "Cn"
    ]
    expanding = [sign for sign in map(chr, range(0xA0, 0x30000)) if _is_expanding(sign)]
    signs: list[Chooser] = [
        lambda chance: chr(chance.randrange(sys.maxunicode + 1)),  # surrogates included
        lambda chance: chr(chance.randrange(0x80)),
        lambda chance: chr(chance.randrange(0x3000)),
        lambda chance: chr(chance.randrange(0x3000, 0xD800)),
        lambda chance: chr(chance.randrange(0x1F000, 0x1FB00)),
        lambda chance: chr(chance.randrange(0xD800, 0xE000)),
        lambda chance: chance.choice(expanding),
        lambda chance: "\ufdfa",
        lambda chance: chance.choice(unassigned),
        lambda chance: chance.choice("aeo\u0928\u0e01\uac00") + chance.choice(combining),
        lambda chance: chance.choice(" \t\n\r\u00a0\u200b\u2028\u3000"),
        lambda chance: chance.choice(_MARKS),
    ]
    whole = list(kinds().values())

    def choose(chance: random.Random) -> str:
        if chance.random() < 0.25:
            text = chance.choice(whole)(chance)
            start = chance.randrange(len(text))
            return text[start : start + chance.randint(1, 120)]
        some = chance.sample(signs, chance.randint(1, 3))
        times = chance.choice((1, 1, 1, 2, 40))
        parts = [chance.choice(some)(chance) * times for _ in range(chance.randint(1, 40 // times))]
        return "".join(parts)

    return choose


def _is_expanding(sign: str) -> bool:
    """Return True if *sign* has more bytes after NFC or NFKC normalisation."""
    size = len(sign.encode(errors="surrogatepass"))
    normal = (unicodedata.normalize(form, sign) for form in ("NFC", "NFKC"))
    return any(len(text.encode(errors="surrogatepass")) > size for text in normal)
