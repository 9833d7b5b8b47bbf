"""The callers that open a store, and their roles."""

from tests.stack.apps import ROOT


def test_commands_alone_open_the_store_as_an_operator():
    callers = {
        path.relative_to(ROOT).as_posix()
        for folder in ("services", "pages")
        for path in (ROOT / folder).rglob("*.py")
        if "open_operator(" in path.read_text() and "def open_operator(" not in path.read_text()
    }

    assert callers == {"services/operate/__main__.py"}
