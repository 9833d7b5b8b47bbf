"""The store in an SQLite file: its start, faults at run time, backups, and the users that its queries name."""

import errno
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import time
import traceback
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from pydantic_core import to_jsonable_python

from services import events
from services.crypto import RootKeys, new_key
from services.daemon_threads import in_thread
from services.domain import ConversationId, NewConversation, Thoughts, UserId
from services.domain.rows import DocumentKind
from services.errors import AppError, Misconfigured, StoreBlocked
from services.store.file_lock import FileLock
from services.store.sqlite import SqlitePlace
from services.store.sqlite import place as places
from services.store.sqlite import store as stores
from services.store.tables.backend import TablesBackend
from services.store.tables.row_texts import row_text
from services.store.tables.schema import AUDIT, DISCARDS, MESSAGES, AuditRow, Discard
from services.stores import open_tables
from tests.stack.apps import until
from tests.store.conformance.backends import User
from tests.store.conformance.talk import (
    a_fact,
    a_space,
    attached,
    begun_with,
    choose,
    delete,
    ending,
    new_turn,
)
from tests.store.on_disk import check_refused, numbers, put, remove
from tests.stores import InMemoryDatabase, WholeAccounts

WAIT_SECONDS = 0.2
CANARY = "kumquat-7781"
EMAIL, PASSWORD = "maya@daybook.test", "a long password of Maya"
NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)


@pytest.fixture
def place(tmp_path):
    (tmp_path / "home").mkdir(mode=0o700)
    return SqlitePlace(tmp_path / "home" / "daybook.db", wait_seconds=WAIT_SECONDS)


@pytest.fixture
def store(place):
    with closing(place.open()) as opened:
        yield opened


# --- the start


def of_garbage(path):
    path.write_bytes(b"This is a letter. " * 500)


def of_another_program(path):
    with closing(sqlite3.connect(path)) as file:
        file.execute("create table letters (text)")


def of_nothing(path):
    path.touch()


def of_a_folder(path):
    path.mkdir()


def of_a_later_version(path):
    SqlitePlace(path).open().close()
    with closing(sqlite3.connect(path)) as file:
        file.execute("pragma user_version = 99")


def of_damage(path):
    SqlitePlace(path).open().close()
    octets = path.read_bytes()
    path.write_bytes(octets[:100] + bytes(len(octets) - 100))


def of_a_log_alone(path):
    log, kept = Path(f"{path}-wal"), path.with_name("kept")
    with closing(SqlitePlace(path).open()) as store:
        put(store, 1)
        shutil.copy(log, kept)  # as a killed process leaves it
    path.unlink()
    kept.rename(log)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (of_garbage, "damaged, or no Daybook store"),
        (of_another_program, "is no Daybook store"),
        (of_nothing, "is no Daybook store"),
        (of_a_folder, "is no file"),
        (of_a_later_version, "later version"),
        (of_damage, "damaged"),
        (of_a_log_alone, "is gone, but daybook.db-wal beside it has changes of it"),
    ],
)
def test_file_that_cannot_be_used_is_refused_untouched(place, make, sentence):
    make(place.path)

    check_refused(place, sentence)


def test_damaged_row_is_told_without_its_text(place, store):
    put(store, 1)
    # a bit rots: SQLite has no checksums
    with closing(sqlite3.connect(place.path)) as file, file:
        file.execute("update nonces set row = replace(row, ':', ' ')")

    with pytest.raises(StoreBlocked, match="damaged: stop Daybook and put a backup back") as told:
        numbers(store)

    assert "seen_at" not in "".join(traceback.format_exception(told.value))


def test_sqlite_without_strict_tables_is_refused(place, monkeypatch):
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 36, 0))

    with pytest.raises(Misconfigured, match=r"3\.37"):
        place.open()

    assert list(place.path.parent.iterdir()) == []


def test_folder_where_no_log_is_kept_is_refused(place, connections):
    connections.vfs = "unix-dotfile"  # without shared memory, as on network drives

    with pytest.raises(Misconfigured, match="write-ahead log"):
        place.open()

    assert not place.path.exists()


