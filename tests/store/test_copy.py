"""Copies of a deployment from one SQLite file to another, by the operator's command."""

import base64
import json
import os
import shutil
import subprocess
import sys
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from click.testing import CliRunner

from services.crypto import RootKeys, new_key
from services.domain import AccountRole
from services.domain.rows import SearchTextRow
from services.operate import demo
from services.operate.__main__ import operate
from services.operate.demo import make_demo
from services.store.credentials import open_stored
from services.store.files import FilesPlace
from services.store.sqlite import SqlitePlace
from services.store.sqlite.place import MIGRATIONS
from services.store.tables import content, schema
from services.store.tables.access import note
from services.store.tables.backend import TablesBackend
from services.store.tables.copying import TablesCopy
from services.store.tables.opening import check_root_key
from services.store.tables.operator import TablesOperator
from services.store.writes import PutPiece
from tests.store.conftest import PASSWORD
from tests.stores import WholeAccounts

ROOT_KEY = base64.urlsafe_b64encode(new_key()).decode()
RING = RootKeys.parse(ROOT_KEY)
NOT_COPIED = {"sessions", "steps", "throttles", "nonces", "backup"}
OTHER_DATA = (
    "The target holds other data: name a new store, or the one of a copy that was cut short."
)


@pytest.fixture
def run(tmp_path):
    """Return a function that runs a command, and returns its exit code and output."""

    def run(*arguments, **environment):
        ours = ("DAYBOOK_", "DATABASE_", "SUPABASE_", "OPENAI_")
        given = {name: None for name in os.environ if name.startswith(ours)}
        given |= {"DAYBOOK_KEY_DIR": str(tmp_path / "keys"), "DAYBOOK_ROOT_KEYS": ROOT_KEY}
        result = CliRunner().invoke(operate, arguments, env=given | environment)
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result.exit_code, result.output.strip()

    return run


def place(path):
    return SqlitePlace(path) if path.suffix else FilesPlace(path)


def named(path):
    """Return *path* as a value of DAYBOOK_STORE."""
    return f"sqlite:{path}" if path.suffix else f"json:{path}"


@contextmanager
def opened(path):
    with closing(place(path).open()) as tables:
        check_root_key(tables, RING)
        yield tables


def rows_of(path):
    """Return all rows of a store that a copy includes."""
    with opened(path) as tables:
        return copied_rows(tables)


def copied_rows(tables):
    users = tables.of(None).run(lambda block: [one.id for one in block.select(schema.ACCOUNTS)])
    return {
        (table.name, user_id, str(table.key(row))): row
        for table in schema.TABLES.values()
        if table.name not in NOT_COPIED
        for user_id in ([None] if table.is_shared else users)
        for row in tables.of(user_id).run(lambda block, table=table: block.select(table))
    }


