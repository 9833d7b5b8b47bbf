"""The export of everything: whole, without what is deleted or temporary, and never a part that looks whole."""

import csv
import io
import json
from datetime import UTC, timedelta
from hashlib import sha256
from uuid import uuid4
from zipfile import BadZipFile, ZipFile

import pytest

from services.domain import Fact, FactId, Space, SpaceId
from services.errors import StoreUnavailable
from services.web.full_export import FullExport
from tests.fakes import MAYA, choose
from tests.store.conformance.talk import NOON, UNDO_SECONDS
from tests.stores import COST_MICRO, USAGE, InMemoryDatabase


@pytest.fixture
def database():
    return InMemoryDatabase(MAYA)


def exported(database, export=None):
    """The files of an export, by their names."""
    sent = b"".join((export or FullExport(database.store(), UTC)).parts())
    with ZipFile(io.BytesIO(sent)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def chats(files):
    """The conversations among *files*, by title."""
    names = [name for name in files if name.startswith("chats/") and name.endswith(".json")]
    documents = [json.loads(files[name]) for name in names]
    return {one["conversation"]["title"]: one for one in documents}


def test_manifest_names_every_other_file_and_its_hash(database):
    garden = database.hold("Garden", "One", "Two", "Three", "Four")
    database.hold("Pond", "Five", "Six")

    files = exported(database)

    manifest = json.loads(files.pop("manifest.json"))
    assert manifest["files"] == {
        name: {"bytes": len(data), "sha256": sha256(data).hexdigest()}
        for name, data in files.items()
    }
    assert manifest["counts"] == {"conversations": 2, "messages": 6, "spaces": 0, "facts": 0}
    assert manifest["unreadable"] == []
    assert f"chats/Garden {garden}.json" in files
    assert b"## You" in files[f"chats/Garden {garden}.md"]


def test_chats_have_messages_usage_and_what_was_interrupted(database):
    garden = database.hold("Garden", "One", "Two", "Three")
    database.crash(garden, "Fou")

    chat = chats(exported(database))["Garden"]

    assert [message["body"] for message in chat["messages"]] == ["One", "Two", "Three"]
    assert chat["turns"][0]["usage"]["input_tokens"] == USAGE.prompt
    assert chat["unfinished"]["body"] == "Fou"


def test_deleted_chats_are_left_out_and_archived_ones_are_not(database):
    database.conversations.archive(database.hold("Archived", "One", "Two"))
    database.conversations.discard(database.hold("Deleted", "Three", "Four"), UNDO_SECONDS)

    found = chats(exported(database))

    assert list(found) == ["Archived"]
    assert found["Archived"]["conversation"]["is_archived"]


def test_chat_deleted_during_an_export_is_left_out(database):
    database.hold("Garden", "One", "Two")
    pond = database.hold("Pond", "Three", "Four")
    export = FullExport(database.store(), UTC)
    database.conversations.discard(pond, UNDO_SECONDS)

    files = exported(database, export)

    assert list(chats(files)) == ["Garden"]
    assert json.loads(files["manifest.json"])["counts"]["conversations"] == 1


def test_spaces_facts_preferences_and_usage_are_exported(database):
    store = database.store()
    space = Space(id=SpaceId(uuid4()), name="Allotment", created_at=NOON)
    store.spaces.keep(space)
    store.facts.keep(Fact(id=FactId(uuid4()), text="Grows leeks.", since=NOON))
    choose(store.profile, theme="dark")
    database.hold("Garden", "One", "Two")

    files = exported(database)

    assert json.loads(files["spaces.json"])["spaces"][0]["name"] == "Allotment"
    assert json.loads(files["facts.json"])["facts"][0]["text"] == "Grows leeks."
    assert json.loads(files["preferences.json"])["preferences"]["theme"] == "dark"
    (entry,) = csv.DictReader(io.StringIO(files["usage.csv"].decode()))
    assert int(entry["cost_micro"]) == COST_MICRO


def test_every_charge_is_exported_once_however_old():
    database = InMemoryDatabase(MAYA, now=lambda: NOON)
    database.ledger.usage.page = 2
    ages = [timedelta(days) for days in (400, 90, 64, 63, 32, 31, 0)]
    for age in ages:
        database.elapsed = -age
        database.hold("Garden", "One", "Two")

    usage = exported(database)["usage.csv"].decode()

    days = [row["day"] for row in csv.DictReader(io.StringIO(usage))]
    assert days == [str((NOON - age).date()) for age in ages]


def test_unreadable_chat_is_named_and_leaves_out_no_other(database):
    pond = database.hold("Pond", "Five", "Six")
    database.hold("Garden", "One", "Two")
    database.spoil("conversation", pond, "wrapped_key")

    files = exported(database)

    assert list(chats(files)) == ["Garden"]
    assert json.loads(files["manifest.json"])["unreadable"] == [str(pond)]


def test_export_is_under_way_only_while_it_is_sent(database):
    database.hold("Garden", "One", "Two")
    export = FullExport(database.store(), UTC)

    assert export.is_over
    assert not any(export.is_over for _ in export.parts())
    assert export.is_over


def test_export_that_fails_is_no_whole_file(database):
    for number in range(9):
        database.hold(f"Chat {number}", "One", "Two")
    export = FullExport(database.store(), UTC)
    sent = []

    def receive():
        for part in export.parts():
            sent.append(part)
            if export.done == 2:
                database.rows.failures["read_conversation"] = StoreUnavailable()

    with pytest.raises(ConnectionAbortedError):
        receive()

    assert 2 <= export.done < export.total
    assert export.is_over
    with pytest.raises(BadZipFile):
        ZipFile(io.BytesIO(b"".join(sent)))
