"""Shared fixtures: the embedded stack, started once per run, and a scripted model server."""

import asyncio
import base64
import gc
import os
import tempfile
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from shutil import rmtree

import hypothesis
import psycopg
import pytest

from services.embedded.folders import Folders, choose_folders
from services.embedded.plan import prepare
from services.embedded.postgres import Postgres
from services.embedded.processes import Server
from services.embedded.reports import Running
from services.embedded.stack import Stack
from services.embedded.supabase_api import fetch_modules
from services.llm.openai_model import OpenAIModel, _Stream, connect
from tests import firestore as firestore_parts
from tests import runs
from tests.chromium import chromium
from tests.durations import Durations
from tests.fakes import INFO
from tests.hosted.rig import described, started_rig
from tests.model_server import ModelServer
from tests.npm_firestore import LIMITS
from tests.reports import LackReport, PartReport
from tests.runs import pytest_collection_modifyitems  # noqa: F401
from tests.scheduling import pytest_xdist_make_scheduler  # noqa: F401
from tests.stack.apps import tails
from tests.stack.starts import (  # noqa: F401
    START_SECONDS,
    await_start,
    children_in,
    pytest_report_teststatus,
    pytest_runtest_makereport,
    pytest_terminal_summary,
    tried_twice,
    work_of,
)
from tests.stores import cheap_hashes, folder_in_memory

# a run tries the same few examples each time, the long run others each time
hypothesis.settings.register_profile("run", deadline=None, derandomize=True, max_examples=30)
hypothesis.settings.register_profile("long run", deadline=None, derandomize=False, print_blob=True)
hypothesis.settings.load_profile("long run" if runs.IS_WHOLE else "run")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningStack:
    """A running Postgres and the Supabase API over it, without a model."""

    url: str
    publishable_key: str
    root_keys: str = field(repr=False)
    data: Path
    keys: Path
    # connects as the owner of the migrations, or (as_owner=False) as superuser
    connect: Callable[..., AbstractContextManager[psycopg.Connection]]
    postgres: Postgres


@pytest.fixture(scope="session")
def cache():
    """Return the cache folder with the API's Node modules, which are fetched once per machine."""
    folder = choose_folders(None, None).cache
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    fetch_modules(folder, lambda done, of: None)
    return folder


@pytest.fixture(scope="session")
def place():
    """Return a temporary folder for stacks: as root, pytest's own folders are closed to Postgres' user."""
    with tempfile.TemporaryDirectory(prefix="daybook-test-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def files_place():
    """Return a temporary folder for stores over files, in memory if there is space: they have many files, and sync them."""
    with folder_in_memory() as folder:
        yield folder


@pytest.fixture(scope="session")
def firestore(tmp_path_factory):
    """Return the address of a Firestore emulator."""
    with firestore_parts.emulator(tmp_path_factory.mktemp("firestore")) as host:
        yield host


@pytest.fixture(scope="session")
def embedded_stack(place, cache):
    """The embedded stack with our migrations and server key, shared by the whole run: a test must undo its changes."""
    with started_stack(place / "stack", cache) as running:
        yield running


@pytest.fixture(scope="session")
def stack(embedded_stack):
    """The embedded stack under the name that tests/store gives each backend; pytest would start a second one otherwise."""
    return embedded_stack


@pytest.fixture(scope="session")
def hosted(cache):
    """A Supabase like the hosted one, shared by the whole run: a test must undo its changes."""
    with started_rig(cache, is_open=False) as rig:
        yield rig


@pytest.fixture(scope="session")
def one_browser():
    """Return the one browser of this process, and the event loop of Playwright."""
    with chromium() as browser:
        loop = asyncio.get_running_loop()
        yield browser, loop
        asyncio._set_running_loop(loop)


@pytest.fixture(scope="module")
def browser(one_browser):
    """The browser. Playwright leaves its loop running in this thread, in which tests of other files could begin none."""
    browser, loop = one_browser
    asyncio._set_running_loop(loop)
    yield browser
    asyncio._set_running_loop(None)


@pytest.fixture(scope="module")
def server():
    with ModelServer() as running:
        yield running


@pytest.fixture(scope="module")
def cheap_passwords():
    """Hash the passwords of a module at the least cost."""
    with cheap_hashes():
        yield


@pytest.fixture
def older_objects_frozen():
    """Let `gc.get_objects()` pass over the objects that were made before."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def model(server):
    """The scripted model server, behind the app's client."""
    server.script()
    for seen in (server.requests, *server.asides.values()):
        seen.clear()
    client = connect(server.url, "-")
    with closing(
        OpenAIModel(client, INFO.name, first_token_seconds=20, between_tokens_seconds=20)
    ) as made:
        yield made


@pytest.fixture
def pause_begins(monkeypatch):
    """Return an event that is set once a call of a model pauses after a failed attempt."""
    begins, note = threading.Event(), _Stream._note_pause

    def noted(stream, failure):
        note(stream, failure)
        begins.set()

    monkeypatch.setattr(_Stream, "_note_pause", noted)
    return begins


def pytest_report_header():
    return described()


def pytest_configure(config):
    config.pluginmanager.register(Durations(config))
    of_firestore = ("_firestore.py", "[firestore")
    config.pluginmanager.register(PartReport(of_firestore, firestore_parts.described))
    config.pluginmanager.register(LIMITS)
    config.pluginmanager.register(PartReport(("tests/",), runs.described))
    config.pluginmanager.register(LackReport())


@tried_twice("the embedded stack")
@contextmanager
def started_stack(base, cache):
    """Yield a separate stack with its data and keys in *base*."""
    places = Folders(data=base / "data", keys=base / "keys", cache=cache)
    for left_by_first_try in (places.data, places.keys):
        rmtree(left_by_first_try, ignore_errors=True)
    root_keys = base64.urlsafe_b64encode(os.urandom(32)).decode()
    plan = prepare(places, root_keys=root_keys, with_database=True, with_model=False)
    reports = []

    def progress():
        if not thread.is_alive():
            return None
        return len(reports), work_of(children_in(places.data), places.logs.glob("*.log"))

    def told():
        return f": {reports}{tails(places.logs)}"

    running = Stack(plan, reports.append)
    thread = threading.Thread(target=running.run)
    thread.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            # the limit for the start of each part
            patch.setattr(Server, "start_seconds", START_SECONDS)
            await_start(lambda: Running() in reports, progress, told)
        endpoints = plan.endpoints
        postgres = Postgres(places, plan.database.secrets)
        yield RunningStack(
            url=endpoints.supabase_url,
            publishable_key=endpoints.publishable_key,
            root_keys=root_keys,
            data=places.data,
            keys=places.keys,
            connect=postgres.connect,
            postgres=postgres,
        )
    finally:
        running.stop(within=20)
        thread.join()
        plan.database.lock.close()