def test_one_app_at_a_time_and_operator_beside_it(place, store):
    with pytest.raises(Misconfigured, match="Another Daybook is using"):
        place.open()

    with closing(place.open(is_app=False)) as beside:
        put(beside, 1)
        put(store, 2)
        assert numbers(beside) == numbers(store) == [1, 2]


def test_look_at_an_open_store_leaves_its_locks(place, store):
    put(store, 1)
    assert place.exists()

    # a process that believes itself the last one would remove the log
    script = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('select * from nonces'); c.close()"
    subprocess.run([sys.executable, "-c", script, place.path], check=True)

    put(store, 2)
    with closing(place.open(is_app=False)) as beside:
        assert numbers(beside) == [1, 2]


def test_name_that_is_too_long_for_the_disk_is_named(tmp_path):
    place = SqlitePlace(tmp_path / ("d" * 253))

    assert not place.exists()
    with pytest.raises(Misconfigured, match="File name too long"):
        place.open()


def test_linked_path_is_the_same_store(place, store, tmp_path):
    link = tmp_path / "link.db"
    link.symlink_to(place.path)

    with pytest.raises(Misconfigured, match="Another Daybook is using"):
        SqlitePlace(link).open()


# --- versions


@pytest.fixture
def later(place, tmp_path):
    """The place as a later version of Daybook opens it: *text* is its next migration."""

    def make(text):
        folder = shutil.copytree(places.MIGRATIONS, tmp_path / "later")
        (folder / "9999_next.sql").write_text(text)
        return SqlitePlace(place.path, folder, WAIT_SECONDS)

    return make


def test_older_version_is_brought_up_after_a_copy(place, later):
    with closing(place.open()) as store:
        put(store, 1)

    with closing(later("create table another (a text) strict;").open()) as store:
        assert numbers(store) == [1]

    with pytest.raises(Misconfigured, match="later version"):
        place.exists()
    [copy] = place.path.parent.glob("*.db-version-*")
    with closing(SqlitePlace(copy).open()) as before:
        assert numbers(before) == [1]


def restored(place, folder):
    place.backup(folder / "daybook.db")


def killed(place, folder):
    for end in ("", "-wal", "-shm"):
        shutil.copy(f"{place.path}{end}", folder)


@pytest.mark.parametrize("copy", [restored, killed])
def test_another_root_key_changes_nothing_of_an_older_version(place, later, tmp_path, copy):
    ring, folder = RootKeys({1: new_key()}, 1), tmp_path / "copies"
    folder.mkdir()
    with closing(open_tables(place, ring)) as store:
        put(store, 1)
        copy(place, folder)
    older = replace(later("create table another (a text) strict;"), path=folder / place.path.name)
    before = {one.name: one.read_bytes() for one in folder.glob("*[bl]")}

    with pytest.raises(Misconfigured, match="The root key is not the one"):
        open_tables(older, RootKeys({1: new_key()}, 1))

    # SQLite's index of the log, and the locks, have no data
    assert {one.name: one.read_bytes() for one in folder.glob("*[!mkp]")} == before
    with closing(open_tables(older, ring)) as store:
        assert numbers(store) == [1]


def test_failures_of_an_older_version_are_listed_apart(place, tmp_path):
    folder = tmp_path / "older"
    shutil.copytree(
        places.MIGRATIONS, folder, ignore=lambda _, names: {name for name in names if name > "0006"}
    )
    SqlitePlace(place.path, folder).open().close()
    user_id = UserId(uuid4())
    rows = [
        AuditRow(id=n, at=NOON, action=action, actor=None, target=user_id, detail={})
        for n, action in (("1", "password.set"), ("2", "proof.fail"))
    ]
    with closing(sqlite3.connect(place.path)) as file, file:
        for row in rows:
            values = (row.id, row.id, str(user_id), row_text(AUDIT, row).decode())
            file.execute("insert into audit (key, id, target, row) values (?, ?, ?, ?)", values)

    with closing(place.open()) as store:
        for row in rows:
            where = {"target": user_id, "is_failure": row.is_failure}
            found = store.of(None).run(lambda block, where=where: block.select(AUDIT, where))
            assert found == [row]


