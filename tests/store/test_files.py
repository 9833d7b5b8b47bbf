"""The store in JSON files: starts with damage and leftovers, faults of the disk at run time, and destruction of data."""

import errno
import gc
import json
import os
import re
import shutil
import sys
import zlib
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from services import events
from services.crypto import RootKeys, new_key
from services.domain import AccountRole, Outcome, Role, UserId
from services.domain.rows import MessageRow
from services.errors import Misconfigured, StoreBlocked
from services.store.backend import NewStep
from services.store.files import FilesPlace
from services.store.files import store as stores
from services.store.files.disk import Disk
from services.store.files.documents import Document
from services.store.files.journal import Operation, journal_line, read_journal
from services.store.operator import Mark
from services.store.sealed import throwaway_keys
from services.store.tables.backend import TablesBackend
from services.store.tables.operator import TablesOperator
from services.store.tables.rows import TablesRows
from services.store.tables.schema import (
    ACCOUNTS,
    BUDGETS,
    CONVERSATIONS,
    MESSAGES,
    NONCES,
    SESSIONS,
    SETTINGS,
    AccountRow,
    Nonce,
    Settings,
)
from services.stores import open_tables
from tests.stack.apps import until
from tests.store.conformance.talk import (
    THOUGHTS,
    a_fact,
    answer,
    answer_again,
    bodies,
    delete,
    first_turn,
    whole,
)
from tests.store.faulty_disk import Faults
from tests.store.on_disk import NOON, check_refused, listing, moved, numbers, put, remove
from tests.stores import InMemoryDatabase, folder_in_memory

NEVER = 10**9  # seconds
SOON = 0.02  # seconds
FULL = OSError(errno.ENOSPC, "No space left on device")
READ_ONLY = OSError(errno.EROFS, "Read-only file system")
FORBIDDEN = PermissionError(errno.EACCES, "Permission denied", "shared/nonces.jsonl")
BROKEN = OSError(errno.EIO, "Input/output error")
MAYA, OMAR = UserId(UUID(int=1)), UserId(UUID(int=2))


@pytest.fixture
def place():
    with folder_in_memory() as folder:
        (folder / "home").mkdir(mode=0o700)
        yield FilesPlace(folder / "home" / "daybook")


@pytest.fixture
def slow(monkeypatch):
    """Let documents be written only at the end."""
    monkeypatch.setattr(stores, "_SECONDS", NEVER)


@pytest.fixture
def quick(monkeypatch):
    """Let documents be written at once."""
    monkeypatch.setattr(stores, "_SECONDS", SOON)


@pytest.fixture
def faults(monkeypatch):
    return Faults(monkeypatch)


@pytest.fixture
def store(place, faults):
    with closing(place.open()) as opened:
        yield opened
        faults.errors.clear()


def test_documents_follow_within_a_second_or_four_megabytes():
    assert (stores._SECONDS, stores._LARGEST_JOURNAL) == (1, 4_000_000)


@pytest.fixture
def heard(monkeypatch):
    """The logged events."""
    monkeypatch.setattr(events, "_listeners", [])
    found = []
    events.listen(lambda event, measures: found.append((event, dict(measures))))
    return found


def killed(place, *written):
    """Return the place of a store that was killed after it had *written* numbers to its journal, but not to documents."""
    with closing(place.open()) as store:
        for number in written:
            put(store, number)
        copy = FilesPlace(place.path.parent / f"copy-{uuid4().hex[:6]}")
        shutil.copytree(place.path, copy.path)
    return copy


def journal_of(place):
    """Return the newest journal."""
    return sorted(place.path.glob("journal-*"))[-1]


def nonces_of(place):
    return place.path / "shared" / "nonces.jsonl"


def opened_numbers(place):
    with closing(place.open()) as store:
        return numbers(store)


# --- the start


def of_a_file(path):
    path.write_text("Dear Omar")


def of_letters(path):
    path.mkdir()
    (path / "letter.txt").write_text("Dear Omar")


def of_another_program(path):
    path.mkdir()
    (path / "daybook.json").write_text(json.dumps({"application": "diary", "format": 1}))


def of_a_later_version(path):
    with closing(FilesPlace(path).open()):
        pass
    mark = json.loads((path / "daybook.json").read_text())
    (path / "daybook.json").write_text(json.dumps(mark | {"format": mark["format"] + 1}))


def of_a_damaged_mark(path):
    FilesPlace(path).open().close()
    (path / "daybook.json").write_bytes(bytes(70))


def of_plain_texts(path):
    FilesPlace(path, is_plain=True).open().close()


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (of_a_file, "is no Daybook store"),
        (of_letters, "is no Daybook store"),
        (of_another_program, "damaged, or no Daybook store"),
        (of_a_later_version, "later version"),
        (of_a_damaged_mark, "damaged, or no Daybook store"),
        (of_plain_texts, "name it as json-plain:"),
    ],
)
def test_folder_that_cannot_be_used_is_refused_untouched(place, make, sentence):
    make(place.path)

    check_refused(place, sentence)


