"""The state of a tab: each field is assigned by one module, and the session state holds widgets beside it alone."""

import ast
import re
from collections import defaultdict
from dataclasses import fields

from pages._tab import Tab
from tests.stack.apps import ROOT

PAGES = {path: path.read_text("utf-8") for path in sorted((ROOT / "pages").rglob("*.py"))}
STATE = re.compile(
    r"""session_state(?:\.(?!get|pop|setdefault)|(?:\.(?:get|pop|setdefault)\(|\[)")([\w-]+)"""
)


def writers():
    """Return the modules that assign to each field of `Tab`, beside its own methods."""
    found = defaultdict(set)
    for path, text in PAGES.items():
        if path.name == "_tab.py":
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                found[node.attr].add(path.name)
    return found


def test_field_of_a_tab_has_one_writer():
    found = writers()
    assert {each.name: files for each in fields(Tab) if len(files := found[each.name]) > 1} == {}


def test_session_state_holds_widgets_and_the_tab_alone():
    widgets = {
        key for text in PAGES.values() for key in re.findall(r'\bkey\b[\w, ]*= ?"([\w-]+)"', text)
    }
    named = {name for text in PAGES.values() for name in STATE.findall(text)}

    assert {"composer", "chosen-users"} <= named
    assert named <= widgets