def test_failed_migration_changes_nothing(place, later):
    with closing(place.open()) as store:
        put(store, 1)

    with pytest.raises(Misconfigured):
        later("create table another (a text) strict; select * from missing;").open()

    assert not list(place.path.parent.glob("*.db-version-*"))
    with closing(sqlite3.connect(place.path)) as file:
        assert not file.execute("select * from sqlite_schema where name = 'another'").fetchall()
    with closing(place.open()) as store:
        assert numbers(store) == [1]


def test_migrated_file_whose_checkpoint_fails_keeps_its_copy(place, later, connections):
    with closing(place.open()) as store:
        put(store, 1)
    connections.rewrite = lambda sql: "select * from missing" if "wal_checkpoint" in sql else sql

    with pytest.raises(Misconfigured):
        later("create table another (a text) strict;").open()

    connections.rewrite = lambda sql: sql
    [copy] = place.path.parent.glob("*.db-version-*")
    with closing(SqlitePlace(copy).open()) as before:
        assert numbers(before) == [1]


def test_operator_changes_no_version_below_the_app(place, store, later):
    with pytest.raises(Misconfigured, match="stop it"):
        later("create table another (a text) strict;").open(is_app=False)

    put(store, 1)
    assert numbers(store) == [1]


# --- faults while it runs


class Connections:
    """The connections of this process to SQLite, which a test can watch and change."""

    def __init__(self, connect):
        self._connect = connect
        self.vfs = self.mode = ""
        self.rewrite = lambda sql: sql
        self.levels = []  # the setting `synchronous` at each commit
        # the settings by which macOS flushes the disk's own cache, at each commit
        self.full_syncs = set()
        self.opened = []  # all connections, the newest last

    def connect(self, database, **options):
        if "mode=rw" in str(database) and self.mode:
            database = database.replace("mode=rw", f"mode={self.mode}")
        if options.get("uri") and self.vfs:
            database += f"&vfs={self.vfs}"
        watch = self

        class Connection(sqlite3.Connection):
            def execute(self, sql, *values):
                if sql == "commit":
                    watch.levels += super().execute("pragma synchronous").fetchone()
                    for setting in ("fullfsync", "checkpoint_fullfsync"):
                        watch.full_syncs.add(
                            (setting, *super().execute(f"pragma {setting}").fetchone())
                        )
                return super().execute(watch.rewrite(sql), *values)

        connection = self._connect(database, factory=Connection, **options)
        # the default of SQLite; Debian's build has another, which would hide that the setting is missing
        connection.execute("pragma secure_delete = off")
        self.opened.append(connection)
        return connection


@pytest.fixture
def connections(monkeypatch):
    watch = Connections(sqlite3.connect)
    monkeypatch.setattr(sqlite3, "connect", watch.connect)
    return watch


def test_file_locked_by_another_program_says_so(place, store):
    with closing(sqlite3.connect(place.path)) as other:
        other.execute("begin immediate")
        with pytest.raises(StoreBlocked, match="Another program has locked"):
            put(store, 1)

    put(store, 2)
    assert numbers(store) == [2]


def test_file_that_cannot_be_written_says_so(place, connections):
    place.open().close()
    connections.mode = "ro"

    with closing(place.open()) as store, pytest.raises(StoreBlocked, match="cannot be written"):
        put(store, 1)


@pytest.mark.parametrize(
    ("refuse", "allow", "sentence"),
    [
        # SQLite raises a limit below the size of the file to that size
        ("max_page_count = 1", "max_page_count = 1000000", "is full: free some space"),
        ("query_only = on", "query_only = off", "cannot be written: make it and its folder"),
    ],
    ids=["full", "read-only"],
)
def test_refused_write_is_possible_again_later(connections, place, refuse, allow, sentence):
    with closing(place.open()) as store:
        connection, stored = connections.opened[-1], [1]
        put(store, 1)
        connection.execute(f"pragma {refuse}")

        with pytest.raises(StoreBlocked, match=sentence):
            for number in range(2, 500):
                put(store, number)
                stored.append(number)

        connection.execute(f"pragma {allow}")
        put(store, 500)
        assert numbers(store) == [*stored, 500]
    with closing(place.open()) as store:
        assert numbers(store) == [*stored, 500]