def test_folder_of_a_killed_start_is_on_the_disk(place, monkeypatch):
    place = replace(place, path=place.path.parent / "below" / "daybook")
    place.path.parent.mkdir(mode=0o700)
    sync, synced = os.fsync, []

    def noted(descriptor):
        sync(descriptor)
        synced.append(identity(os.fstat(descriptor)))

    def identity(found):
        return found.st_dev, found.st_ino

    monkeypatch.setattr(os, "fsync", noted)
    place.open().close()

    assert {identity(one.stat()) for one in list(place.path.parents)[:3]} <= {*synced}


def test_command_is_refused_while_daybook_runs(place, store):
    with pytest.raises(Misconfigured, match=f"^Daybook is using {place.path}: stop it first"):
        place.open(is_app=False)


def test_empty_folder_and_unfinished_store_become_a_store(place):
    place.path.mkdir(parents=True)
    for name in ("lock", ".gitignore", ".gitignore~draft", "daybook.json~draft"):
        (place.path / name).touch()

    with closing(place.open()) as store:
        put(store, 1)

    assert opened_numbers(place) == [1]
    assert not list(place.path.glob("*~*"))
    assert (place.path / ".gitignore").read_bytes() == b"*\n"


# --- damage


def with_line(number, change):
    """Return a change of one line of a file."""

    def changed(data):
        lines = data.splitlines(keepends=True)
        lines[number] = change(lines[number])
        return b"".join(lines)

    return changed


