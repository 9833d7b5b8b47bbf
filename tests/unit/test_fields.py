"""The text fields of the pages."""

import ast
from pathlib import Path

PAGES = Path(__file__).parents[2] / "pages"


def test_every_text_field_has_a_maximum_length():
    """A longer text would close the websocket, because Streamlit sends it with every later press.

    assets/page/edit.js checks the length of an edited message.
    """
    calls = [
        (file.name, node.lineno)
        for file in PAGES.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in {"text_input", "text_area"}
        and not any(given.arg == "max_chars" for given in node.keywords)
    ]

    assert [name for name, _ in calls] == ["versions.py"], calls