def add_rare_rows(tables, user_id):
    """Store a row in each table that the demo leaves empty."""
    now = datetime.now(UTC)
    chat = tables.of(user_id).run(lambda block: block.select(schema.CONVERSATIONS, limit=1))[0]
    message = tables.of(user_id).run(lambda block: block.select(schema.MESSAGES, limit=1))[0]
    turn = tables.of(user_id).run(lambda block: block.select(schema.TURNS, limit=1))[0]

    def put(block):
        for number in range(1, 4):
            ids = {"conversation_id": chat.id, "message_id": message.id, "attachment_id": chat.id}
            block.put(schema.PIECES, PutPiece(**ids, number=number, piece_body="sealed"))
        text = {"conversation_id": chat.id, "number": 1, "last_seq": 2}
        block.put(schema.SEARCH_TEXTS, SearchTextRow(**text, body="sealed"))
        ids = {"turn_id": turn.id, "client_turn_id": turn.client_turn_id}
        block.put(schema.RECEIPTS, schema.ReceiptRow(**ids, body="sealed"))
        block.put(schema.THOUGHTS, schema.ThoughtsRow(message.id, "sealed"))
        due = now + timedelta(days=1)
        ids = {"id": uuid4(), "conversation_id": chat.id, "message_ids": (message.id,)}
        block.put(schema.DISCARDS, schema.Discard(**ids, destroy_at=due))
        block.put(schema.DOCUMENTS, schema.Document(kind="fact", id=uuid4(), rev=1, body="sealed"))
        block.put(schema.ERASURES, schema.Erasure(id=uuid4(), space_id=uuid4()))
        block.put(
            schema.INVITATIONS,
            schema.StoredInvitation(
                id=uuid4(),
                code_hash="0" * 64,
                email=None,
                role=AccountRole.USER,
                made_by=user_id,
                created_at=now,
                expires_at=due,
            ),
        )
        pending = {"id": uuid4(), "user_id": None, "lookup": "1" * 64, "sealed": "sealed"}
        block.put(
            schema.CREDENTIALS, schema.CredentialsRow(**pending, generation=1, expires_at=due)
        )
        former = {"lookup": "2" * 64, "user_id": user_id, "expires_at": due}
        block.put(schema.LOOKUPS, schema.Lookup(**former))
        block.put(schema.LOOKUPS, schema.Lookup(lookup="3" * 64, user_id=user_id))
        notice = {"id": uuid4(), "kind": "operator", "at": now}
        block.put(schema.NOTICES, schema.StoredNotice(**notice, browser="sealed"))
        block.put(schema.MODELS, schema.ModelSettings(refuses_unknown_prices=True))
        block.put(schema.SETTINGS, schema.Settings(retention_days=40))
        block.put(schema.BACKUP, schema.Backup(now))

    tables.of(user_id).run(put)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The path of a store with ten accounts, and a row in each table."""
    path = tmp_path_factory.mktemp("made") / "source.db"
    with opened(path) as tables, pytest.MonkeyPatch.context() as changed:
        changed.setattr(demo, "DAYS", 4)
        changed.setattr(demo, "NAMES", demo.NAMES[:10])
        TablesOperator(place(path), lambda: place(path).open(is_app=False)).load(
            {},
            lambda now: make_demo(RING, 1, PASSWORD, now),
            lambda stored: open_stored(RING, stored).managed_password,
        )
        add_rare_rows(tables, tables.owners(schema.CONVERSATIONS)[0])
    return path


@pytest.fixture
def source(made, tmp_path):
    return Path(shutil.copy(made, tmp_path))


@pytest.fixture(params=["target.db", "target"], ids=["sqlite", "json"])
def target(request, tmp_path):
    (tmp_path / "new").mkdir()
    return tmp_path / "new" / request.param


def test_copy_of_a_store_into_itself_is_refused(run, tmp_path):
    place = f"sqlite:{tmp_path}/a.db"

    for ends in ((place, place), ("supabase", "supabase")):
        code, said = run("copy", *ends)
        assert (code, f"{ends[0]} and {ends[1]} are one store." in said) == (1, True)


@pytest.fixture
def copy(run, source, target):
    return lambda *options, **environment: run(
        "copy", named(source), named(target), *options, **environment
    )


def test_copy_has_every_row(run, copy, source, target, monkeypatch):
    monkeypatch.setattr(content, "_MOST_OF_SLICE", 3)

    code, said = copy()

    assert (code, "users: 10 of 10" in said, "Copied and compared: " in said) == (0, True, True)
    rows = rows_of(source)
    assert {name for name, *_ in rows} == schema.TABLES.keys() - NOT_COPIED
    assert rows_of(target) == rows
    assert copy()[1].endswith("Copied and compared: nothing, all is there.")
    back = target.with_name("back.db")
    assert run("copy", named(target), named(back))[0] == 0
    assert rows_of(back) == rows


def test_thoughts_and_receipts_are_copied_into_the_files_of_chats(run, source, tmp_path):
    target = tmp_path / "target"

    assert run("copy", named(source), named(target))[0] == 0

    lines = [line for file in target.glob("*/chats/*") for line in file.read_text().splitlines()]
    assert {"thoughts", "receipts"} <= {json.loads(line)["table"] for line in lines}
    assert not [*target.glob("*/loose.jsonl")]


def test_user_of_a_copy_signs_in(copy, target):
    assert copy()[0] == 0

    with opened(target) as tables:
        accounts = WholeAccounts(TablesBackend(tables), RING, 3600, 3600)
        assert accounts.sign_in_with("admin@example.org", PASSWORD)[1].email


def test_dry_run_writes_nothing(copy, target):
    code, said = copy("--dry-run")

    assert (code, "To be copied: " in said, "10 accounts" in said) == (0, True, True)
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize("is_source", [True, False])
def test_dry_run_migrates_no_store(run, source, tmp_path, is_source):
    earlier, folder = tmp_path / "earlier.db", tmp_path / "migrations"
    folder.mkdir()
    for file in sorted(MIGRATIONS.glob("*.sql"))[:-1]:
        shutil.copy(file, folder)
    SqlitePlace(earlier, folder).open().close()
    stores = [earlier, tmp_path / "new.db"] if is_source else [source, earlier]

    code, said = run("copy", *map(named, stores), "--dry-run")

    assert (code, f"{earlier} was written by an earlier version" in said) == (1, True)
    SqlitePlace(earlier, folder).open().close()  # this refuses a later version
    assert not [*tmp_path.glob("*-version-*")]


@contextmanager
def cut_after(writes):
    """End a copy, with exit code 9, that has written so many rows."""
    put, left = TablesCopy.put, [writes]

    def counted(self, table, user_id, rows):
        for row in rows:
            if not left[0]:
                raise SystemExit(9)
            left[0] -= 1
            put(self, table, user_id, [row])

    with pytest.MonkeyPatch.context() as changed:
        changed.setattr(TablesCopy, "put", counted)
        yield


@pytest.mark.parametrize("writes", [0, 2, 9, 40, 130])
def test_copy_that_was_cut_short_goes_on(copy, source, target, writes):
    with cut_after(writes):
        assert copy()[0] == 9
    accounts = {row.id for (name, *_), row in rows_of(target).items() if name == "accounts"}

    copied, rows = rows_of(target), rows_of(source)
    with opened(target) as tables:
        if target.suffix:  # one transaction a user
            assert set(TablesCopy(tables).user_ids()) == accounts
    for user_id in accounts:  # whoever exists is whole
        assert all(copied.get(key) == row for key, row in rows.items() if key[1] == user_id)
    assert copy()[0] == 0
    assert rows_of(target) == rows


def test_users_of_a_copy_that_was_cut_short_have_the_settings(copy, source, target, monkeypatch):
    put = TablesCopy.put

    def cut(self, table, user_id, rows):
        if user_id is None and table not in (schema.SETTINGS, schema.MODELS):
            raise SystemExit(9)
        put(self, table, user_id, rows)

    monkeypatch.setattr(TablesCopy, "put", cut)

    assert copy()[0] == 9

    copied, rows = rows_of(target), rows_of(source)
    for name in ("settings", "models"):
        assert copied[name, None, name] == rows[name, None, name]


_KILLED = """
import os, sys
from services.operate.__main__ import operate
from services.store.tables.copying import TablesCopy
put, left = TablesCopy.put, int(sys.argv[1])
def counted(self, *arguments):
    global left
    left -= 1
    if left < 0:
        os._exit(9)
    put(self, *arguments)
