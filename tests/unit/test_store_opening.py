"""The opening of a store over tables: its root key, its first admin, its only account, and the place that the settings name."""

import json
import subprocess
import sys
from base64 import urlsafe_b64encode
from pathlib import Path
from uuid import uuid4

import pytest

from services.crypto import RootKeys, new_key
from services.domain import AccountRole, UserId
from services.domain.policies import Window
from services.embedded.folders import Folders
from services.errors import Misconfigured
from services.rules.budget import NO_CAP, Deployment
from services.settings import Settings
from services.store.files import FilesPlace
from services.store.sqlite import SqlitePlace
from services.store.tables.in_memory import InMemoryStore
from services.store.tables.opening import check_root_key, let_first_account_be_admin, only_account
from services.store.tables.schema import ACCOUNTS, DEPLOYMENT, AccountRow
from services.stores import open_copy_source, open_operator, open_tables, place_of
from tests.stack.apps import ROOT

FIRST, SECOND, OTHER = new_key(), new_key(), new_key()


@pytest.fixture
def store():
    return InMemoryStore()


def sign_up(store, name="maya", **changes):
    row = AccountRow(id=UserId(uuid4()), email=f"{name}@daybook.test", role=AccountRole.USER)
    row = type(row)(
        **{**{each: getattr(row, each) for each in row.__dataclass_fields__}, **changes}
    )
    store.of(None).run(lambda block: block.put(ACCOUNTS, row))


def ring(*keys, current=None):
    return RootKeys(dict(enumerate(keys, 1)), current or len(keys))


def test_store_opens_with_the_root_key_it_was_made_with(store):
    check_root_key(store, ring(FIRST))
    check_root_key(store, ring(FIRST))


def test_store_is_refused_to_another_root_key(store):
    check_root_key(store, ring(FIRST))

    with pytest.raises(Misconfigured, match="not the one"):
        check_root_key(store, ring(OTHER))


def test_rotated_root_key_takes_the_place_of_the_first(store):
    check_root_key(store, ring(FIRST))
    check_root_key(store, ring(FIRST, SECOND))

    check_root_key(store, RootKeys({2: SECOND}, 2))
    with pytest.raises(Misconfigured):
        check_root_key(store, ring(FIRST))


def test_root_key_that_was_never_current_can_be_taken_back(store):
    check_root_key(store, ring(FIRST))
    check_root_key(store, ring(FIRST, SECOND, current=1))

    check_root_key(store, ring(FIRST, OTHER, current=1))
    check_root_key(store, ring(FIRST))


def test_rotation_is_taken_back_while_both_root_keys_are_there(store):
    check_root_key(store, ring(FIRST, SECOND))
    check_root_key(store, ring(FIRST, SECOND, current=1))

    check_root_key(store, ring(FIRST))


def copy_from(chosen, ring):
    with open_copy_source(chosen, ring, is_dry=False):
        pass


@pytest.mark.parametrize(
    "command", [lambda chosen, ring: open_operator(chosen).set_caps(None, {}), copy_from]
)
@pytest.mark.parametrize(("current", "of_command"), [(1, 2), (2, 1)])
def test_command_puts_no_root_key_into_force(tmp_path, command, current, of_command):
    place, at = SqlitePlace(tmp_path / "daybook.db"), ring(FIRST, SECOND, current=of_command)
    keys = {number: urlsafe_b64encode(key).decode() for number, key in ((1, FIRST), (2, SECOND))}
    open_tables(place, ring(FIRST, SECOND, current=current)).close()
    chosen = Settings(
        DAYBOOK_STORE=f"sqlite:{place.path}",
        DAYBOOK_KEY_DIR=tmp_path / "keys",
        DAYBOOK_ROOT_KEYS=json.dumps({"current": of_command, "keys": keys}),
    )

    command(chosen, at)

    alone = RootKeys({current: (FIRST, SECOND)[current - 1]}, current)
    open_tables(place, alone).close()


def test_store_with_accounts_but_no_tag_is_refused(store):
    sign_up(store)

    with pytest.raises(Misconfigured):
        check_root_key(store, ring(FIRST))


def test_refused_store_is_closed_again(store, monkeypatch):
    closed = []
    monkeypatch.setattr(store, "close", lambda: closed.append(True))
    check_root_key(store, ring(FIRST))
    place = type("Place", (), {"open": lambda self, **_: store})()

    with pytest.raises(Misconfigured):
        open_tables(place, RootKeys({1: OTHER}, 1))

    assert closed == [True]


