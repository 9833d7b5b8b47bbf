"""The promises that stores on a local disk share: SQLite's file, and the folder of JSON files."""

import base64
import errno
import fcntl
import os
import re
import resource
import stat
import subprocess
import sys
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from services.domain import UserId
from services.errors import Misconfigured, StoreBlocked, StoreUnavailable
from services.store.files import FilesPlace
from services.store.files import store as files
from services.store.sqlite import SqlitePlace
from services.store.tables.backend import TablesBackend
from tests.store.conformance.talk import ending, write_everywhere
from tests.store.on_disk import listing, moved, numbers, put, removed, replaced
from tests.store.storm import HAPPENED, run_storm
from tests.stores import InMemoryDatabase, folder_in_memory

NEVER = 10**9  # seconds
STORM_SECONDS = 20  # at most
CANARY = "kumquat-7781"


@pytest.fixture
def folder():
    with folder_in_memory() as made:
        yield made


@pytest.fixture(params=["sqlite", "json"])
def place(request, folder):
    return _place(request.param, folder)


def _place(kind, folder):
    (folder / "home").mkdir(mode=0o700, exist_ok=True)
    if kind == "sqlite":
        return SqlitePlace(folder / "home" / "daybook.db", wait_seconds=0.2)
    return FilesPlace(folder / "home" / "daybook")


@pytest.fixture
def store(place):
    with closing(place.open()) as opened:
        yield opened


# --- the start


def check_modes(paths):
    for one in paths:
        assert stat.S_IMODE(one.stat().st_mode) == (0o700 if one.is_dir() else 0o600), one


def test_no_text_of_a_user_is_in_the_bytes_of_any_file(place, monkeypatch):
    def check(log, others):
        assert conversation_id in log
        for form in (CANARY.encode(), *encoded):
            assert form not in log + others

    monkeypatch.setattr(files, "_SECONDS", NEVER)  # keeps the rows in the journal
    encoded = [base64.b64encode(b"x" * n + CANARY.encode())[4:14] for n in range(3)]
    database = InMemoryDatabase(UserId(uuid4()), make_store=place.open)
    with closing(database.deployment):
        maya = database.store()
        turn, begun = write_everywhere(maya, CANARY)
        conversation_id = str(turn.thread.conversation.id).encode()
        check(log_of(place).read_bytes(), _bytes_in(place))
        maya.turns.finish(ending(turn, begun, f"{CANARY} reply"))
        check(log_of(place).read_bytes(), _bytes_in(place))
    check(_bytes_in(place), b"")  # the log is now in the other files


def _bytes_in(place):
    return b"".join(one.read_bytes() for one in place.path.parent.rglob("*") if one.is_file())


def test_files_and_folders_are_the_users_alone(place, store):
    home = place.path.parent
    put(store, 1)
    assert log_of(place).exists()
    check_modes(home.iterdir())  # SQLite removes its log at the end

    store.close()

    check_modes([home, *home.rglob("*")])


def test_new_store_on_macos_flushes_the_disks_cache(place, monkeypatch):
    # Linux has no F_FULLFSYNC: the test gives the number that macOS has, and records the calls instead of making them
    full_syncs, plain_syncs = [], []
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", lambda descriptor, command: full_syncs.append(command))
    monkeypatch.setattr(os, "fsync", plain_syncs.append)

    with closing(place.open()) as store:
        put(store, 1)

    assert set(full_syncs) == {51}
    assert plain_syncs == []


def test_volume_on_macos_that_knows_only_fsync_is_synced(place, monkeypatch):
    plain_syncs = []

    def refuse(descriptor, command):
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", refuse)
    monkeypatch.setattr(os, "fsync", plain_syncs.append)

    place.open().close()

    assert plain_syncs


def test_store_that_cannot_be_written_is_refused(place, monkeypatch):
    place.open().close()
    before = listing(place.path.parent)
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)

    for call in (place.exists, place.open):
        with pytest.raises(Misconfigured, match="cannot be written"):
            call()

    assert listing(place.path.parent) == before


def test_place_that_cannot_be_made_is_refused(place, folder, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)

    with pytest.raises(Misconfigured, match="cannot be made"):
        place.open()

    assert list(place.path.parent.iterdir()) == []


@pytest.mark.parametrize("is_writable", [True, False])
def test_store_in_a_missing_folder_is_refused(place, monkeypatch, is_writable):
    if not is_writable:  # as "/" is, for a path with a typing error
        monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    missing = replace(place, path=place.path.parent / "no such" / "folder" / "store")
    command = f"mkdir -p '{missing.path.parent}'"

    for call in (missing.exists, missing.open):
        with pytest.raises(Misconfigured, match=re.escape(command)):
            call()

    assert list(place.path.parent.iterdir()) == []


def test_store_in_use_by_another_process_is_refused(place, store):
    script = (
        "import sys; from pathlib import Path; from services.errors import Misconfigured\n"
        f"from {type(place).__module__} import {type(place).__name__} as Place\n"
        "try: Place(Path(sys.argv[1])).open()\n"
        "except Misconfigured as error: print(error.public)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, place.path], capture_output=True, text=True, check=True
    )

    assert ran.stdout.startswith(f"Another Daybook is using {place.path}: stop it")
    put(store, 1)
    assert numbers(store) == [1]