TablesCopy.put = counted
operate(sys.argv[2:])
"""


@pytest.mark.parametrize("writes", [5, 25])
def test_user_in_sqlite_outlives_a_kill_whole_or_not_at_all(run, source, tmp_path, writes):
    target = tmp_path / "target.db"
    stores = named(source), named(target)
    keys = {"DAYBOOK_ROOT_KEYS": ROOT_KEY, "DAYBOOK_KEY_DIR": str(tmp_path / "keys")}
    command = [sys.executable, "-c", _KILLED, str(writes), "copy", *stores]
    assert subprocess.run(command, env=os.environ | keys, check=False).returncode == 9

    with opened(target) as tables:
        there = TablesCopy(tables).user_ids()  # of all who have a row
    rows = {key: row for key, row in rows_of(source).items() if key[1] in there}
    assert {key[1] for key in rows} == set(there)
    assert {key: row for key, row in rows_of(target).items() if key[1]} == rows
    assert run("copy", *stores)[0] == 0
    assert rows_of(target) == rows_of(source)


def change(path, table, user_id, **fields):
    """Change a row of a user, or of the first user with such rows."""
    with opened(path) as tables:
        owner = user_id if table.is_shared else tables.owners(table)[0]

        def write(block):
            row = next(row for row in block.select(table) if user_id in (None, row.id))
            block.put(table, replace(row, **fields))

        tables.of(owner).run(write)


def refused(copy, target, sentence):
    """Fail unless the copy is refused with one sentence, and the target is unchanged."""
    before = rows_of(target) if target.exists() else None
    code, said = copy()
    assert (code, said) == (1, sentence)
    assert (rows_of(target) if target.exists() else None) == before


def test_target_with_other_data_is_refused(copy, target):
    with opened(target) as tables:
        WholeAccounts(TablesBackend(tables), RING, 3600, 3600).enter(None)

    refused(copy, target, OTHER_DATA)


def test_target_with_a_changed_row_is_refused(copy, target):
    assert copy()[0] == 0
    change(target, schema.MESSAGES, None, body="changed")

    refused(copy, target, OTHER_DATA)


def test_target_with_other_audit_is_refused(run, source, tmp_path):
    target = tmp_path / "target.db"
    with opened(target) as tables:
        tables.of(None).run(lambda block: note(block, datetime.now(UTC), None, "settings.set"))

    code, said = run("copy", named(source), named(target))

    assert (code, said) == (1, OTHER_DATA)


def test_row_that_was_not_stored_is_noticed(run, source, tmp_path, monkeypatch):
    put, target = TablesCopy.put, tmp_path / "target.db"

    def forgetful(self, table, user_id, rows):
        put(self, table, user_id, rows[1:] if table is schema.MESSAGES else rows)

    monkeypatch.setattr(TablesCopy, "put", forgetful)

    code, said = run("copy", named(source), named(target))

    assert (code, said.endswith("were not stored: copy once more.")) == (1, True)
    users = {row.id for (name, *_), row in rows_of(target).items() if name == "accounts"}
    assert not [
        user_id for name, user_id, _ in rows_of(source) if name == "messages" and user_id in users
    ]


def test_copy_that_was_cut_short_is_no_source(run, source, tmp_path, monkeypatch):
    half, put = tmp_path / "half", TablesCopy.put

    def cut(self, table, user_id, rows):
        if table is schema.ACCOUNTS:
            raise SystemExit(9)
        put(self, table, user_id, rows)

    monkeypatch.setattr(TablesCopy, "put", cut)
    assert run("copy", named(source), named(half))[0] == 9

    code, said = run("copy", named(half), f"sqlite:{tmp_path}/other.db")

    assert (code, said) == (1, "The source is a copy that was cut short: finish that one first.")


def test_source_with_an_open_turn_is_refused(copy, source, target):
    change(source, schema.TURNS, None, finished_at=None, state="streaming")

    refused(
        copy,
        target,
        "A reply of the source is still open: let Daybook run there for a minute without users, stop it "
        "(not an embedded one), and copy then.",
    )


def test_user_without_an_address_needs_a_store_without_sign_in(run, tmp_path):
    source, target = tmp_path / "alone.db", tmp_path / "target.db"
    with opened(source) as tables:
        WholeAccounts(TablesBackend(tables), RING, 3600, 3600).enter(None)
    stores = f"sqlite:{source}", f"sqlite:{target}"

    code, said = run("copy", *stores, DAYBOOK_SIGN_IN="local")
    assert (code, "`operate set-password EMAIL` first" in said) == (1, True)
    assert not target.exists()

    assert run("copy", *stores)[0] == 0
    assert rows_of(target) == rows_of(source)


def test_chat_without_its_row_is_named(run, source, target, tmp_path):
    files = tmp_path / "files"
    assert run("copy", named(source), named(files))[0] == 0
    texts = {one: one.read_text() for one in files.glob("*/user.jsonl")}
    document, text = next(each for each in texts.items() if '"table":"conversations"' in each[1])
    lines = text.splitlines(keepends=True)
    line = next(one for one in lines if '"table":"conversations"' in one)
    document.write_text(text.replace(line, ""))

    code, said = run("copy", named(files), named(target))

    assert (code, said) == (
        1,
        f"The chat {json.loads(line)['id']} is missing, but not all of its rows: delete them.",
    )
    assert {name for name, *_ in rows_of(target)} == {schema.ROOT_KEY.name}


def test_store_of_a_running_app_is_refused(copy, source, target):
    for path in source, target:
        with opened(path):
            code, said = copy()
            assert (code, said.startswith(f"Another Daybook is using {path}")) == (1, True)


def test_store_of_another_root_key_is_refused(copy, target):
    other = base64.urlsafe_b64encode(new_key()).decode()

    code, said = copy(DAYBOOK_ROOT_KEYS=other)

    assert (code, said.startswith("The root key is not the one")) == (1, True)
    assert not target.exists()


def test_account_that_does_not_open_is_refused(copy, source, target):
    admin = next(
        row
        for (name, *_), row in rows_of(source).items()
        if name == "accounts" and row.email == "admin@example.org"
    )
    change(source, schema.CREDENTIALS, admin.id, generation=9)

    code, said = copy()

    assert (code, said.startswith("An account of the source does not open")) == (1, True)
    assert not target.exists()


@pytest.mark.parametrize("is_source", [True, False])
def test_copy_with_supabase_needs_the_address_of_its_database(run, source, tmp_path, is_source):
    new = tmp_path / "new.db"
    stores = ["supabase", named(new)] if is_source else [named(source), "supabase"]
    project = {"SUPABASE_URL": "https://garden.supabase.co", "SUPABASE_KEY": "sb_publishable_key"}

    assert run("copy", *stores, **project) == (
        1,
        "This needs the database's address: set DATABASE_URL.",
    )
    assert not new.exists()


def test_missing_source_and_unknown_stores_are_refused(run, tmp_path):
    there = f"sqlite:{tmp_path}/there.db"
    assert run("copy", f"sqlite:{tmp_path}/none.db", there)[0] == 1
    assert run("copy", "sqlite:", there)[0] == 1
    assert not [*tmp_path.glob("*.db*")]