# --- turns of processes, without which an SQLite before 3.51.3 can lose commits


@pytest.fixture
def checkpoints(monkeypatch):
    """Functions that start the threads of checkpoints, which do not start by themselves."""
    found = []
    monkeypatch.setattr(
        stores, "in_thread", lambda name, call: found.append(partial(in_thread, name, call))
    )
    return found


@pytest.fixture
def lock_elsewhere(place):
    """The lock for writes and checkpoints, as another process opens it."""
    place.open().close()
    with closing(FileLock(Path(f"{place.path}-lock"))) as lock:
        yield lock


def test_write_waits_for_the_lock_of_another_process(checkpoints, lock_elsewhere, store):
    with (
        lock_elsewhere.locked(WAIT_SECONDS),
        pytest.raises(StoreBlocked, match=r"Another process has locked daybook\.db-lock"),
    ):
        put(store, 1)

    put(store, 2)
    assert numbers(store) == [2]


def test_start_waits_for_the_lock_of_another_process(place, lock_elsewhere):
    with (
        lock_elsewhere.locked(WAIT_SECONDS),
        pytest.raises(Misconfigured, match=r"Another process has locked daybook\.db-lock"),
    ):
        place.open()

    place.open().close()


def test_checkpoint_waits_for_the_lock_of_another_process(
    place, checkpoints, lock_elsewhere, store, monkeypatch
):
    monkeypatch.setattr(stores, "_CHECKPOINT_SECONDS", 0.01)
    heard = []
    monkeypatch.setattr(events, "_listeners", [lambda event, _: heard.append(event)])
    put(store, 1)
    log = Path(f"{place.path}-wal")

    with lock_elsewhere.locked(WAIT_SECONDS):
        checkpoints[-1]()
        until(lambda: "checkpoint.missed" in heard, within=10)
        assert log.stat().st_size

    until(lambda: log.stat().st_size == 0)
    put(store, 2)
    assert numbers(store) == [1, 2]


def test_block_waits_for_no_checkpoint_that_waits_itself(
    place, checkpoints, lock_elsewhere, monkeypatch
):
    try_lock, tries = FileLock.try_lock, []
    with closing(replace(place, wait_seconds=3).open()) as store:
        monkeypatch.setattr(FileLock, "try_lock", lambda lock: tries.append(1) or try_lock(lock))
        with lock_elsewhere.locked(WAIT_SECONDS):
            before = len(tries)
            checkpoints[-1]()
            until(lambda: len(tries) > before)
            began = time.monotonic()
            assert store.owners(MESSAGES) == []
            assert time.monotonic() - began < 1


def test_checkpoints_begin_once_the_start_has_freed_the_lock(place, lock_elsewhere, monkeypatch):
    # both use one lock, so the end of the start would free it in the midst of a checkpoint
    is_free = []
    monkeypatch.setattr(stores, "in_thread", lambda *_: is_free.append(lock_elsewhere.try_lock()))

    place.open().close()

    assert is_free == [True]


# --- what lasts, and what is destroyed


def test_lasting_writes_are_synchronous(connections, store):
    connections.levels.clear()

    for number, is_lasting in enumerate([True, False, True], 1):
        put(store, number, is_lasting=is_lasting)

    assert connections.levels == [2, 1, 2]


def test_writes_on_macos_flush_the_disks_cache(connections, store):
    connections.full_syncs.clear()

    put(store, 1)

    assert connections.full_syncs == {("fullfsync", 1), ("checkpoint_fullfsync", 1)}


def test_reading_commits_nothing(connections, store):
    connections.levels.clear()

    numbers(store)

    assert connections.levels == []


