"""Documents that a newer version of the app stored: this one does not write over what it cannot read."""

import json
from dataclasses import replace

import pytest

from services.domain import Summary
from services.errors import NewerVersion
from services.store.sealed.seals import Format
from tests.fakes import choose
from tests.store.conformance.talk import SUMMARY, a_space


@pytest.fixture
def newer(monkeypatch, database):
    """Run an act in a process of a newer version, which writes *more* into each document."""

    def newer(act, **more):
        write = Format.write
        with monkeypatch.context() as patch:
            patch.setattr(
                Format, "write", lambda *given: json.dumps(json.loads(write(*given)) | more)
            )
            act(database.store())

    return newer


UNKNOWN_POLICY = {"policy": {"name": "vector"}}


def test_preferences_with_an_unknown_policy_are_not_written_over(database, newer):
    newer(lambda store: choose(store.profile, theme="dark"), **UNKNOWN_POLICY)
    before, older = dict(database.tables.documents), database.store()

    with pytest.raises(NewerVersion):
        choose(older.profile, theme="light")

    assert database.tables.documents == before


def test_space_with_an_unknown_policy_is_not_written_over(database, newer):
    newer(lambda store: store.spaces.keep(a_space(policy=Summary())), **UNKNOWN_POLICY)
    before, older = dict(database.tables.documents), database.store()
    [space] = older.spaces.all()

    with pytest.raises(NewerVersion):
        older.spaces.keep(replace(space, name="Garden"), replaces=space)

    assert database.tables.documents == before


def test_unreadable_preferences_are_replaced(database):
    choose(database.store().profile, theme="dark")
    database.spoil("preferences", database.user_id)
    older = database.store()

    choose(older.profile, theme="light")

    assert older.profile.preferences().theme == "light"


def test_unknown_fields_of_a_summary_stay(database, newer, monkeypatch):
    garden = database.hold("Garden", "When do I sow peas?", "In March.")
    newer(
        lambda store: store.conversations.set_summary(store.conversations.thread(garden), SUMMARY),
        style="short",
    )
    older, written, write = database.store(), [], Format.write
    thread = older.conversations.thread(garden)
    assert thread.summary == SUMMARY
    monkeypatch.setattr(
        Format, "write", lambda *given: written.append(write(*given)) or written[-1]
    )

    older.conversations.set_summary(thread, replace(SUMMARY, text="They sow beans."))

    assert json.loads(written[-1])["style"] == "short"
