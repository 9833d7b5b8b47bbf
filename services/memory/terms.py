"""Index terms of a text: its words, case-folded, without diacritics and endings.

The forms of an English word share a stem. Every word is cut after seven letters, and its final vowels are removed.
Text in scripts without spaces is indexed by single characters and by pairs of characters.
"""

import re
import unicodedata
from collections.abc import Iterator
from itertools import filterfalse, islice, pairwise

from services.domain import safe_text


def stems(text: str) -> frozenset[str]:
    """Return the stems of the words of *text*, without stop words."""
    return frozenset(map(stem, set(words(text))))


def words(text: str) -> Iterator[str]:
    """Yield the words of *text* without stop words; for names in code, the whole name and its parts."""
    yield from (name.replace("_", "").lower() for name in _CODE_NAME.findall(text))
    for word in _WORD.findall(_folded(_PART.sub(" ", _COMMA.sub("", text)))):
        if word.isascii() or not _UNSPACED.search(word):
            if word not in STOP_WORDS:
                yield word
            if "." in word:
                yield from word.split(".")
        else:
            for run in _RUNS.findall(word):
                yield from _parts(run) if _UNSPACED.match(run) else [run]


def _parts(run: str) -> Iterator[str]:
    """Yield the characters of a text without spaces, and each pair of adjacent characters."""
    yield from run
    yield from map("".join, pairwise(run))


def _folded(text: str) -> str:
    """Return *text* case-folded. If it is not ASCII, also remove diacritics and letter variants; turn katakana into hiragana."""
    text = text.casefold()
    if _FOREIGN.search(text):
        text = safe_text.normalize("NFKD", text)
        signs = set(text)
        if marks := {sign for sign in signs if unicodedata.category(sign)[0] == "M"}:
            text = "".join(filterfalse(marks.__contains__, text))
        text = unicodedata.normalize("NFC", text)
        if not _HIRAGANA.keys().isdisjoint(map(ord, signs)):
            text = text.translate(_HIRAGANA)
    return text


def stem(word: str) -> str:
    """Return the stem of *word*, which most forms of the word share."""
    word = base(word)[:_LETTERS]
    short = word.rstrip(_VOWELS)
    return word if word[0].isdigit() or len(short) < 3 else short


def base(word: str) -> str:
    """Return *word* without an English ending, or the base form if *word* is irregular."""
    if word[0].isdigit():
        return _ORDINAL.sub("", word).lstrip("0") or "0"
    word = _IRREGULAR.get(word, word)
    if len(word) > 4:
        word = word.removeprefix("\u0627\u0644")  # the Arabic article
    if len(word) < 4:
        return word
    for ending, instead in _ENDINGS.items():
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            if not word.endswith(("ss", "us", "is")):
                word = word.removesuffix(ending) + instead
            break
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "aeioslz":
        word = word[:-1]
    return word


def is_question(text: str) -> bool:
    """Return True if *text* ends with a question mark."""
    return text.rstrip().endswith(_QUESTION_MARKS)


def has_time(text: str) -> bool:
    """Return True if *text* names a time or contains a number."""
    return bool(_TIME.search(text))


def names(text: str, most: int) -> frozenset[str]:
    """Return the first proper names in *text*, at most *most*."""
    return frozenset(_folded(match[0]) for match in islice(_NAME.finditer(text), most))


_WORD = re.compile(r"\d+(?:\.\d+)+|[^\W_]+")
# matches the boundaries between the parts of a name in code, such as parseLines, HTTPServer and py3
_PART = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z]{2})|(?<=[A-Za-z])(?=[0-9])")
_COMMA = re.compile(r"(?<=\d),(?=\d{3}\b)")
_CODE_NAME = re.compile(
    r"\b(?=\w*?(?:[a-z][A-Z]|[A-Z]{2}[a-z]{2}|[A-Za-z]\d|[^\W_]_[^\W_]))\w+", re.ASCII
)
_HIRAGANA = {katakana: katakana - 0x60 for katakana in range(0x30A1, 0x30F7)}
# matches a letter outside ASCII, or a combining mark
_FOREIGN = re.compile(r"[^\W\x00-\x7f]|[\u0300-\u036f]")
# scripts without spaces: Thai, Lao, Burmese, Khmer; Japanese, Bopomofo, Chinese
_SIGNS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u312f\u31a0-\u31ff"
    "\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_UNSPACED = re.compile(f"[{_SIGNS}]")
