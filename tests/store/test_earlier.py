"""Stores that an earlier version made: a later one opens them, goes on in their chats, and exports the same."""

import json
import re
import tarfile
from contextlib import closing
from io import BytesIO
from zipfile import ZipFile

import pytest

from services.domain.accounts import UserOrder
from services.store.files import FilesPlace
from services.store.sqlite import SqlitePlace
from services.store.tables.backend import TablesBackend
from services.stores import open_tables
from tests.chats import ask, chat_factory, said
from tests.earlier.make import HERE, RING, export
from tests.store.conftest import PASSWORD
from tests.stores import WholeAccounts, store_of, sweep

PLACES = {"sqlite": SqlitePlace, "json": FilesPlace, "supabase": SqlitePlace}


@pytest.fixture(autouse=True, scope="module")
def _cheap_hashes():
    """The stored hashes have the full cost."""


@pytest.fixture(params=PLACES)
def earlier(request, tmp_path):
    """Return the place of a store, and what Maya exported from it."""
    with tarfile.open(HERE / f"{request.param}.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    return PLACES[request.param](tmp_path / "store"), (tmp_path / "export.zip").read_bytes()


def files_of(exported):
    """Return the files of an export by name, JSON as values; without those that only describe the others."""
    archive = ZipFile(BytesIO(exported))
    return {
        name: _read(name, archive.read(name).decode())
        for name in archive.namelist()
        if name not in {"README.md", "index.html", "manifest.json"}
    }


def _read(name, text):
    if name.endswith(".json"):
        return json.loads(text)
    # in a file the numbers of ledger entries have leading zeros
    return re.sub("^0+", "", text, flags=re.MULTILINE) if name == "usage.csv" else text


def lacking(before, now):
    """Return what *now* lacks of *before*, or has changed; further fields of JSON objects do not count."""
    if isinstance(before, dict) and isinstance(now, dict):
        found = {name: lacking(value, now.get(name)) for name, value in before.items()}
        return {name: value for name, value in found.items() if value is not None} or None
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        return [*filter(None, map(lacking, before, now))] or None
    return None if before == now else (before, now)


def test_store_of_an_earlier_version_goes_on(earlier, model, server):
    place, exported = earlier
    with (
        closing(open_tables(place, RING)) as tables,
        chat_factory(model) as make_chat,
    ):
        accounts = WholeAccounts(TablesBackend(tables), RING, 3600, 86400)
        _, maya = accounts.sign_in_with("maya@daybook.test", PASSWORD)
        store = store_of(maya)
        before = files_of(export(maya))
        assert lacking(files_of(exported), before) is None
        titles = {chat.title: chat.id for chat in store.conversations.recent()}
        assert titles.keys() == {"Garden", "Other", "Cut"}
        server.script(reply="In March.")

        _, thread = ask(
            make_chat(store, lambda: sweep(accounts.backend)), "When?", titles["Garden"]
        )

        assert said(thread)[-2:] == ["When?", "In March."]
        assert thread.is_whole
        assert "A linden." in json.dumps(server.requests[-1].body)
        [garden] = [name for name in before if name.endswith("Garden.json")]
        assert "In March." in json.dumps(files_of(export(maya))[garden])
        _, admin = accounts.sign_in_with("admin@daybook.test", PASSWORD)
        assert len(admin.backend.administration.list_users("", UserOrder.EMAIL).users) == 2
