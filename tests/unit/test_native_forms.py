"""What is entered as a password or a code: native forms take it, so that it never reaches a Streamlit session."""

import ast
import re

import pytest

from tests.stack.apps import ROOT

_WIDGETS = {"text_input", "text_area", "chat_input", "number_input", "data_editor"}
_SECRET = re.compile("password|one-time|recovery|factor|code", re.IGNORECASE)


def secret_widgets(source):
    """Return the widgets of *source* that take text, and name a password or a code in an argument."""
    calls = [one for one in ast.walk(ast.parse(source)) if isinstance(one, ast.Call)]
    widgets = [one for one in calls if getattr(one.func, "attr", "") in _WIDGETS]
    return [text for text in map(ast.unparse, widgets) if _SECRET.search(text)]


def test_no_widget_takes_a_password_or_a_code():
    files = sorted((ROOT / "pages").rglob("*.py"))

    assert {one for file in files for one in secret_widgets(file.read_text("utf-8"))} == set()


@pytest.mark.parametrize(
    "widget",
    [
        'st.text_input("New", type="password")',
        'column.text_input("Code", max_chars=8)',
        'st.number_input("Digits", key="factor")',
    ],
)
def test_widget_for_a_secret_is_found(widget):
    assert secret_widgets(f"def draw():\n    {widget}") == [widget.replace('"', "'")]
