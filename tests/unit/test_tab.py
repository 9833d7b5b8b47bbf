"""The state of a tab: each field is assigned by one module, and the session state otherwise has only widgets."""

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
CHANGES = {"add", "append", "clear", "discard", "extend", "pop", "remove", "setdefault", "update"}


def writers():
    """Return the modules that assign each field of `Tab`, or change its contents, except its own methods."""
    found = defaultdict(set)
    for path, text in PAGES.items():
        if path.name == "_tab.py":
            continue
        for node in ast.walk(ast.parse(text)):
            match node:
                case ast.Attribute(ctx=ast.Store()):
                    changed = node
                case ast.Subscript(value=ast.Attribute() as changed, ctx=ast.Store() | ast.Del()):
                    pass
                case ast.Call(func=ast.Attribute(value=ast.Attribute() as changed, attr=verb)):
                    changed = changed if verb in CHANGES else None
                case _:
                    continue
            if changed and not (isinstance(changed.value, ast.Name) and changed.value.id == "self"):
                found[changed.attr].add(path.name)
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