def test_turn_is_synchronous_but_for_its_partial_reply(connections, store):
    user = a_user(store)
    turn, levels = new_turn(begun_with(user), "When do I sow peas?"), connections.levels
    here, found = turn.thread.conversation.id, []

    def note(answer):
        found.append({*levels})
        levels.clear()
        return answer

    levels.clear()
    begun = note(user.turns.begin(turn))
    note(user.turns.checkpoint(begun.turn_id, here, "In", 30))
    note(user.turns.finish(ending(turn, begun, "In March.")))

    assert found == [{2}, {1}, {2}]


def test_writes_leave_the_file_to_checkpoints(checkpoints, place, store):
    before = place.path.stat().st_size

    for number in range(600):
        put(store, number, is_lasting=False)

    assert Path(f"{place.path}-wal").stat().st_size > 1000 * 4096  # SQLite's own limit
    assert place.path.stat().st_size == before


def test_row_without_the_row_that_it_names_is_refused(store):
    chat = ConversationId(uuid4())  # which is not stored
    row = Discard(id=uuid4(), conversation_id=chat, message_ids=(), destroy_at=NOON)
    tables = store.of(UserId(uuid4()))

    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        tables.run(lambda block: block.put(DISCARDS, row))

    assert tables.run(lambda block: block.select(DISCARDS)) == []


def test_all_tables_are_strict(place, store):
    with closing(sqlite3.connect(place.path)) as file:
        found = file.execute(
            "select name, strict from pragma_table_list"
            " where schema = 'main' and type = 'table' and name not like 'sqlite_%'"
        ).fetchall()

    assert found
    assert [name for name, is_strict in found if not is_strict] == []


def test_deleted_row_is_in_no_file_soon(connections, place, store):
    put(store, 77)
    key = str(UUID(int=77)).encode()
    remove(store, 77)

    until(lambda: Path(f"{place.path}-wal").stat().st_size == 0)

    assert key not in place.path.read_bytes()


@pytest.fixture
def read(connections):
    """The SQL of all statements since this fixture was made."""
    found = []
    connections.rewrite = lambda sql: found.append(sql) or sql
    return found


def by_prompt(read):
    return {sql for sql in read if " from turns " in sql and "prompt_id = ?" in sql}


def test_destroyed_messages_scan_no_other_turns(read, place, store):
    database = InMemoryDatabase(UserId(uuid4()), make_store=lambda: store)
    garden = database.hold("Garden", "When do I sow peas?", "In March.")
    delete(database.store(), database.thread(garden), 0, seconds=0)

    database.sweep()

    assert by_prompt(read)
    with closing(sqlite3.connect(place.path)) as other:
        for sql in by_prompt(read):
            plan = other.execute(f"explain query plan {sql}", ("",) * sql.count("?")).fetchall()
            assert "(user_id=? AND conversation_id=? AND prompt_id=?)" in str(plan)


def test_changed_chat_scans_none_of_its_finished_turns(read, place, store):
    database = InMemoryDatabase(UserId(uuid4()), make_store=lambda: store)
    garden = database.hold("Garden", "When do I sow peas?", "In March.")
    delete(database.store(), database.thread(garden), 0)
    database.rows.discard_conversation(garden, 0)

    of_chat = {sql for sql in read if " from turns " in sql and "conversation_id = ?" in sql}
    assert {"state = ?" in sql for sql in of_chat} == {True, False}
    with closing(sqlite3.connect(place.path)) as other:
        for sql in of_chat:
            plan = other.execute(f"explain query plan {sql}", ("",) * sql.count("?")).fetchall()
            assert "conversation_id=? AND state=?" in str(plan) or "turns_open" in str(plan)


def test_destroyed_chat_looks_up_no_turns_of_its_prompts(read, store):
    database = InMemoryDatabase(UserId(uuid4()), make_store=lambda: store)
    garden = database.hold("Garden", "When do I sow peas?", "In March.")
    database.rows.discard_conversation(garden, 0)

    database.sweep()

    assert database.tables.all(MESSAGES) == {}
    assert not by_prompt(read)


