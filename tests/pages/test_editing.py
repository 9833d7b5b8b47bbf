"""The document that an editing dialog compares with."""

import pytest

from pages._parts import editing
from pages._tab import Tab

OLD, NEW = "Latin", "Latin II"


@pytest.fixture
def fields(monkeypatch):
    """The drawn fields of a tab, by key."""
    drawn, tab = {}, Tab()
    monkeypatch.setattr(editing.st, "session_state", drawn)
    monkeypatch.setattr(editing, "tab", lambda: tab)
    return drawn


def test_open_dialog_keeps_the_document_of_its_opening(fields):
    assert editing.seen_at_opening("name", OLD) == OLD
    fields["name"] = OLD

    assert editing.seen_at_opening("name", NEW) == OLD
    assert editing.seen_at_opening("other", NEW) == NEW


def test_edit_right_after_the_creation_sees_what_was_created(fields):
    assert editing.seen_at_opening("name", None) is None
    fields["name"] = OLD  # the field of the dialog that created the document

    assert editing.seen_at_opening("name", OLD) == OLD
