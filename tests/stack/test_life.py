"""The whole app as a process: its start, its end, its refusals and its recovery.

Limits are generous, because the machine may be busy. benchmarks/fresh.py measures.
"""

import base64
import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest

from services.embedded import processes
from services.embedded.folders import choose_folders, free_port
from services.embedded.plan import read_secrets, running_endpoints
from services.embedded.postgres import Postgres
from services.embedded.supabase_api import SupabaseApi
from tests.chromium import chromium
from tests.journeys.seeds import database
from tests.parts import OPENMP
from tests.stack.apps import ROOT, TLS, App, running, until

ROOT_KEY = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
STAGES = ("starting the database", "preparing the tables", "starting the database's API")
of_a_start = pytest.mark.long_run(start=True)
CTRL_C = 10.0  # seconds; the promise is 2 on a machine without other work


@pytest.fixture(scope="module")
def base(place):
    return place / "life"


@pytest.fixture(scope="module")
def app(base, cache):
    """A running app with all parts; the path of its data folder has a space and a comma."""
    OPENMP.required()
    place = base / "Ada's folder, the second"
    app = App(place, cache, environment={"DAYBOOK_ROOT_KEYS": ROOT_KEY})
    with running(app):
        app.until_ready()
        app.until_model_is("ready")
        app.sign_up("ada")
        yield app


@pytest.fixture(scope="module")
def again(base, cache):
    """An app, not running, with the data and keys of a first start; its path is 150 characters long."""
    place = base / "again"
    data = place / ("d" * (150 - len(str(place)) - 1))
    with running(App(place, cache, data=data)) as app:
        app.until_ready()
        app.sign_up("grace")
        app.interrupt(signal.SIGTERM)
    return App(place, cache, data=data)


def test_console_shows_start_progress_and_url(app):
    said = app.said().splitlines()

    assert [line for line in said if line.startswith("Daybook is starting")] == [
        f"Daybook is starting: {stage} …" for stage in STAGES
    ]
    assert app.last_line() == f"Daybook is ready: open http://localhost:{app.port}"


def test_health_shows_states_and_version_only(app):
    states = {"stage": "ready", "store": "Supabase", "database": "ready", "model": "ready"}
    assert app.health() == (200, states | {"version": "0.1.0"})


def test_folders_are_closed_to_other_users(app):
    # Postgres' own user must be able to traverse this folder
    open_to_pass_through = {app.data} if os.geteuid() == 0 else set()
    for path in (app.data, *app.data.iterdir(), *app.data.glob("logs/*"), *app.keys.glob("**/*")):
        others = path.stat().st_mode & 0o077
        assert others == (0o001 if path in open_to_pass_through else 0), path


def test_all_ports_are_on_loopback(app):
    listening = {
        connection.laddr.ip
        for process in app.note_family()
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }

    assert listening == {"127.0.0.1"}


def test_no_secret_in_ps_data_logs_or_console(app):
    app.sign_up("cleo")  # causes lines in the logs
    hidden = _secrets(app)
    commands = [" ".join(process.cmdline()) for process in app.note_family()]
    places = (app.data, app.base / "home")
    files = [path for place in places for path in place.rglob("*") if path.is_file()]

    for name, secret in hidden.items():
        assert not any(secret in command for command in commands), name
        assert secret not in app.said(), name
        for path in files:
            assert secret.encode() not in path.read_bytes(), (name, path)


def test_each_child_environment_has_only_its_secrets(app):
    hidden = _secrets(app)
    for part, own in {
        "postgres": set(),
        "node": {"postgres_password", "jwt_secret"},
        "model": {"model_key"},
    }.items():
        environment = " ".join(app.part(part).environ().values())
        found = {name for name, secret in hidden.items() if secret in environment}
        assert found == own, part


def test_database_requires_its_password(app):
    postgres = app.part("postgres").cmdline()
    psql = Path(postgres[0]).with_name("psql")
    asked = [psql, "-w", "-h", postgres[4].strip('"'), "-U", "postgres", "-Atc", "select 'IN'"]
    password = {"PGPASSWORD": _secrets(app)["postgres_password"]}

    def answer(environment, user=None):
        found = subprocess.run(
            asked, env=environment, user=user, cwd="/", capture_output=True, text=True
        )
        return found.stdout.strip()

    assert answer({}) == ""
    assert answer(password) == "IN"
    if os.geteuid() == 0:
        assert answer(password, user="nobody") == ""