def test_log_is_emptied_after_its_last_reader(place, connections):
    store, attempts, waits = replace(place, wait_seconds=2).open(), [], []
    connections.rewrite = lambda sql: (
        ("checkpoint(truncate)" in sql and attempts.append(sql)) or sql
    )
    put(store, 77)
    with closing(sqlite3.connect(place.path, isolation_level=None)) as reader:
        reader.execute("begin")
        reader.execute("select * from nonces").fetchall()
        remove(store, 77)
        before = len(attempts)
        while len(attempts) < before + 2:
            began = time.monotonic()
            put(store, 1)
            waits.append(time.monotonic() - began)
        assert max(waits) < 1  # no write waits for the reader
        assert Path(f"{place.path}-wal").stat().st_size

    until(lambda: Path(f"{place.path}-wal").stat().st_size == 0)
    store.close()


# --- backups


def test_backup_is_a_whole_store(place, store, tmp_path):
    put(store, 1)
    target = tmp_path / "backup.db"

    place.backup(target)
    put(store, 2)

    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    with closing(SqlitePlace(target).open()) as restored:
        assert numbers(restored) == [1]
    assert not list(tmp_path.glob("*draft*"))


def test_backup_has_no_sessions(connections, place, store, tmp_path):
    """A session that has ended since the backup must not live again in a restored store."""
    with closing(sqlite3.connect(place.path)) as file:
        session = ["cookie", str(uuid4()), str(uuid4()), "2030-01-01", "a canary"]
        file.execute("insert into sessions values (?, ?, ?, ?, ?)", session)
        file.commit()
    target = tmp_path / "backup.db"

    place.backup(target)

    for path, count in ((place.path, 1), (target, 0)):
        with closing(sqlite3.connect(path)) as file:
            assert file.execute("select count(*) from sessions").fetchone() == (count,)
    assert b"a canary" not in target.read_bytes()


def test_backup_replaces_no_file(place, store, tmp_path):
    target = tmp_path / "letter.txt"
    target.write_text("Dear Maya")

    with pytest.raises(Misconfigured, match="exists"):
        place.backup(target)

    assert target.read_text() == "Dear Maya"


def test_damaged_store_is_not_backed_up(place, tmp_path):
    place.open().close()
    changed = "update sqlite_schema set sql = replace(sql, ?, ?) where name = 'nonces'"
    with closing(sqlite3.connect(place.path, isolation_level=None)) as file:
        # one row lacks its text, as if the disk had changed it: SQLite copies the row without an error
        file.execute("pragma writable_schema = on")
        file.execute(changed, ["row text not null", "row text"])
        file.execute("pragma writable_schema = reset")
        file.execute("insert into nonces values ('a', 'b', null)")
        file.execute("pragma writable_schema = on")
        file.execute(changed, ["row text", "row text not null"])

    with pytest.raises(Misconfigured, match="is damaged: the backup would be, too"):
        place.backup(tmp_path / "backup.db")

    assert [one.name for one in tmp_path.iterdir()] == ["home"]


def test_backup_is_on_the_disk_before_it_has_its_name(place, tmp_path, monkeypatch):
    place.open().close()
    target, done = tmp_path / "backup.db", []
    link, sync = os.link, os.fsync

    def noted_sync(descriptor):
        sync(descriptor)
        done.append(os.fstat(descriptor).st_ino)

    def noted_link(draft, path):
        link(draft, path)
        done.append(path)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(os, "link", noted_link)
    place.backup(target)

    assert done == [target.stat().st_ino, target, tmp_path.stat().st_ino]


def test_backup_leaves_a_users_draft_beside_it(place, store, tmp_path):
    letter = tmp_path / "backup.db.draft"
    letter.write_text("Dear Maya")

    place.backup(tmp_path / "backup.db")

    assert letter.read_text() == "Dear Maya"


def test_backup_of_a_killed_one_is_made_anew(place, store, tmp_path):
    (tmp_path / "backup.db.daybook-draft").write_text("half")

    place.backup(tmp_path / "backup.db")

    assert {one.name for one in tmp_path.iterdir()} == {"home", "backup.db"}


