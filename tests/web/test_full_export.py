"""The export of all data: complete, without deleted and temporary data, and never a part that looks complete."""

import csv
import io
import json
from contextlib import closing
from datetime import UTC, timedelta, timezone
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import PurePosixPath
from urllib.parse import unquote
from uuid import uuid4
from zipfile import BadZipFile, ZipFile

import pytest

from services.domain import Fact, FactId, Space, SpaceId
from services.errors import StoreBlocked, StoreUnavailable
from services.store.files import FilesPlace
from services.store.sealed import throwaway_keys
from services.users.full_export import FullExport
from tests.fakes import MAYA, choose
from tests.store.conformance.talk import NOON, UNDO_SECONDS
from tests.stores import COST_MICRO, USAGE, InMemoryDatabase


@pytest.fixture
def database():
    return InMemoryDatabase(MAYA)


def exported(database, export=None):
    """Return the files of an export by name."""
    sent = b"".join((export or FullExport(database.store(), UTC)).parts())
    with ZipFile(io.BytesIO(sent)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def chats(files):
    """Return the conversations among *files* by title."""
    names = [name for name in files if "/" in name and name.endswith(".json")]
    documents = [json.loads(files[name]) for name in names]
    return {one["conversation"]["title"]: one for one in documents}


def test_manifest_names_every_other_file_and_its_hash(database):
    database.hold("Garden", "One", "Two", "Three", "Four")
    database.hold("Pond", "Five", "Six")

    files = exported(database)

    manifest = json.loads(files.pop("manifest.json"))
    assert manifest["files"] == {
        name: {"bytes": len(data), "sha256": sha256(data).hexdigest()}
        for name, data in files.items()
    }
    assert manifest["counts"] == {"conversations": 2, "messages": 6, "spaces": 0, "facts": 0}
    assert manifest["unreadable"] == []


def test_chats_lie_by_space_and_date_beside_an_index_and_a_readme():
    database = InMemoryDatabase(MAYA, now=lambda: NOON)
    store = database.store()
    shared = [new_space(store, "Allotment"), new_space(store, "ALLOTMENT"), new_space(store, "CON")]
    for space in shared:
        store.conversations.move(database.hold("Leeks", "One", "Two"), space.id)
    database.hold("Garden", "One", "Two")
    database.hold("garden", "One", "Two")
    database.conversations.archive(database.hold("", "One", "Two"))

    # at 12:00 UTC, it is the next day in this zone
    files = exported(database, FullExport(database.store(), timezone(timedelta(hours=14))))

    day = f"{NOON + timedelta(hours=14):%Y-%m-%d}"
    names = [name for name in files if name.endswith(".md")]
    assert {name.lower() for name in names} == {
        "readme.md",
        f"spaces/allotment/{day} leeks.md",
        f"spaces/allotment (2)/{day} leeks.md",
        f"spaces/_con/{day} leeks.md",
        f"chats/{day} garden.md",
        f"chats/{day} garden (2).md",
        f"chats/{day} untitled chat.md",
    }
    assert b"## You" in files[f"chats/{day} Untitled chat.md"]
    index = read_index(files["index.html"])
    assert sorted(index.links) == sorted(
        name for name in files if name.startswith(("chats/", "spaces/"))
    )
    assert index.headings[0] == "Chats"
    assert sorted(index.headings[1:]) == ["ALLOTMENT", "Allotment", "CON"]
    assert files["index.html"].count(b"archived") == 1
    assert next(iter(files)) == "README.md"
    assert list(files)[-2:] == ["index.html", "manifest.json"]


def test_chat_whose_space_is_deleted_lies_beside_the_others(database):
    store = database.store()
    space = new_space(store, "Allotment")
    store.conversations.move(database.hold("Leeks", "One", "Two"), space.id)
    store.spaces.forget(space.id)

    names = exported(database)

    assert not [name for name in names if name.startswith("spaces/")]
    assert [name for name in names if name.endswith(" Leeks.md")]


HOSTILE = [
    '"><script>alert(1)</script><a href="',
    "../../etc/passwd",
    "javascript:alert(1)",
    "a#b?c%2e%2e&amp;",
    "C:\\Windows",
    "Grüße 🍅",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_within_paths_and_the_index(database, name):
    store = database.store()
    space = new_space(store, name)
    store.conversations.move(database.hold(name, "One", "Two"), space.id)

    files = exported(database)

    index = read_index(files["index.html"])
    chat = [one for one in files if "/" in one]
    assert sorted(index.links) == sorted(chat)
    assert all(PurePosixPath(one).parts[0] == "spaces" and one.count("/") == 2 for one in chat)
    assert not [one for one in chat if ".." in PurePosixPath(one).parts]
    assert index.headings == [name]
    assert index.texts.count(name) == 2
    assert index.tags <= ALLOWED


ALLOWED = {"html", "head", "meta", "title", "style", "body", "h1", "h2", "ul", "li", "a", "bdi"}


class Index(HTMLParser):
    """The links, tags and texts of an index, as a browser finds them."""

    def __init__(self):
        super().__init__()
        self.tags, self.links, self.texts, self.headings = set(), [], [], []
        self._open = []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self._open.append(tag)
        self.links += [unquote(value) for name, value in attrs if name == "href"]

    def handle_endtag(self, tag):
        while self._open.pop() != tag:
            pass

    def handle_data(self, data):
        self.texts.append(data)
        if self._open[-2:] == ["h2", "bdi"]:
            self.headings.append(data)


def read_index(data):
    index = Index()
    index.feed(data.decode())
    return index


def new_space(store, name):
    space = Space(id=SpaceId(uuid4()), name=name, created_at=NOON)
    store.spaces.keep(space)
    return space


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
    new_space(store, "Allotment")
    store.facts.keep(Fact(id=FactId(uuid4()), text="Grows leeks.", since=NOON))
    choose(store.profile, theme="dark")
    database.hold("Garden", "One", "Two")

    files = exported(database)

    assert json.loads(files["spaces.json"])["spaces"][0]["name"] == "Allotment"
    assert json.loads(files["memories.json"])["facts"][0]["text"] == "Grows leeks."
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


def test_chat_in_a_damaged_file_is_named_and_leaves_out_no_other(tmp_path):
    place, keys = FilesPlace(tmp_path / "daybook"), throwaway_keys(MAYA)

    def opened():
        return InMemoryDatabase(MAYA, make_store=place.open, keys=lambda _: keys)

    with closing((database := opened()).deployment):
        pond = database.hold("Pond", "Five", "Six")
        database.hold("Garden", "One", "Two")
    file = place.path / str(MAYA) / "chats" / f"{pond}.jsonl"
    file.write_bytes(file.read_bytes()[:-9])

    with closing((database := opened()).deployment):
        files = exported(database)

    assert list(chats(files)) == ["Garden"]
    assert json.loads(files["manifest.json"])["unreadable"] == [str(pond)]


def test_export_is_under_way_only_while_it_is_sent(database):
    database.hold("Garden", "One", "Two")
    export = FullExport(database.store(), UTC)

    assert export.is_over
    assert not any(export.is_over for _ in export.parts())
    assert export.is_over


@pytest.mark.parametrize(
    "failure",
    [StoreUnavailable(), StoreBlocked("The folder was moved: put it back.")],
    ids=["unavailable", "blocked"],
)
def test_export_that_fails_is_no_whole_file(database, failure):
    for number in range(9):
        database.hold(f"Chat {number}", "One", "Two")
    export = FullExport(database.store(), UTC)
    sent = []

    def receive():
        for part in export.parts():
            sent.append(part)
            if export.done == 2:
                database.rows.failures["read_conversation"] = failure

    with pytest.raises(type(failure)):
        receive()

    assert 2 <= export.done < export.total
    assert export.is_over
    with pytest.raises(BadZipFile):
        ZipFile(io.BytesIO(b"".join(sent)))
