"""The glossary: the product contains none of the words that it replaces."""

import io
import re
import tokenize
from functools import cache
from pathlib import Path

import pytest

from benchmarks.prose import prose
from benchmarks.structure import PRODUCT, files
from tests.parts import GIT

ROOT = Path(__file__).parents[2]
SUFFIXES = {".py", ".js", ".mjs", ".sql", ".css"}
_ROW = re.compile(
    r"^\| (`[^|]*) \| [^|]+ \| (names|comments)(?: except in (`[^|]*))? \|$", re.MULTILINE
)
_QUOTED = re.compile(r"`([^`]+)`")
_STRING = re.compile(r"""--[^\n]*|//[^\n]*|/\*.*?\*/|"[^"\n]*"|`[^`]*`""", re.DOTALL)
RENAMED = [
    (word, place, tuple(_QUOTED.findall(folders)))
    for words, place, folders in _ROW.findall((ROOT / "docs" / "glossary.md").read_text())
    for word in _QUOTED.findall(words)
]


@cache
def sources():
    GIT.required()
    return [path for path in files(*PRODUCT) if path.suffix in SUFFIXES and path.exists()]


@cache
def names():
    """Return the names in the product's code, each with the files that use it."""
    found = {}
    for path in sources():
        text = path.read_text()
        if path.suffix == ".py":
            tokens = tokenize.generate_tokens(io.StringIO(text).readline)
            words = {token.string for token in tokens if token.type == tokenize.NAME}
        else:
            words = set(re.findall(r"[^\W\d]\w*", _STRING.sub(" ", text)))
        for word in words:
            found.setdefault(word, []).append(str(path.relative_to(ROOT)))
    return found


@cache
def comments():
    return [each for path in sources() for each in prose(path)]


def places(word, place, folders=()):
    if place == "names":
        return [path for path in names().get(word, []) if not path.startswith(folders)]
    sought = re.compile(rf"\b{word}\b", re.IGNORECASE)
    return [each.place for each in comments() if sought.search(each.text)]


@pytest.mark.slow
def test_words_are_found_in_names_and_comments():
    assert ("Asides", "names", ()) in RENAMED
    assert ("held", "names", ("services/rules", "db", "assets")) in RENAMED
    assert ("somebody", "comments", ()) in RENAMED
    assert "services/crypto/keyring.py" in names()["RootKeys"]
    assert "services/rules/budget.py" in names()["held"]
    assert "vault.py" in "".join(places("sealed", "comments"))


@pytest.mark.parametrize(
    ("word", "place", "folders"), RENAMED, ids=[f"{word}-{place}" for word, place, _ in RENAMED]
)
def test_replaced_word_is_not_used(word, place, folders):
    assert places(word, place, folders) == []


def test_lines_of_scripts_and_styles_have_at_most_110_characters():
    found = [path for path in sources() if path.suffix in {".js", ".mjs", ".css"}]

    assert found
    assert [
        f"{path.name}:{number}"
        for path in found
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if len(line) > 110
    ] == []