_RUNS = re.compile(f"[{_SIGNS}]+|[^{_SIGNS}]+")
_QUESTION_MARKS = ("?", "\uff1f", "\u061f")
_ORDINAL = re.compile(r"(?<=\d)(?:st|nd|rd|th)$")
# matches a name within a sentence or a quotation, but not the "Mel" in "Thanks, Mel!"
_NAME = re.compile(r"(?<=[a-z,] )[A-Z]\w+(?![\w!?])|(?<=\")[A-Z]\w+")
_TIME = re.compile(
    r"\d|\b(?:yesterday|today|tonight|tomorrow|last|next|ago|since|recently|soon|morning|night"
    r"|days?|weeks?|weekends?|months?|years?|(?:mon|tues|wednes|thurs|fri|satur|sun)days?"
    r"|january|february|march|april|june|july|august|september|october|november|december)\b",
    re.IGNORECASE,
)
# NLTK's list for English, and the parts of words with an apostrophe, such as "don" and "t"
STOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        """a about above after again against all am an and any are as at be because been before being
        below between both but by can could d did do does doing don down during each few for from
        further had has have having he her here hers herself him himself his how i if in into is it
        its itself just ll m me more most my myself no nor not now of off on once only or other our
        ours ourselves out over own re s same she should so some such t than that the their theirs
        them themselves then there these they this those through to too under until up ve very was
        we were what when where which while who whom why will with would you your yours yourself
        yourselves""",
    )
)
# maximum letters of a stem: enough to tell most words apart, but "adopt" and "adoption" share a stem
_LETTERS = 7
_VOWELS = "aeiouy\u0430\u0435\u0438\u043e\u0443\u044b\u044d\u044e\u044f"  # Latin and Cyrillic
_ENDINGS = {"ies": "y", "sses": "ss", "ied": "y", "ing": "", "ed": "", "ly": "", "es": "e", "s": ""}
# irregular words, separated by commas: first the base form of the word, then its other forms
_FORMS = """
    become became, begin began begun, bite bit bitten, break broke broken, bring brought,
    build built, burn burnt, buy bought, catch caught, child children, choose chose chosen,
    come came, dig dug, draw drew drawn, dream dreamt, drink drank drunk, drive drove driven,
    eat ate eaten, fall fell fallen, feed fed, feel felt, fight fought, find found, fly flew
    flown, foot feet, forget forgot forgotten, freeze froze frozen, get got gotten, give gave
    given, go went gone goes going, goose geese, grow grew grown, hang hung, hear
    heard, hide hid hidden, hold held, keep kept, knife knives, know knew known, lead led,
    learn learnt, leave left, lend lent, light lit, lose lost, make
    made, man men, mean meant, meet met, mouse mice, pay paid, person people, ride rode
    ridden, ring rang rung, rise rose risen, run ran, say said, see saw seen, seek sought,
    sell sold, send sent, shake shook shaken, shoot shot, sing sang sung, sink
    sank sunk, sit sat, sleep slept, speak spoke spoken, spend spent, stand stood, steal stole
    stolen, stick stuck, strike struck, swim swam swum, take took taken, teach taught, tear
    tore torn, tell told, think thought, throw threw thrown, tooth teeth, understand
    understood, wake woke woken, wear wore worn, wife wives, win won, woman women, write wrote
    written
"""
_IRREGULAR = {form: forms[0] for forms in map(str.split, _FORMS.split(",")) for form in forms[1:]}
