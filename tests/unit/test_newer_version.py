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


@pytest.fixture
def written(monkeypatch):
    """The texts of documents that are written from now on, by newer processes without what they add."""
    texts, write = [], Format.write
    monkeypatch.setattr(Format, "write", lambda *given: texts.append(write(*given)) or texts[-1])
    return texts


UNKNOWN_POLICY = {"policy": {"name": "vector", "messages": 8, "dimensions": 3}}


def test_unknown_policy_of_preferences_stays_beside_a_change(database, newer, written):
    newer(lambda store: choose(store.profile, theme="dark"), **UNKNOWN_POLICY)
    older = database.store()

    choose(older.profile, theme="light")

    assert json.loads(written[-1]) == json.loads(written[0]) | UNKNOWN_POLICY | {"theme": "light"}


def test_preferences_with_an_unknown_theme_are_not_written_over(database, newer):
    newer(lambda store: choose(store.profile, theme="dark"), theme="sepia")
    before, older = dict(database.tables.documents), database.store()

    with pytest.raises(NewerVersion):
        choose(older.profile, theme="light")

    assert database.tables.documents == before


def test_unknown_policy_of_a_space_stays_beside_a_change(database, newer, written):
    newer(lambda store: store.spaces.keep(a_space(policy=Summary())), **UNKNOWN_POLICY)
    older = database.store()
    [space] = older.spaces.all()

    older.spaces.keep(replace(space, name="Garden"), replaces=space)

    assert json.loads(written[-1])["policy"] == UNKNOWN_POLICY["policy"]


def test_space_with_an_unknown_value_is_not_written_over(database, newer):
    newer(lambda store: store.spaces.keep(a_space()), uses_personal_facts="some")
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


def test_unknown_fields_of_a_summary_stay(database, newer, written):
    garden = database.hold("Garden", "When do I sow peas?", "In March.")
    newer(
        lambda store: store.conversations.set_summary(store.conversations.thread(garden), SUMMARY),
        style="short",
    )
    older = database.store()
    thread = older.conversations.thread(garden)
    assert thread.summary == SUMMARY

    older.conversations.set_summary(thread, replace(SUMMARY, text="They sow beans."))

    assert json.loads(written[-1])["style"] == "short"
