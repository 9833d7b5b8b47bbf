"""The words on screen: one name for one thing, and none of the words of earlier versions."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

from pages._parts import words

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("pages/*.py"), *ROOT.glob("pages/_parts/*.py"), ROOT / "streamlit_app.py"]
COMMANDS = {  # shown in a terminal, or SQL
    *("operator", "check", "connection", "demo", "copying", "copied_rows")
}
SENTENCES = [
    *(
        path for path in ROOT.glob("services/chat/*.py") if path.name != "titles.py"
    ),  # instructions to the model
    *(path for path in ROOT.glob("services/store/**/*.py") if path.stem not in COMMANDS),
    *ROOT.glob("services/web/*.py"),
    ROOT / "services" / "identity" / "mail_texts.py",
    *ROOT.glob("pages/_admin/*.py"),
    ROOT / "services" / "errors.py",
]
OLD = re.compile(
    r"anew\b|\bin pencil\b|brought back|word for word|take it away|sealed|conversation|\bfacts?\b|\boperator\b"
    r"|destroyed|fresh page|could not be verified|behind Daybook|what the model (saw|sees|is told|remembers)"
    r"|broke off|\bturns\b|memory policy|\be-mail|for good\b|\bat the provider\b|\ba guess\b|\bthoughts\b.*saved"
    r"|limits? of (all|new) users|\(your time\)",
    re.IGNORECASE,
)
TERMS = {
    value
    for name, value in vars(words).items()
    if name.isupper() and not name.startswith("_") and isinstance(value, str)
}


def literals(source):
    """Return the string literals of Python *source* without docstrings, f-strings without their values."""
    tree = ast.parse(source)
    parts = {
        id(part)
        for each in ast.walk(tree)
        if isinstance(each, ast.JoinedStr)
        for part in each.values
    }
    said = {id(each.value) for each in ast.walk(tree) if isinstance(each, ast.Expr)}
    for each in ast.walk(tree):
        if isinstance(each, ast.JoinedStr):
            yield "".join(part.value for part in each.values if isinstance(part, ast.Constant))
        elif isinstance(each, ast.Constant) and isinstance(each.value, str):
            yield from {each.value} if id(each) not in parts | said else ()


def shown(source):
    """Return the literals that users read: sentences and labels, but no keys, scripts or SQL."""
    return [
        text
        for text in literals(source)
        if (" " in text or text[:1].isupper()) and "export default" not in text
    ]


@pytest.mark.slow
def test_nothing_on_screen_uses_the_old_words():
    read = {path: shown(path.read_text()) for path in PAGES + SENTENCES}

    assert [
        (path.name, text) for path, texts in read.items() for text in texts if OLD.search(text)
    ] == []


def test_each_term_is_spelt_in_one_place():
    spelt = {path.name: TERMS & set(literals(path.read_text())) for path in PAGES}

    assert {name: terms for name, terms in spelt.items() if terms and name != "words.py"} == {}


def test_a_label_of_two_pages_is_a_term():
    labels = Counter(
        text for path in PAGES for text in {*shown(path.read_text())} if text[:1].isupper()
    )

    assert {label for label, pages in labels.items() if pages > 1} <= {"Daybook", "UTC"}


def test_scripts_use_no_old_words():
    labels = [
        label
        for path in ROOT.glob("assets/page/*.js")
        for label in re.findall(r'"([A-Z][^"]*)"', path.read_text())
    ]

    assert labels
    assert [label for label in labels if OLD.search(label)] == []