def test_start_does_not_make_the_sign_in_tables_again(app, monkeypatch):
    folders = choose_folders(app.data, app.keys)
    port = httpx.URL(running_endpoints(app.data).supabase_url).port
    commands = []
    monkeypatch.setattr(processes, "run", lambda *given, **_: commands.append(given))
    SupabaseApi(folders, port, Postgres(folders, read_secrets(folders))).prepare()
    assert not commands


def test_model_requires_its_key(app):
    server = app.part("model")
    url = f"http://127.0.0.1:{server.cmdline()[-1]}"
    with httpx.Client(base_url=url, trust_env=False, verify=TLS) as client:
        assert client.get("/v1/models").status_code == 401
        assert not client.get("/v1/models").headers.get("access-control-allow-origin")
        client.headers["Authorization"] = f"Bearer {server.environ()['DAYBOOK_MODEL_KEY']}"
        assert client.get("/v1/models").status_code == 200
        for closed in ("/slots", "/metrics", "/"):
            assert client.get(closed).status_code in (404, 501), closed


@of_a_start
def test_second_process_uses_address_of_the_first(app, base, cache):
    asked = subprocess.run(
        [sys.executable, "-m", "services.operate", "address"],
        cwd=ROOT,
        env={"DAYBOOK_DATA_DIR": str(app.data), "DAYBOOK_KEY_DIR": str(app.keys)},
        capture_output=True,
        text=True,
        check=True,
    )
    address = dict(line.split("=", 1) for line in asked.stdout.splitlines())
    elsewhere = {"OPENAI_BASE_URL": "http://127.0.0.1:9/v1", "DAYBOOK_MODEL": "some"}

    second = App(
        base / "second", cache, environment={"DAYBOOK_ROOT_KEYS": ROOT_KEY, **address, **elsewhere}
    )
    with running(second):
        second.until_ready()

        _, body = second.health()
        assert (body["stage"], body["database"], body["model"]) == ("ready", "remote", "remote")
        assert len(second.note_family()) == 1
        assert not second.data.exists()
        assert second.interrupt() < CTRL_C


@pytest.mark.parametrize("part", ["node", "postgres"])
def test_killed_part_is_restarted_with_every_row(app, part):
    before = app.part(part)

    before.kill()

    until(lambda: app.health()[0] == 503)
    until(lambda: app.health()[0] == 200)
    # a probe that began during the outage may end after the first good answer, and then count
    until(lambda: app.knows("ada"))
    assert app.part(part) != before


@of_a_start
def test_killed_model_is_restarted_while_app_stays_ready(app):
    app.until_model_is("ready")
    before = app.part("model")

    before.kill()

    seen = []
    while not (seen and seen[-1] == (200, "ready") and len(seen) > 1):
        status, body = app.health()
        if not seen or seen[-1] != (status, body["model"]):
            seen.append((status, body["model"]))
    assert seen[-2:] == [(200, "starting"), (200, "ready")]
    assert app.part("model") != before


def test_ctrl_c_ends_a_ready_app_and_its_processes(app):
    assert app.interrupt() < CTRL_C
    assert "traceback" not in app.said().lower()


@of_a_start
def test_socket_of_a_long_path_is_private(again):
    assert len(str(again.data)) == 150
    with running(again):
        again.until_ready()
        command = again.part("postgres").cmdline()
        folder = Path(command[command.index("-k") + 1].strip('"'))
        assert not folder.is_relative_to(again.data)
        assert folder.stat().st_mode & 0o077 == 0
        assert folder.parent.stat().st_mode & 0o066 == 0

        again.interrupt()

        assert not folder.parent.exists()


@of_a_start
def test_renamed_folder_with_other_modes_starts_with_every_row(again):
    again.data = again.data.rename(again.base / "renamed")
    (again.data / "postgres").chmod(0o755)  # as after a copy from a disk without Unix modes
    with running(again):
        again.until_ready()
        assert again.knows("grace")