@pytest.mark.parametrize(("is_start", "left"), [(True, None), (False, NO_CAP)])
def test_start_abandons_the_count_of_a_killed_process(store, is_start, left):
    store.of(None).run(lambda block: block.put(DEPLOYMENT, Deployment(monthly_cap_micro=NO_CAP)))
    place = type("Place", (), {"open": lambda self, **_: store})()

    open_tables(place, ring(FIRST), is_start=is_start)

    row = store.of(None).run(lambda block: block.get(DEPLOYMENT, "deployment"))
    assert row.monthly_cap_micro == left


def test_first_account_becomes_admin_where_nobody_else_can_sign_up(store):
    assert not let_first_account_be_admin(store, is_let=True)
    sign_up(store, role=AccountRole.ADMIN)

    assert let_first_account_be_admin(store, is_let=False)


def test_several_accounts_have_no_only_one(store):
    assert only_account(store) is None
    sign_up(store)
    sign_up(store, "omar")

    with pytest.raises(Misconfigured, match="DAYBOOK_SIGN_IN=local"):
        only_account(store)


def test_account_whose_credentials_are_gone_is_not_made_anew(store):
    sign_up(store)

    with pytest.raises(Misconfigured, match="credentials of this store's account are gone"):
        only_account(store)


@pytest.mark.parametrize(
    "place", ["sqlite:{keys}/daybook.db", "sqlite:{keys}", "json:{keys.parent}"]
)
def test_store_beside_the_keys_is_refused(tmp_path, place):
    folders = Folders(data=tmp_path / "data", keys=tmp_path / "keys", cache=tmp_path / "cache")
    chosen = Settings(DAYBOOK_STORE=place.format(keys=folders.keys))

    with pytest.raises(Misconfigured, match="DAYBOOK_KEY_DIR"):
        place_of(chosen, folders)


# a child process in which Windows' lack of fcntl precedes all imports
ON_WINDOWS = """
import sys
sys.modules["fcntl"] = None
from services.embedded.folders import choose_folders
from services.errors import Misconfigured
from services.settings import Settings
from services.stores import place_of
folders = choose_folders(None, None)
sys.platform = "win32"
try: place_of(Settings(DAYBOOK_STORE=sys.argv[1]), folders)
except Misconfigured as error: print(error.public)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "json", "json-plain"])
def test_local_store_on_windows_is_refused(tmp_path, kind):
    command = [sys.executable, "-c", ON_WINDOWS, f"{kind}:{tmp_path}/daybook"]

    ran = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)

    assert ran.stdout == "SQLite and JSON stores work on Linux, macOS and WSL, not on Windows.\n"
    assert not list(tmp_path.iterdir())


def test_supabase_has_no_place(tmp_path):
    folders = Folders(data=tmp_path, keys=tmp_path, cache=tmp_path)

    assert place_of(Settings(), folders) is None
    assert place_of(Settings(DAYBOOK_STORE="sqlite:a.db"), folders).path == Path("a.db").absolute()
    assert place_of(Settings(DAYBOOK_STORE="json:a"), folders) == FilesPlace(Path("a").absolute())
    assert place_of(Settings(DAYBOOK_STORE="json-plain:a"), folders).is_plain
    chosen = {"DAYBOOK_POLICY": "window", "DAYBOOK_WINDOW_MESSAGES": 40}
    plain = place_of(Settings(DAYBOOK_STORE="json-plain:a", **chosen), folders)
    assert plain.policy == Window(40)


@pytest.mark.parametrize(
    ("database", "name"), [("", "(default)"), ("/(default)", "(default)"), ("/chats", "chats")]
)
def test_firestore_is_a_database_of_a_project(tmp_path, database, name):
    folders = Folders(data=tmp_path, keys=tmp_path, cache=tmp_path)

    place = place_of(Settings(DAYBOOK_STORE=f"firestore:daybook{database}"), folders)

    assert (place.kind, place.project, place.database) == ("Firestore", "daybook", name)


def test_firestore_without_its_client_is_refused(tmp_path, monkeypatch):
    folders = Folders(data=tmp_path, keys=tmp_path, cache=tmp_path)
    monkeypatch.setitem(sys.modules, "services.store.firestore", None)

    with pytest.raises(Misconfigured, match="--group firestore"):
        place_of(Settings(DAYBOOK_STORE="firestore:daybook"), folders)


def test_embedded_store_without_its_packages_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "psutil", None)
    monkeypatch.delitem(sys.modules, "services.embedded.postgres", raising=False)
    chosen = Settings(DAYBOOK_DATA_DIR=tmp_path / "data", DAYBOOK_KEY_DIR=tmp_path / "keys")

    with pytest.raises(Misconfigured, match="set DAYBOOK_STORE, or DATABASE_URL with SUPABASE_URL"):
        open_operator(chosen)