def test_backup_that_cannot_be_written_names_the_target(place, store, tmp_path):
    target = tmp_path / ("d" * 300)

    with pytest.raises(Misconfigured, match="ddd cannot be written: File name too long"):
        place.backup(target)


@pytest.fixture
def no_links(monkeypatch):
    """Return a function that refuses hard links, as exFAT does, after calling *meanwhile*."""

    def refuse_links(meanwhile=lambda: None):
        def link(*_):
            meanwhile()
            raise PermissionError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", link)

    return refuse_links


def test_backup_to_a_disk_without_hard_links_is_a_whole_store(place, store, tmp_path, no_links):
    put(store, 1)
    no_links()
    target = tmp_path / "backup.db"

    place.backup(target)

    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    with closing(SqlitePlace(target).open()) as restored:
        assert numbers(restored) == [1]
    assert not list(tmp_path.glob("*draft*"))


def test_backup_without_hard_links_replaces_no_file(place, store, tmp_path, no_links):
    target = tmp_path / "letter.txt"
    no_links(meanwhile=lambda: target.write_text("Dear Maya"))

    with pytest.raises(Misconfigured, match=r"letter\.txt cannot be written: File exists"):
        place.backup(target)

    assert target.read_text() == "Dear Maya"


def test_backup_is_restored_by_the_steps_of_the_docs(place, tmp_path):
    ring, backup, kept = RootKeys({1: new_key()}, 1), tmp_path / "backup.db", tmp_path / "kept"
    kept.mkdir()
    logs = [Path(f"{place.path}-{end}") for end in ("wal", "shm")]
    with closing(open_tables(place, ring)) as store:
        accounts = WholeAccounts(TablesBackend(store), ring, 3600, 3600)
        cookie, session = accounts.sign_up_with(EMAIL, PASSWORD)
        put(store, 1)
        place.backup(backup)
        put(store, 2)
        for log in logs:
            shutil.copy(log, kept)
    for log in logs:  # as after a killed process
        (kept / log.name).rename(log)

    shutil.copy(backup, place.path)
    for log in logs:
        log.unlink()

    with pytest.raises(Misconfigured, match="The root key is not the one"):
        open_tables(place, RootKeys({1: new_key()}, 1))
    with closing(open_tables(place, ring)) as store:
        assert {1, 2} & {*numbers(store)} == {1}
        accounts = WholeAccounts(TablesBackend(store), ring, 3600, 3600)
        assert not accounts.backend.is_alive(cookie.hash)
        assert accounts.sign_in_with(EMAIL, PASSWORD)[1].user_id == session.user_id


# --- warnings


@pytest.mark.parametrize(
    ("version", "is_warned"), [((3, 40, 1), True), ((3, 51, 2), True), ((3, 51, 3), False)]
)
def test_sqlite_that_can_lose_commits_is_named(monkeypatch, version, is_warned):
    monkeypatch.setattr(sqlite3, "sqlite_version_info", version)

    assert bool(places.lost_commits_warning()) is is_warned


# --- users


def a_user(store):
    database = InMemoryDatabase(UserId(uuid4()), make_store=lambda: store)

    def process():
        named = {"user_id": database.user_id, "rows": database.rows}
        return User(store=database.store(), elsewhere=process, **named)

    return process()


def talk(user):
    """Store a canary in every text of a user; return the conversation, its messages and its open turn."""
    thread = begun_with(
        user, f"{CANARY} words", new=NewConversation(instructions=f"{CANARY} first")
    )
    its, thoughts = thread.conversation.id, Thoughts(text=f"{CANARY} thoughts")
    user.facts.keep(a_fact(f"{CANARY} fact"))
    user.spaces.keep(a_space(f"{CANARY} space", instructions=f"{CANARY} space"))
    choose(user, instructions=f"{CANARY} everywhere")
    found = replace(thread.messages[0], body=f"{CANARY} search")
    user.corpus.put_search_texts(user.corpus.conversations()[its], range(1, 2), [found])
    turn = new_turn(thread, f"{CANARY} prompt", receipt=f"{CANARY} receipt")
    turn = attached(user, turn, f"{CANARY} file".encode(), name=f"{CANARY}.txt")
    begun = user.turns.begin(turn)
    user.turns.finish(ending(turn, begun, f"{CANARY} reply", thoughts=thoughts))
    thread = user.conversations.thread(its)
    partial = new_turn(thread, f"{CANARY} next")
    begun = user.turns.begin(partial)
    user.turns.checkpoint(begun.turn_id, its, f"{CANARY} partial", 30, thoughts)
    return thread, turn.attachments[0]