def flipped(data):
    """Return *data* with one bit changed in the middle."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.mark.parametrize("number", [0, 1])
def test_bad_line_before_a_good_one_is_damage(place, slow, number):
    place = killed(place, 1, 2, 3)
    journal = journal_of(place)
    journal.write_bytes(with_line(number, flipped)(journal.read_bytes()))
    before = listing(place.path)

    with pytest.raises(Misconfigured, match="is damaged: put a backup back of the whole folder"):
        place.open()

    assert listing(place.path) == before


@pytest.mark.parametrize("lost", [5, 1, 0])
def test_incomplete_last_line_is_cut_and_logged(place, slow, heard, lost):
    place = killed(place, 1, 2)
    journal = journal_of(place)
    data = journal.read_bytes()
    torn = data[:-lost] if lost else data[:-5] + bytes(5)
    journal.write_bytes(torn)
    last = len(torn) - data.rindex(b"\n", 0, -1) - 1

    assert opened_numbers(place) == [1]
    assert ("journal.cut", {"bytes": last}) in heard
    assert opened_numbers(place) == [1]


def test_cut_line_before_another_journal_is_damage(place, slow):
    place = killed(place, 1, 2)
    journal = journal_of(place)
    data = journal.read_bytes()
    later = journal.with_name("journal-000000000099")
    journal.write_bytes(data[:-5])
    later.write_bytes(data)

    with pytest.raises(Misconfigured, match="is damaged"):
        place.open()

    later.write_bytes(b"")  # created, but still empty
    assert opened_numbers(place) == [1]


def test_journal_that_leads_out_of_the_folder_is_damage(place, slow):
    place = killed(place, 1)
    journal = journal_of(place)
    body = journal.read_bytes()[9:-1].replace(b"shared/nonces", b"../../letters")
    journal.write_bytes(b"%08x %b\n" % (zlib.crc32(body), body))

    with pytest.raises(Misconfigured, match="is damaged"):
        place.open()


def test_short_texts_of_a_journal_are_in_no_cache_of_the_process():
    line = journal_line([Operation("shared/nonces", NONCES, "short key")], 0)

    (one,), (two,) = (read_journal(line)[0] for _ in range(2))

    assert one == two
    assert one.key is not two.key


def renamed_table(line):
    return line.replace(b"nonces", b"nonc\x05s", 1)


def cut_short(line):
    return line[:-3]


def zeros(line):
    return bytes(len(line))


@pytest.mark.parametrize("number", [0, 1, -1])
@pytest.mark.parametrize("change", [renamed_table, cut_short, zeros])
def test_damaged_document_is_read_by_no_block(place, number, change):
    with closing(place.open()) as store:
        for each in (1, 2, 3):
            put(store, each)
    document = nonces_of(place)
    document.write_bytes(with_line(number, change)(document.read_bytes()))
    before = document.read_bytes()

    with closing(place.open()) as store:
        for act in (lambda: numbers(store), lambda: put(store, 4)):
            with pytest.raises(StoreBlocked, match="is damaged: stop Daybook and put a backup"):
                act()
        store.of(None).run(lambda block: block.put(SETTINGS, Settings()))  # other writes continue
    finding, text = place.check()["files"]
    assert finding is Mark.FAIL
    assert "shared/nonces.jsonl" in text
    assert document.read_bytes() == before


@pytest.mark.parametrize("number", [0, 1, -1])
def test_damage_that_a_pending_journal_follows_is_refused(place, slow, number):
    with closing(place.open()) as store:
        for each in (1, 2, 3):
            put(store, each)
    place = killed(place, 4)
    document = nonces_of(place)
    document.write_bytes(with_line(number, lambda line: b"x" + line[1:])(document.read_bytes()))
    before = listing(place.path)
    operator = TablesOperator(place, lambda: place.open(is_app=False))

    for call in (place.open, lambda: operator.check("no root keys"), lambda: operator.migrate({})):
        with pytest.raises(
            Misconfigured, match=r"is damaged: put a backup back of shared/nonces\.jsonl\.$"
        ):
            call()

    assert listing(place.path) == before


def test_another_root_key_changes_no_file(place, slow):
    ring = RootKeys({1: new_key()}, 1)
    open_tables(place, ring).close()
    place = killed(place, 1)
    (place.path / "shared" / "accounts.jsonl~draft").write_bytes(b"unfinished")
    before = listing(place.path)

    with pytest.raises(Misconfigured, match="The root key is not the one"):
        open_tables(place, RootKeys({1: new_key()}, 1))

    assert listing(place.path) == before
    with closing(open_tables(place, ring)) as store:
        assert numbers(store) == [1]


@pytest.mark.parametrize("name", ["root_key", "credentials", "accounts", "lookups", "sessions"])
def test_check_names_a_damaged_file_of_all_users(place, name):
    ring = RootKeys({1: new_key()}, 1)
    open_tables(place, ring).close()
    (place.path / "shared" / f"{name}.jsonl").write_bytes(b"x\n")

    found = TablesOperator(place, lambda: open_tables(place, ring)).check("no root keys")

    assert found["files"] == (Mark.FAIL, f"damaged: shared/{name}.jsonl; put a backup back")
    assert found["credentials"] == (Mark.UNKNOWN, "not checked: needs whole files")
    place.open().close()  # the lock is free again


def test_check_names_no_damage_of_a_whole_store(place):
    with closing(place.open()) as store:
        put(store, 1)

    assert place.check()["files"][0] is Mark.OK


def test_check_tells_unreadable_files_from_damaged_ones(place, monkeypatch):
    with closing(place.open()) as store:
        put_both(store, 1)
    read_bytes = Path.read_bytes

    def read(path):
        if path == nonces_of(place):
            raise FORBIDDEN
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", read)
    unreadable = Mark.FAIL, "cannot be read: shared/nonces.jsonl; make them readable"

    assert place.check() == {"file access": unreadable}
    (place.path / "shared" / "settings.jsonl").write_text("no rows")
    damaged = Mark.FAIL, "damaged: shared/settings.jsonl; put a backup back"
    assert place.check() == {"files": damaged, "file access": unreadable}


def test_check_names_folders_that_cannot_be_listed(place, monkeypatch):
    with closing(place.open()) as store:
        put_both(store, 1)
    scandir, closed = os.scandir, place.path / "shared"

    def list_folder(path):
        if Path(path) == closed:
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", list_folder)

    unreadable = Mark.FAIL, "cannot be read: shared; make them readable"
    assert place.check() == {"file access": unreadable}


@pytest.mark.parametrize("number", [-1, 2**64])
def test_number_out_of_range_spoils_its_row_alone(place, number):
    database, (first, second) = InMemoryDatabase(MAYA, make_store=place.open), (a_fact(), a_fact())
    with closing(database.deployment):
        garden = database.hold("Garden", "When do I sow peas?", "In March.")
        other = database.hold("Other", "Hello", "Hi.")
        for fact in (first, second):
            database.store().facts.keep(fact)
        reply = database.thread(garden).messages[1]
        database.put("message", reply.id, "seq", number)
        database.put("conversation", other, "key_version", number)
        database.put("fact", first.id, "rev", number)

        store = database.store()

        thread = store.conversations.thread(garden)
        assert [one.body for one in thread.messages if one.is_verified] == ["When do I sow peas?"]
        assert not thread.is_whole
        recent = {one.id: one.is_verified for one in store.conversations.recent()}
        assert recent == {garden: True, other: False}
        assert [one.id for one in store.facts.facts()] == [second.id]


# --- a full, read-only or failing disk


@pytest.mark.parametrize(
    ("error", "sentence"),
    [(FULL, "free some space"), (READ_ONLY, "writable")],
    ids=["full", "read-only"],
)
def test_failed_append_is_cut_off_before_the_next(place, slow, faults, store, error, sentence):
    put(store, 1)
    size = journal_of(place).stat().st_size
    faults.errors["write", "journal-"] = error
    with pytest.raises(StoreBlocked, match=sentence):
        put(store, 2)
    assert journal_of(place).stat().st_size > size
    faults.errors = {("truncate", "journal-"): error}
    with pytest.raises(StoreBlocked, match=sentence):
        put(store, 3)
    faults.errors.clear()
    faults.done.clear()

    put(store, 4)

    assert [verb for verb, _ in faults.done] == ["truncate", "sync", "write", "sync"]
    assert numbers(store) == [1, 4]
    copy = FilesPlace(place.path.with_name("copy"))
    shutil.copytree(place.path, copy.path)
    assert opened_numbers(copy) == [1, 4]


# the operations of a round of documents that may fail
JOURNALS = [("create", "journal-"), ("rename", "journal-"), ("overwrite", "journal-")]
APPENDING = [
    *JOURNALS,
    *(("create", "appends"), ("write", "appends"), ("rename", "appends"), ("overwrite", "appends")),
    *(("unlink", "appends"), ("open", "shared/nonces"), ("write", "shared/nonces")),
]
REWRITING = [
    *JOURNALS,
    *(("create", "shared/nonces"), ("write", "shared/nonces")),
    *(("rename", "shared/nonces"), ("overwrite", "shared/nonces")),
]


def add(store):
    put(store, 2)
    return [1, 2]


def change(store):
    def both(block):
        block.put(NONCES, Nonce(UUID(int=2), NOON))
        block.delete(NONCES, UUID(int=1))

    store.of(None).run(both)
    return [2]


def is_written(place):
    """Return True once the documents contain all rows of the journal."""
    try:
        return [one.stat().st_size for one in place.path.glob("journal-*")] == [0]
    except FileNotFoundError:
        return False


@pytest.fixture
def stored(place):
    """A store whose documents have a number."""
    with closing(place.open()) as store:
        put(store, 1)
    return place


@pytest.mark.parametrize(
    ("act", "point"),
    [(add, one) for one in APPENDING] + [(change, one) for one in REWRITING],
    ids=lambda one: one.__name__ if callable(one) else " ".join(one),
)
def test_journal_keeps_what_documents_cannot_take(stored, faults, heard, quick, act, point):
    copy = FilesPlace(stored.path.with_name("copy"))
    faults.at_first = lambda: shutil.copytree(stored.path, copy.path)
    with closing(stored.open()) as store:
        numbers(store)
        faults.errors[point] = FULL
        expected = act(store)
        until(lambda: heard)
        put(store, 3)
        faults.errors.clear()

        until(lambda: is_written(stored))

        assert numbers(store) == [*expected, 3]
    assert opened_numbers(stored) == [*expected, 3]
    # the copy was made at the first failure, like a killed store
    assert opened_numbers(copy) == expected
    assert ("documents.missed", {"error": "StoreBlocked"}) in heard
    assert not list(stored.path.rglob("*~*"))


def test_replaced_bytes_are_overwritten_after_an_error(stored, faults, quick):
    with closing(stored.open()) as store, nonces_of(stored).open("rb") as old:
        faults.errors["overwrite", "shared/nonces"] = FULL
        change(store)
        until(lambda: ("overwrite", "shared/nonces.jsonl") in faults.met)
        faults.errors.clear()

        until(lambda: is_written(stored))

        assert not any(old.read())


def test_store_from_before_the_table_of_steps_has_steps(stored):
    assert not (stored.path / "shared" / "steps.jsonl").exists()

    with closing(stored.open()) as store:
        backend = TablesBackend(store)
        backend.begin_step(NewStep(key="key", kind_tag="tag", sealed="sealed"))
    with closing(stored.open()) as store:
        assert TablesBackend(store).end_step("key") == "sealed"
        assert numbers(store) == [1]


def test_half_append_is_cut_off_before_anything_is_written(stored, faults, quick):
    whole = nonces_of(stored).read_bytes()
    with closing(stored.open()) as store:
        faults.errors = {("write", "shared/nonces"): FULL, ("truncate", "shared/nonces"): FULL}
        put(store, 2)
        until(lambda: ("truncate", "shared/nonces.jsonl") in faults.met)
        half = nonces_of(stored).read_bytes()
        assert half.startswith(whole)
        assert half != whole
        del faults.errors["truncate", "shared/nonces"]

        until(lambda: nonces_of(stored).read_bytes() == whole)

        faults.errors.clear()
        until(lambda: is_written(stored))
    assert opened_numbers(stored) == [1, 2]


NAMED = r"^daybook/shared/nonces\.jsonl cannot be written: make daybook and all in it writable"


@pytest.mark.parametrize("act", [add, change])
def test_file_that_cannot_be_written_stops_no_other_file(stored, faults, heard, quick, act):
    with closing(stored.open()) as store:
        numbers(store)
        faults.errors["open", "shared/nonces"] = FORBIDDEN
        expected = act(store)
        until(lambda: heard)
        settings = stored.path / "shared" / "settings.jsonl"
        for days in (7, 8):
            store.of(None).run(
                lambda block, days=days: block.put(SETTINGS, Settings(retention_days=days))
            )
            until(lambda days=days: settings.exists() and b"%d" % days in settings.read_bytes())
        put(store, 3)  # the journal has it
        assert numbers(store) == [*expected, 3]
        faults.errors.clear()

        until(lambda: is_written(stored))

        put(store, 4)
    assert opened_numbers(stored) == [*expected, 3, 4]


@pytest.mark.parametrize("point", [("open", "shared/nonces"), ("create", "journal-")])
def test_journal_that_a_file_does_not_follow_stops_growing(
    stored, faults, heard, quick, monkeypatch, point
):
    def change_settings():
        store.of(None).run(lambda block: block.put(SETTINGS, Settings()))

    with closing(stored.open()) as store:
        numbers(store)
        faults.errors[point] = FORBIDDEN
        put(store, 2)
        until(lambda: heard)
        change_settings()
        monkeypatch.setattr(stores, "_LARGEST_JOURNAL", 0)
        with pytest.raises(StoreBlocked, match=NAMED):
            change_settings()
        assert numbers(store) == [1, 2]
        faults.errors.clear()

        until(lambda: is_written(stored))

        change_settings()
    assert opened_numbers(stored) == [1, 2]


def test_failed_append_loses_no_append_of_the_same_round(stored, faults, heard, quick):
    def put_account(store, number, *, and_a_number):
        row = AccountRow(id=UserId(UUID(int=number)), email=None, role=AccountRole.USER)

        def both(block):
            block.put(ACCOUNTS, row)
            if and_a_number:
                block.put(NONCES, Nonce(UUID(int=number), NOON))

        store.of(None).run(both)

    def ids(store):
        return [one.id.int for one in store.of(None).run(lambda block: block.select(ACCOUNTS))]

    with closing(stored.open()) as store:
        put_account(store, 1, and_a_number=False)
        until(lambda: is_written(stored))
        faults.errors["write", "shared/nonces"] = FULL
        put_account(store, 2, and_a_number=True)
        until(lambda: len(heard) > 1)
        copy = FilesPlace(stored.path.with_name("copy"))
        shutil.copytree(stored.path, copy.path)
        faults.errors.clear()
        until(lambda: is_written(stored))
    for place in (stored, copy):
        with closing(place.open()) as store:
            assert (ids(store), numbers(store)) == ([1, 2], [1, 2])


def test_start_names_the_file_that_cannot_be_written(stored, faults, slow):
    place = killed(stored, 2)
    faults.errors["open", "shared/nonces"] = FORBIDDEN

    with pytest.raises(Misconfigured, match=r"shared/nonces\.jsonl cannot be used: Permission"):
        place.open()

    faults.errors.clear()
    assert opened_numbers(place) == [1, 2]


def removed(path):
    path.unlink()


def with_another(path):
    line = path.read_bytes()
    path.write_bytes(line + line.replace(b"000000000001", b"000000000005"))


@pytest.mark.parametrize(
    ("change", "expected"),
    [(removed, [2]), (with_another, [1, 5, 2])],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_document_changed_after_a_cut_append_is_read_as_it_is(
    stored, faults, quick, change, expected
):
    copy = FilesPlace(stored.path.with_name("copy"))
    faults.at_first = lambda: shutil.copytree(stored.path, copy.path)
    with closing(stored.open()) as store:
        faults.errors["write", "shared/nonces"] = FULL
        put(store, 2)
        until(lambda: faults.met)
        faults.errors.clear()
    assert (copy.path / "appends.json").exists()

    change(nonces_of(copy))

    assert opened_numbers(copy) == expected
    assert not (copy.path / "appends.json").exists()


def test_name_lasts_before_the_bytes_of_a_file_go_after_an_error(stored, faults, quick):
    with closing(stored.open()) as store:
        faults.errors["open", "."] = OSError(errno.EMFILE, "Too many open files")
        put(store, 2)
        until(lambda: faults.met)
        begun = len(faults.done)
        faults.errors.clear()

        until(lambda: is_written(stored))

        done = faults.done[begun:]
    [gone] = {name for verb, name in done if verb == "overwrite" and name.startswith("journal-")}
    assert done.index(("open", ".")) < done.index(("overwrite", gone))


def check_stopped(store):
    for act in (lambda: put(store, 9), lambda: numbers(store)):
        with pytest.raises(StoreBlocked, match="fails: check it, then restart Daybook"):
            act()


def test_failed_sync_of_the_journal_takes_nothing_until_a_restart(stored, faults, slow):
    with closing(stored.open()) as store:
        put(store, 2)
        faults.errors["sync", "journal-"] = BROKEN
        with pytest.raises(StoreBlocked, match="fails: check it, then restart Daybook"):
            put(store, 3)
        faults.errors.clear()

        check_stopped(store)

    assert opened_numbers(stored)[:2] == [1, 2]


@pytest.mark.parametrize("name", ["appends", "shared/nonces", "."])
def test_failed_sync_of_documents_takes_nothing_until_a_restart(stored, faults, heard, quick, name):
    with closing(stored.open()) as store:
        faults.errors["sync", name] = BROKEN
        put(store, 2)
        until(lambda: heard)
        faults.errors.clear()

        check_stopped(store)

    assert opened_numbers(stored) == [1, 2]


def test_documents_follow_once_the_folder_is_back(place, faults, heard, quick):
    back = []
    faults.at_first = lambda: back.append(moved(place.path))
    with closing(place.open()) as store:
        faults.errors["create", "journal-"] = FULL
        put(store, 1)
        until(lambda: back)
        faults.errors.clear()
        until(lambda: len(heard) > 1)
        assert not place.path.exists()

        back[0]()

        until(lambda: is_written(place))
    assert opened_numbers(place) == [1]


def test_bug_while_documents_are_written_ends_no_writing(place, faults, heard, quick):
    with closing(place.open()) as store:
        faults.errors["create", "journal-"] = RuntimeError("a text of users")
        put(store, 1)
        until(lambda: ("documents.missed", {"error": "RuntimeError"}) in heard)
        faults.errors.clear()

        until(lambda: is_written(place))


def failing_once(monkeypatch, name, number):
    """Let the method *name* of documents fail at one call, the *number*-th from now."""
    method, calls = getattr(Document, name), []

    def failing(*arguments):
        calls.append(name)
        if len(calls) == number:
            raise MemoryError
        return method(*arguments)

    monkeypatch.setattr(Document, name, failing)
    return calls


def put_both(store, number):
    def both(block):
        block.put(NONCES, Nonce(UUID(int=number), NOON))
        block.put(SETTINGS, Settings(retention_days=number))

    store.of(None).run(both)


def both(store):
    settings = store.of(None).run(lambda block: block.get(SETTINGS, "settings"))
    return numbers(store), settings and settings.retention_days


def test_bug_between_two_documents_loses_neither(place, quick, monkeypatch):
    with closing(place.open()) as store:
        calls = failing_once(monkeypatch, "take_change", 2)
        put_both(store, 7)
        until(lambda: len(calls) > 2)
        until(lambda: is_written(place))

    with closing(place.open()) as store:
        assert both(store) == ([7], 7)


def test_bug_in_the_midst_of_a_block_stores_no_part_of_it(place, quick, monkeypatch):
    with closing(place.open()) as store:
        put_both(store, 6)
        with monkeypatch.context() as patch:
            failing_once(patch, "put", 2)
            with pytest.raises(MemoryError):
                put_both(store, 7)

        with pytest.raises(StoreBlocked, match="restart it"):
            both(store)

    with closing(place.open()) as store:
        assert both(store) == ([6, 7], 7)


# --- destruction of data


def link_of(place, path):
    """Return a hard link to the file at *path*, beside the store."""
    link = place.path.with_name(f"link-{path.name}")
    link.hardlink_to(path)
    return link


def is_overwritten(link):
    data = link.read_bytes()
    return bool(data) and not any(data)


def test_old_bytes_of_a_changed_document_are_overwritten(stored, quick):
    link = link_of(stored, nonces_of(stored))
    with closing(stored.open()) as store:
        change(store)
        until(lambda: is_written(stored))

        assert is_overwritten(link)


def test_journal_is_overwritten_once_documents_have_its_lines(place, slow):
    with closing(place.open()) as store:
        put(store, 1)
        link = link_of(place, journal_of(place))
    assert is_overwritten(link)


@pytest.mark.parametrize("is_restarted", [False, True])
def test_last_row_takes_its_file_and_folder_along(stored, quick, is_restarted):
    with closing(stored.open()) as store:
        link = link_of(stored, nonces_of(stored))
        remove(store, 1)
        until(lambda: is_written(stored))
        assert is_overwritten(link)
        assert not nonces_of(stored).parent.exists()
        if not is_restarted:
            put(store, 2)
    assert opened_numbers(stored) == ([] if is_restarted else [2])


def test_folder_of_a_user_comes_and_goes(place, quick):
    message = MessageRow(
        id=uuid4(),
        conversation_id=uuid4(),
        seq=1,
        parent_id=None,
        turn_id=None,
        role=Role.USER,
        outcome=Outcome.COMPLETE,
        body="p1",
        has_thoughts=False,
        created_at=NOON,
        destroy_at=None,
    )
    with closing(place.open()) as store:
        mine = store.of(MAYA)
        for _ in range(2):
            mine.run(lambda block: block.put(MESSAGES, message))
            assert store.owners(MESSAGES) == [MAYA]
            until(lambda: is_written(place))
            assert (place.path / str(MAYA) / "chats" / f"{message.conversation_id}.jsonl").exists()
            mine.run(lambda block: block.delete(MESSAGES, message.id))
            until(lambda: is_written(place))
            assert not (place.path / str(MAYA)).exists()
            assert store.owners(MESSAGES) == []


def test_copy_without_the_file_of_sessions_signs_all_users_out(place):
    with closing(place.open()) as store:
        database = InMemoryDatabase(MAYA, make_store=lambda: store)
        database.sign_in("maya@daybook.test", AccountRole.USER)

    (place.path / "shared" / "sessions.jsonl").unlink()

    with closing(place.open()) as store:
        both = store.of(None).run(lambda block: (block.select(SESSIONS), block.select(ACCOUNTS)))
    assert [len(rows) for rows in both] == [0, 1]


# --- documents in memory


def read(store, number):
    return store.of(UserId(UUID(int=number))).run(lambda block: block.get(BUDGETS, "budget"))


def test_documents_used_last_are_read_once(place, faults, monkeypatch):
    monkeypatch.setattr(stores, "_CACHED_BYTES", 2 * stores._DOCUMENT_BYTES)
    with closing(place.open()) as store:

        def is_read(number):
            faults.done.clear()
            read(store, number)
            return bool(faults.done)

        assert [is_read(one) for one in (1, 2, 1, 2, 3, 2, 3, 1)] == [
            *(True, True, False, False),
            *(True, False, False, True),
        ]


def test_start_and_sweep_read_no_chat_but_those_that_are_due(place, faults):
    with closing(place.open()) as store:
        database = InMemoryDatabase(MAYA, make_store=lambda: store)
        chats = [database.hold("Garden", "When do I sow peas?", "In March.") for _ in range(3)]
        database.conversations.discard(chats[1], 0)
    faults.done.clear()

    sweep(place)

    assert {name for _, name in faults.done if f"{MAYA}/chats/{chats[1]}" in name}
    others = [name for _, name in faults.done if f"{chats[0]}" in name or f"{chats[2]}" in name]
    assert [name for name in others if "/chats/" in name] == []


def test_cost_is_appended_to_the_ledger_of_its_month(place):
    def talk(prompt):
        database = InMemoryDatabase(MAYA, lambda: NOON, place.open)
        with closing(database.deployment):
            database.hold("Garden", prompt, "In March.")

    talk("When do I sow peas?")
    [ledger] = (place.path / str(MAYA) / "ledger").iterdir()
    before, file = ledger.read_bytes(), ledger.stat().st_ino

    talk("And beans?")

    after = ledger.read_bytes()
    assert ledger.name == "2026-11.jsonl"
    assert after.startswith(before)
    assert (len(before.splitlines()), len(after.splitlines())) == (1, 2)
    assert ledger.stat().st_ino == file
    [sums] = (place.path / str(MAYA) / "days").iterdir()
    assert sums.name == ledger.name
    assert len(sums.read_bytes().splitlines()) == 1


def test_block_reads_each_document_once(place, faults, monkeypatch):
    with closing(place.open()) as store:
        database = InMemoryDatabase(MAYA, make_store=lambda: store)
        chat_id = database.hold("Garden", *["When do I sow peas?", "In March."] * 20)
    monkeypatch.setattr(stores, "_CACHED_BYTES", 0)
    with closing(place.open()) as store:
        faults.done.clear()

        read = TablesRows(MAYA, store.of(MAYA)).read_conversation(chat_id, 0)

        files = [name for verb, name in faults.done if verb == "open" and name.endswith(".jsonl")]
        assert len(read.costs) == 20
        assert sorted(files) == sorted(set(files))
        assert f"{MAYA}/chats/{chat_id}.jsonl" in files


def test_block_that_reads_all_chats_keeps_few_in_memory(place, monkeypatch):
    with closing(place.open()) as store:
        database = InMemoryDatabase(MAYA, make_store=lambda: store)
        for _ in range(30):
            database.hold("Garden", "When do I sow peas?", "In March.")
    monkeypatch.setattr(stores, "_CACHED_BYTES", 0)

    def count(block=None):
        read = len(block.select(MESSAGES)) if block else 0
        return read, sum(isinstance(one, Document) for one in gc.get_objects())

    with closing(place.open()) as store:
        gc.collect()
        _, before = count()
        read, after = store.of(MAYA).run(count)

    assert read == 60
    assert after - before < 25


def test_document_that_waits_to_be_written_stays_in_memory(place, faults, slow, monkeypatch):
    monkeypatch.setattr(stores, "_CACHED_BYTES", 0)
    with closing(place.open()) as store:
        put_both(store, 1)
        for number in range(5):
            read(store, number)
        assert both(store) == ([1], 1)
    assert opened_numbers(place) == [1]


def test_reading_another_document_costs_the_same_among_many(place):
    calls = []

    def cost(number):
        calls.clear()
        gc.disable()  # a collection calls the finalizers of other tests' objects
        sys.setprofile(lambda frame, event, _: calls.append(event))
        try:
            read(store, number)
        finally:
            sys.setprofile(None)
            gc.enable()
        return len(calls)

    with closing(place.open()) as store:
        read(store, 0)
        few = cost(1)
        for number in range(2, 300):
            read(store, number)

        assert cost(300) == few


def test_deleted_account_is_destroyed_chat_by_chat(place, faults, slow, monkeypatch):
    with closing(place.open()) as store:
        database = InMemoryDatabase(MAYA, make_store=lambda: store)
        for _ in range(100):
            database.hold("Garden", "When do I sow peas?", "In March.")
        account = AccountRow(id=MAYA, email=None, role=AccountRole.USER, deleted_at=database.now())
        database.tables.store(ACCOUNTS, account)
    monkeypatch.setattr(stores, "_CACHED_BYTES", 0)
    with closing(place.open()) as store:
        faults.done.clear()

        while TablesBackend(store, database.now).sweep():
            pass

        reads = [name for verb, name in faults.done if verb == "open" and "/chats/" in name]
        # a few of each chat, and not one for each slice of all messages
        assert len(reads) < 4 * 100
        assert store.owners(MESSAGES) == []


# --- the sweep beside a damaged file


def sweep(place):
    with closing(place.open()) as store:
        while TablesBackend(store, lambda: datetime.now(UTC)).sweep():
            pass


def test_damaged_file_of_a_user_stops_the_sweep_of_no_other(place, heard):
    with closing(place.open()) as store:
        for user_id in (MAYA, OMAR):
            database = InMemoryDatabase(user_id, make_store=lambda: store)
            chat_id = database.hold("Garden", "When do I sow peas?", "In March.")
            database.conversations.discard(chat_id, 0)
    (place.path / str(MAYA) / "user.jsonl").write_text("no rows")

    sweep(place)

    left = [(place.path / str(user_id) / "chats").exists() for user_id in (MAYA, OMAR)]
    assert left == [True, False]
    assert ("sweep.missed", {}) in heard


def test_deleted_chats_are_destroyed_beside_a_damaged_one(place, heard):
    with closing(place.open()) as store:
        database = InMemoryDatabase(MAYA, make_store=lambda: store)
        for _ in range(3):
            chat_id = database.hold("Garden", "When do I sow peas?", "In March.")
            database.conversations.discard(chat_id, 0)
    chats = place.path / str(MAYA) / "chats"
    damaged = min(chats.iterdir())
    damaged.write_text("no rows")

    sweep(place)

    assert [*chats.iterdir()] == [damaged]
    assert ("sweep.missed", {}) in heard
    damaged.unlink()
    heard.clear()
    sweep(place)
    with closing(place.open()) as store:
        assert store.owners(CONVERSATIONS) == []
    assert ("sweep.missed", {}) not in heard


# --- the sweep after a file was put back


def chat_of(place):
    """Store a chat with a prompt and a reply of Maya; return its id."""
    with closing(place.open()) as store:
        database = InMemoryDatabase(MAYA, make_store=lambda: store)
        return database.hold("Garden", "When do I sow peas?", "In March.")


def discard(place, chat_id):
    with closing(place.open()) as store:
        database = InMemoryDatabase(MAYA, make_store=lambda: store)
        database.conversations.discard(chat_id, 0)


def swept_at_most(place, most):
    """Return True if the sweep of a chat ends within *most* blocks."""
    with closing(place.open()) as store:
        rows = TablesRows(MAYA, store.of(MAYA))
        run, calls = store.run, []

        def counted(*arguments, **options):
            calls.append(1)
            assert len(calls) <= most, "the sweep does not end"
            return run(*arguments, **options)

        store.run = counted
        rows.destroy_due()
        return store.owners(CONVERSATIONS) == [] == store.owners(MESSAGES)


def without_locations(lines):
    return []


def of_another_document(lines):
    return [re.sub(rb"chats/[^\"]+", b"turns/2026-01", one) for one in lines]


@pytest.mark.parametrize("change", [without_locations, of_another_document])
def test_chat_whose_rows_have_no_right_location_is_destroyed(place, change):
    chat_id = chat_of(place)
    locations = place.path / str(MAYA) / "locations.jsonl"
    locations.write_bytes(b"".join(change(locations.read_bytes().splitlines(keepends=True))))
    discard(place, chat_id)

    assert swept_at_most(place, 20)
    assert not (place.path / str(MAYA) / "chats").exists()


def test_chat_file_from_before_the_deletion_of_the_chat_is_destroyed(place):
    chat_id = chat_of(place)
    discard(place, chat_id)
    file = place.path / str(MAYA) / "chats" / f"{chat_id}.jsonl"
    user = file.parents[1] / "user.jsonl"
    before = {one: one.read_bytes() for one in (file, user)}
    assert swept_at_most(place, 20)
    file.parent.mkdir()
    for one, data in before.items():
        one.write_bytes(data)

    assert swept_at_most(place, 20)
    assert not file.parent.exists()


def test_folder_that_cannot_be_entered_stops_no_start(place, monkeypatch):
    chat_of(place)
    names = Disk.names

    def refuse(disk, folder="."):
        if folder != ".":
            raise FORBIDDEN
        return names(disk, folder)

    monkeypatch.setattr(Disk, "names", refuse)

    place.open().close()


@pytest.mark.parametrize("has_journal", [False, True])
def test_start_makes_missing_locations(place, slow, has_journal):
    chat_of(place)
    locations = place.path / str(MAYA) / "locations.jsonl"
    expected = sorted(locations.read_bytes().splitlines())
    target = place
    if has_journal:
        target = killed(place, 1)
    (target.path / str(MAYA) / "locations.jsonl").unlink()
    damaged = target.path / str(MAYA) / "chats" / f"{uuid4()}.jsonl"
    damaged.write_text("no rows")

    target.open().close()

    made = (target.path / str(MAYA) / "locations.jsonl").read_bytes()
    assert sorted(made.splitlines()) == expected


def test_messages_without_locations_are_answered_edited_and_destroyed(place):
    keys, turn = throwaway_keys(MAYA), first_turn("When do I sow peas?", receipt="{}")
    with closing(place.open()) as store:
        database = InMemoryDatabase(MAYA, make_store=lambda: store, keys=lambda user_id: keys)
        chat_id = answer(database.store(), turn, "In March.", thoughts=THOUGHTS).conversation.id
    (place.path / str(MAYA) / "locations.jsonl").write_bytes(b"")
    with closing(place.open()) as store:
        database = InMemoryDatabase(MAYA, make_store=lambda: store, keys=lambda user_id: keys)
        user = database.store()
        thread = user.conversations.thread(chat_id)
        prompt, reply = thread.messages
        thoughts = user.turns.thoughts([reply], chat_id)
        receipts = user.turns.receipts([reply], chat_id)

        user.messages.edit_reply(thread, reply, "In May.")
        delete(user, user.conversations.thread(chat_id), 1, 2, seconds=1)
        database.elapsed += timedelta(seconds=2)
        database.bounded_rows.destroy_due()
        thread = answer_again(user, user.conversations.thread(chat_id), prompt, "In April.")

    assert (thoughts, receipts) == ({reply.id: THOUGHTS}, {reply.turn_id: "{}"})
    assert bodies(whole(thread).messages) == ["When do I sow peas?", "In May.", "In April."]