@of_a_start
@pytest.mark.skipif(os.geteuid() != 0, reason="only root copies files of other users")
def test_backup_that_root_copied_starts_with_every_row(again, base, cache):
    copied = App(base / "copied", cache)
    copied.base.mkdir()
    for source, copy in ((again.data, copied.data), (again.keys, copied.keys)):
        subprocess.run([shutil.which("cp"), "-r", str(source), str(copy)], check=True)
    with running(copied):
        copied.until_ready()
        assert copied.knows("grace")


@of_a_start
def test_start_after_a_kill_before_the_grants_makes_them(again):
    with running(again):
        again.until_ready()
        with database(again) as connection:
            connection.execute("revoke all on schema auth from daybook_owner")
            connection.execute("revoke all on all tables in schema auth from daybook_owner")
        again.interrupt()
    with running(again):
        again.until_ready()
        assert again.knows("grace")


def test_start_after_a_kill_waits_for_the_old_database(again, base, cache):
    following = App(base / "following", cache, data=again.data, keys=again.keys)
    with chromium() as browser, _left_behind(again) as postgres, running(following):
        until(lambda: following.health()[0] == 503)
        page = browser.new_page()
        page.goto(following.url)
        page.get_by_text("Daybook is starting: waking up").wait_for()

        postgres.resume()

        following.until_ready()
        page.get_by_text("Daybook is starting").wait_for(state="detached")
        assert following.knows("grace")


@of_a_start
def test_ctrl_c_ends_a_waiting_start(again, base, cache):
    following = App(base / "following", cache, data=again.data, keys=again.keys)
    with _left_behind(again), running(following):
        until(lambda: following.health()[0] == 503)
        since = time.monotonic()

        os.killpg(following.process.pid, signal.SIGINT)

        following.ended()
        assert time.monotonic() - since < CTRL_C


@of_a_start
@pytest.mark.parametrize("seconds", [0.2, 0.7])
def test_ctrl_c_while_streamlit_is_imported_ends_everything(again, seconds):
    """Before our code runs, Python handles Ctrl-C and can lose one (in importlib's callbacks, and while a thread starts)."""
    with running(again):
        until(lambda: time.monotonic() - again.started_at > seconds)
        until(lambda: _ended_by_ctrl_c(again))
        assert not again.left()


@of_a_start
def test_ctrl_c_while_app_is_imported_ends_it(base, cache):
    app = App(base / "importing", cache)
    app.keys.mkdir(parents=True)
    os.mkfifo(app.keys / "root.key")
    with running(app):
        key = until(lambda: _opened_by_its_reader(app.keys / "root.key"))
        assert app.interrupt() < CTRL_C
        os.close(key)


@of_a_start
@pytest.mark.parametrize("stage", STAGES)
def test_ctrl_c_during_a_start_ends_everything(again, stage):
    with running(again):
        again.until_it_says(stage)
        assert again.interrupt() < CTRL_C
        assert "traceback" not in again.said().lower()


@of_a_start
def test_ctrl_c_during_initdb_leaves_a_usable_folder(base, cache):
    app = App(base / "first", cache)
    with running(app):
        until(lambda: app.part("initdb"))
        assert app.interrupt() < CTRL_C
    with running(app):
        app.until_ready()


@pytest.fixture
def offline(base):
    """An app on a machine without Node modules, whose registry does not answer."""
    place = base / f"offline {secrets.token_hex(4)}"
    dead = f"http://127.0.0.1:{free_port()}"
    return App(place, place / "cache" / "daybook", environment={"npm_config_registry": dead})


@of_a_start
def test_ctrl_c_while_modules_are_fetched_ends_everything(offline):
    with running(offline):
        until(lambda: offline.part("npm"))
        assert "downloading Node modules" in offline.said()

        assert offline.interrupt() < CTRL_C