# --- while it runs

# damage to a part: part 0 is the store itself, part 1 its log
LOST = [
    ("sqlite", 0, moved),
    ("sqlite", 0, removed),
    ("sqlite", 0, replaced),
    ("sqlite", 1, moved),
    ("sqlite", 1, removed),
    ("sqlite", 1, replaced),
    ("json", 0, moved),
    ("json", 0, replaced),
    ("json", 1, moved),
    ("json", 1, removed),
    ("json", 1, replaced),
]
NAMES = [f"{kind}-{('store', 'log')[part]}-{act.__name__}" for kind, part, act in LOST]


def log_of(place):
    if isinstance(place, SqlitePlace):
        return Path(f"{place.path}-wal")
    [journal] = place.path.glob("journal-*")
    return journal


def content(path):
    """Return the bytes of a file, or of all files in a folder; None if there is neither."""
    if path.is_dir():
        return listing(path)
    return path.read_bytes() if path.exists() else None


@pytest.mark.parametrize(("place", "part", "happen"), LOST, ids=NAMES, indirect=["place"])
def test_lost_store_takes_nothing_until_it_is_back(place, part, happen, monkeypatch):
    monkeypatch.setattr(files, "_SECONDS", NEVER)  # keeps the rows in the journal
    with closing(place.open()) as store:
        put(store, 1)
        path = [place.path, log_of(place)][part]
        put_back = happen(path)
        before = content(path)

        with pytest.raises(StoreBlocked, match="moved, removed or replaced"):
            put(store, 2)

        assert content(path) == before
        put_back()
        put(store, 3)
        assert numbers(store) == [1, 3]
    with closing(place.open()) as store:
        assert numbers(store) == [1, 3]


@contextmanager
def full_disk(log):
    """Limit all files of this process to a few bytes more than the size of the *log*."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (log.stat().st_size + 10, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def moved_away(place):
    put_back = moved(place.path)
    yield
    put_back()


def test_backup_to_a_full_disk_names_the_target(tmp_path):
    place = _place("sqlite", tmp_path)
    with closing(place.open()) as store:
        put(store, 1)

        with (
            full_disk(log_of(place)),
            pytest.raises(Misconfigured, match=r"backup\.db takes no more data"),
        ):
            place.backup(tmp_path / "backup.db")

    assert [one.name for one in tmp_path.iterdir()] == ["home"]


def test_full_disk_takes_nothing_until_there_is_space(place, monkeypatch):
    monkeypatch.setattr(files, "_SECONDS", NEVER)
    with closing(place.open()) as store:
        put(store, 1)

        with full_disk(log_of(place)):
            for number in (2, 3):
                with pytest.raises(StoreBlocked, match="free some space"):
                    put(store, number)
            assert numbers(store) == [1]

        put(store, 4)
        assert numbers(store) == [1, 4]
    with closing(place.open()) as store:
        assert numbers(store) == [1, 4]


def test_sqlite_names_both_causes_of_a_failed_write(folder):
    place = _place("sqlite", folder)
    with closing(place.open()) as store:
        put(store, 1)

        # as on a disk that the system has made read-only, SQLite reports a failed write, and no full disk
        with (
            full_disk(log_of(place)),
            pytest.raises(StoreBlocked, match="free some space, or make it writable"),
        ):
            put(store, 2)


@pytest.mark.parametrize(
    ("block", "sentence"),
    [(lambda place: full_disk(log_of(place)), "free some space"), (moved_away, "was moved")],
)
def test_sweep_reports_refused_writes_until_the_store_takes_them(place, block, sentence):
    with closing(place.open()) as store:
        backend = TablesBackend(store)
        with block(place):
            with pytest.raises(StoreBlocked):
                put(backend.noted, 1)
            for _ in range(2):
                with pytest.raises(StoreBlocked, match=sentence):
                    backend.sweep()

        assert not backend.sweep()


def test_closed_store_is_unavailable(place):
    store = place.open()
    store.close()

    with pytest.raises(StoreUnavailable):
        numbers(store)


def test_second_close_closes_no_file_of_others(place, tmp_path):
    store = place.open()
    store.close()
    opened = [(tmp_path / str(number)).open("wb") for number in range(20)]

    store.close()

    for one in opened:  # forked processes inherit the descriptors of the store
        one.close()


# --- kills, and everything at once


@pytest.mark.parametrize("kind", ["sqlite_kills", "files_kills"])
def test_kill_at_any_point_loses_nothing(kind, folder):
    ran = subprocess.run(
        [sys.executable, "-m", f"tests.store.{kind}", folder],
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr
    assert all(int(line) > 30 for line in ran.stdout.splitlines())


@pytest.mark.parametrize("kind", [SqlitePlace, FilesPlace])
def test_storm_of_turns_keeps_all_books_right(kind, folder):
    with closing(kind(folder / "store").open()) as store:
        broken, events = run_storm(store, STORM_SECONDS)

    assert broken == {}
    assert HAPPENED - {name for name, count in events.items() if count} == set()
