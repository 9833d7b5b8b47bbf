"""The lists of CONTRIBUTING.md: each names all files of the product that contain its example."""

import re
from functools import cache

import pytest

from tests.stack.apps import ROOT

EXAMPLES = {  # for each list, the text that its files contain
    "A context policy": r"^Window = |\bWindow\.name\b|policy_name\(Window\b|\bWindow\(20\)",
    "A page": r'\bUSAGE\b|"/usage", |pages/usage\.py|visit\("/usage"\)',
    "A setting": r"(?i)\bsign_ups_an_hour\b|DAYBOOK_SIGN_UPS_AN_HOUR",
    "A verb, from page to SQL": r"edit_reply|EditReply",
    "An event": r"store\.back\b",
    "A model source": r"\blocal_model\b|\bOpenAIModel\b",
    "An endpoint's habit": r"(?i)\bstream_options\b",
    "A store": r"\bBytesStore\b",
}
PRODUCT = ("services", "pages", "assets", "db")


def lists():
    """Return the files of each list of CONTRIBUTING.md by its heading."""
    page = (ROOT / "CONTRIBUTING.md").read_text("utf-8").partition("## How to add")[2]
    parts = [part.partition("\n") for part in page.split("\n### ")[1:]]
    return {
        heading: re.findall(r"^\d+\. `(.+?)`:", text, re.MULTILINE) for heading, _, text in parts
    }


@cache
def product():
    """Return the text of each file of the product by its path."""
    files = [path for folder in PRODUCT for path in (ROOT / folder).rglob("*")]
    return {
        path.relative_to(ROOT).as_posix(): path.read_text("utf-8")
        for path in (ROOT / "streamlit_app.py", *files)
        if path.suffix in {".py", ".js", ".mjs", ".sql", ".txt"}
    }


def test_every_list_has_an_example():
    assert lists().keys() == EXAMPLES.keys()


@pytest.mark.parametrize("heading", EXAMPLES)
def test_list_names_every_file_of_its_example(heading):
    listed, example = lists()[heading], re.compile(EXAMPLES[heading], re.MULTILINE)

    assert {path for path, text in product().items() if example.search(text)} <= {*listed}
    assert [each for each in listed if not example.search((ROOT / each).read_text("utf-8"))] == []
