"""The callers that open a store, their roles, and which settings name one store."""

import pytest

from services.settings import Settings
from services.stores import is_same_store
from tests.stack.apps import ROOT


def test_commands_alone_open_the_store_as_an_operator():
    callers = {
        path.relative_to(ROOT).as_posix()
        for folder in ("services", "pages")
        for path in (ROOT / folder).rglob("*.py")
        if "open_operator(" in path.read_text() and "def open_operator(" not in path.read_text()
    }

    assert callers == {"services/operate/__main__.py"}


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        (None, None, True),
        (None, "sqlite:{0}/a.db", False),
        ("sqlite:{0}/a.db", "sqlite:{0}/a.db", True),
        ("sqlite:{0}/a.db", "sqlite:{0}/b.db", False),
        ("sqlite:{0}/a.db", "sqlite:{0}/hard.db", True),
        ("sqlite:{0}/a.db", "sqlite:{0}/link/a.db", True),
        ("sqlite:{0}/new.db", "sqlite:{0}/link/new.db", True),
        ("json:{0}/folder", "json-plain:{0}/link/folder/", True),
        ("json:{0}/folder", "json:{0}/other", False),
        ("firestore:made-up", "firestore:made-up/(default)", True),
        ("firestore:made-up", "firestore:made-up/second", False),
        ("firestore:made-up", "sqlite:{0}/a.db", False),
    ],
)
def test_store_under_another_name_is_the_same(tmp_path, one, other, is_same):
    for name in ("a.db", "b.db"):
        (tmp_path / name).touch()
    (tmp_path / "hard.db").hardlink_to(tmp_path / "a.db")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path)
    stores = [Settings(DAYBOOK_STORE=name and name.format(tmp_path)) for name in (one, other)]

    assert is_same_store(*stores) is is_same_store(*reversed(stores)) is is_same