READS = {
    "list": lambda user, thread, file: user.conversations.recent(),
    "thread": lambda user, thread, file: user.conversations.thread(thread.conversation.id),
    "some": lambda user, thread, file: user.conversations.some([thread.conversation.id]),
    "titled": lambda user, thread, file: user.conversations.titled("words"),
    "instructions": lambda user, thread, file: user.conversations.instructions(
        thread.conversation.id
    ),
    "turn": lambda user, thread, file: user.turns.read(thread.conversation.id),
    "receipts": lambda user, thread, file: user.turns.receipts(
        thread.messages, thread.conversation.id
    ),
    "thoughts": lambda user, thread, file: user.turns.thoughts(
        thread.messages, thread.conversation.id
    ),
    "facts": lambda user, thread, file: user.facts.fresh_facts(),
    "spaces": lambda user, thread, file: user.spaces.all(),
    "preferences": lambda user, thread, file: user.preferences.preferences(),
    "search texts": lambda user, thread, file: user.corpus.search_texts([thread.conversation.id]),
    "piece": lambda user, thread, file: b"".join(
        user.attachments.read(thread.conversation.id, thread.messages[-2], file)
    ),
}


def sealed(user, thread, file):
    """Return the rows that the queries of each table find of a conversation, as text."""
    its, prompt, reply = thread.conversation.id, thread.messages[-2], thread.messages[-1]
    turns = [prompt.turn_id, reply.turn_id]
    found = [
        user.rows.conversations([its]),
        user.rows.messages_by_id({reply.id: its}),
        user.rows.messages_between([its], range(1, 9)),
        user.rows.thoughts(its, [reply.id]),
        user.rows.costs(its, turns),
        user.rows.receipts(its, turns),
        user.rows.pieces(its, prompt.id, file.id, range(1, 2)),
        user.rows.search_texts([its]),
        *(user.rows.documents(kind) for kind in DocumentKind),
    ]
    return str(to_jsonable_python(found, fallback=repr))


def said(user, thread, file):
    """Return the answers of each read of a user about a conversation, as text."""
    answers = {}
    for name, read in READS.items():
        try:
            answers[name] = str(to_jsonable_python(read(user, thread, file), fallback=repr))
        except AppError as error:
            answers[name] = type(error).__name__
    return answers


def test_queries_find_no_row_of_another_user(store):
    maya, omar = a_user(store), a_user(store)
    thread, file = talk(maya)

    assert set(sealed(omar, thread, file)) == set("[], ")


@pytest.mark.parametrize(
    "table",
    [
        *("conversations", "messages", "turns", "receipts", "thoughts", "documents", "pieces"),
        "search_texts",
    ],
)
def test_query_without_its_user_shows_nothing_readable(connections, store, table):
    maya, omar = a_user(store), a_user(store)
    thread, file = talk(maya)
    begun_with(omar, "Omar's words")
    shown = said(maya.elsewhere(), thread, file)
    assert not [name for name, text in shown.items() if CANARY not in text]
    own = sealed(omar, thread, file)

    def without_user(sql):
        is_read = sql.startswith("select") and f" from {table} " in sql
        return sql.replace("user_id = ?", "? is not null") if is_read else sql

    connections.rewrite = without_user
    shown = said(omar.elsewhere(), thread, file)
    others = sealed(omar, thread, file)

    assert len(others) > len(own)
    assert CANARY not in others
    assert not [name for name, text in shown.items() if CANARY in text]