@of_a_start
@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        (
            "stack.json",
            lambda text: json.dumps(json.loads(text) | {"postgres_password": "another"}),
            "The database refuses its password: put back the keys folder that belongs to this data.",
        ),
        (
            "root.key",
            lambda text: ROOT_KEY,
            "Root key 1 is not the one that this data was encrypted with: put the right one back.",
        ),
        (
            "root.key",
            lambda text: json.dumps({"current": 2, "keys": {"2": ROOT_KEY}}),
            "Root key 1 is missing, and stored data is sealed under it: put it back beside the others, "
            "until `python -m services.operate check` no longer names it.",
        ),
    ],
)
def test_wrong_or_missing_key_is_refused(again, name, change, sentence):
    path = again.keys / name
    right = path.read_text()
    path.write_text(change(right))
    try:
        assert _refusal(again) == sentence
    finally:
        path.write_text(right)


@of_a_start
def test_early_refusal_is_one_line(base, cache):
    small, taken = App(base / "small disk", cache), App(base / "taken port", cache, port=None)
    with _disk(small.data, megabytes=36), _taken(8501):
        assert _refusal(small).startswith("The disk is full: free some space for")
        assert _refusal(taken).startswith("Port 8501 is taken: stop what uses it")
        assert "open the second at 127.0.0.1 in place of localhost" in taken.said()

    assert [app.said().count("\n") for app in (small, taken)] == [1, 1]


@of_a_start
def test_full_disk_is_reported_and_waited_for(base, cache):
    app = App(base / "disk", cache)
    sentence = "The disk is full: free some space for Daybook's data folder."
    with _disk(app.data, megabytes=150), running(app):
        app.until_ready()
        app.sign_up("ada")

        ballast = _fill(app.data)

        until(lambda: app.health()[0] == 503)
        assert app.health()[1]["stage"] == sentence
        _ask_for_more(app)
        until(lambda: app.part("postgres") is None)  # the full disk ended Postgres
        until(lambda: app.health()[1]["database"] == "starting")
        assert app.health()[1]["stage"] == sentence

        ballast.unlink()

        until(lambda: app.health()[0] == 200)
        assert app.knows("ada")
        assert app.last_line() == f"Daybook is ready: open http://localhost:{app.port}"


def _ended_by_ctrl_c(app):
    """Press Ctrl-C, as users do until it has an effect."""
    app.process.send_signal(signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        app.ended(within=2)
    return app.process.poll() is not None


def _opened_by_its_reader(pipe):
    with contextlib.suppress(OSError):
        return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    return None


def _secrets(app):
    found = json.loads((app.keys / "stack.json").read_text())
    del found["publishable_key"]
    found["model_key"] = app.part("model").environ()["DAYBOOK_MODEL_KEY"]
    return found | {"root_key": ROOT_KEY}


@contextmanager
def _left_behind(app):
    """Yield the Postgres of *app*, which was killed; it takes some time to end."""
    with running(app):
        app.until_ready()
        postgres = app.part("postgres")
        postgres.suspend()
        app.kill()
        try:
            yield postgres
        finally:
            with contextlib.suppress(psutil.NoSuchProcess):
                postgres.resume()


@contextmanager
def _disk(folder, megabytes):
    """Yield a small disk at *folder*."""
    folder.mkdir(parents=True)
    options = ["-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs"]
    made = subprocess.run(
        [shutil.which("mount"), *options, str(folder)], capture_output=True, text=True
    )
    if made.returncode:  # as another user, or in a container
        pytest.skip(f"only root mounts a tmpfs: {made.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run([shutil.which("umount"), "--lazy", str(folder)], check=True)


@contextmanager
def _taken(port):
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):  # another process has the device
            taken.bind(("127.0.0.1", port))
            taken.listen()
        yield


def _refusal(app):
    """Return the sentence with which the start of *app* ends."""
    with running(app):
        assert app.ended() == 1
    assert "traceback" not in app.said().lower()
    return app.last_line().removeprefix("Daybook cannot start: ")


def _fill(folder):
    path = folder / "ballast"
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 65_536)
    return path


def _ask_for_more(app):
    """Make Postgres need another file of its log."""
    places = choose_folders(app.data, app.keys)
    postgres = Postgres(places, read_secrets(places))
    with contextlib.suppress(psycopg.OperationalError), postgres.connect() as connection:
        for _ in range(10):
            connection.execute("select pg_logical_emit_message(true, 'more', 'more')")
            connection.execute("select pg_switch_wal()")
