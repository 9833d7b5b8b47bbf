"""The one child of the app: owns Postgres, the API and the model, and ends with the app.

`python -m services.embedded.supervisor`, in a session of its own. Its standard input begins with the plan; the end of
that input, however it comes, means that the app is gone. It reports on its standard output. It stops the model, the API
and the database, in that order, and exits.
"""

import contextlib
import json
import logging
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from services.embedded import folders, processes
from services.embedded.folders import Folders
from services.embedded.model_server import ModelServer
from services.embedded.postgres import Postgres
from services.embedded.processes import Server
from services.embedded.protocol import (
    DatabasePlan,
    Failed,
    ModelReport,
    ModelState,
    Plan,
    Report,
    Running,
    Stage,
    Starting,
    Trouble,
)
from services.embedded.supabase_api import SupabaseApi, fetch_modules
from services.errors import Misconfigured, says_disk_full
from services.store.supabase import migrations

Reporter = Callable[[Report], None]
_CHECK_SECONDS = 0.1  # between two checks of the parts
_FULL_DISK_SECONDS = 1.0  # before another start with a disk that was full
_MODEL_PAUSE_SECONDS = 180.0  # before another start of a model that failed again and again
_logger = logging.getLogger(__name__)
_writing = threading.Lock()


class DiskMonitor:
    """Reports once that the disk of the data folder is full, and once that it no longer is."""

    def __init__(self, folder: Path, report: Reporter) -> None:
        self._folder, self._report = folder, report
        self._reported: bool | None = None

    def check(self) -> None:
        # half as much again must be free before it counts as solved: no flapping around the border
        reserve = folders.RESERVE_BYTES
        self._update(
            is_full=folders.is_full(self._folder, reserve * 3 // 2 if self._reported else reserve)
        )

    def has_stopped(self, part: Server) -> bool:
        """Return True if *part* ended for want of disk space."""
        return folders.is_full(self._folder) or says_disk_full(processes.tail(part.log))

    def wait_for_space(self) -> None:
        """Return once another start may succeed; until then it would fail and use up the restarts."""
        self._update(is_full=True)
        time.sleep(_FULL_DISK_SECONDS)
        while folders.is_full(self._folder):
            time.sleep(_CHECK_SECONDS)

    def _update(self, *, is_full: bool) -> None:
        if is_full != self._reported:
            sentence = f"The disk is full: free some space for {self._folder}."
            self._report(Trouble(sentence if is_full else ""))
        self._reported = is_full


class Restarter:
    """Restarts servers that are useless without each other, in the order of their start."""

    def __init__(self, parts: Sequence[Server], disk: DiskMonitor, report: Reporter) -> None:
        self._parts, self._disk, self._report = parts, disk, report

    def check(self) -> None:
        """Restart the servers that have stopped. Raise Misconfigured for one that stopped too often."""
        stopped = [part for part in self._parts if part.is_down()]
        if not stopped:
            self._disk.check()
            return
        self._report(Starting(Stage.RECOVERING))
        for part in stopped:
            self._restart(part)
        if self._all_answer():
            self._report(Running())

    def stop(self) -> None:
        for part in reversed(self._parts):
            part.stop()

    def _restart(self, part: Server) -> None:
        if self._disk.has_stopped(part):
            self._disk.wait_for_space()
        else:
            delay = part.backoff.next_delay()
            if delay is None:
                raise part.failure()
            _logger.warning("%s stopped; starting it again in %.1f s", part.name, delay)
            time.sleep(delay)
        part.start()

    def _all_answer(self) -> bool:
        """Return True if every server answers; the first that does not is stopped, to be restarted."""
        for part in self._parts:
            try:
                part.wait()
            except Misconfigured:
                part.stop()
                return False
        return True


class ModelRunner:
    """Keeps a model server running, in a thread of its own. Its failures end nothing else."""

    def __init__(self, server: Server, report: Reporter) -> None:
        self._server, self._report = server, report
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._server.stop()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._report(ModelReport(ModelState.STARTING))
            try:
                self._run_once()
            except (Misconfigured, OSError) as error:
                _logger.warning("%s", error)
            delay = self._server.backoff.next_delay()
            if delay is None:
                self._report(ModelReport(ModelState.FAILED))
            self._stopping.wait(_MODEL_PAUSE_SECONDS if delay is None else delay)

    def _run_once(self) -> None:
        child = self._server.start()
        try:
            if not self._stopping.is_set():  # else `stop` may have come before the start
                self._server.wait()
                self._report(ModelReport(ModelState.READY))
                child.wait()
        finally:
            self._server.stop()


class Database:
    """Postgres and the API in front."""

    def __init__(self, plan: DatabasePlan, places: Folders) -> None:
        self._plan, self._places = plan, places
        self._postgres = Postgres(places, plan.secrets)
        self._api = SupabaseApi(places, plan.port, self._postgres, plan.secrets)
        self._disk = DiskMonitor(places.data, send)
        self.restarter = Restarter((self._postgres, self._api), self._disk, send)

    def start(self) -> None:
        """Start Postgres, bring its tables up to date, and start the API. Raise Misconfigured for the first failure."""
        if folders.is_full(self._places.data):  # since `prepare` checked: a supervisor was killed
            self._disk.wait_for_space()
        fetch_modules(
            self._places.cache, lambda done, total: send(Starting(Stage.MODULES, done, total))
        )
        send(Starting(Stage.DATABASE))
        self._postgres.prepare()
        self._start(self._postgres)
        send(Starting(Stage.TABLES))
        self._postgres.create_roles()
        self._api.prepare()
        with self._postgres.connect(as_owner=True) as connection:
            migrations.apply(connection, folders.MIGRATIONS, data=self._places.data)
            migrations.install_server_keys(connection, self._plan.proof_keys)
            connection.execute("update private.settings set first_account_is_admin = true")
        send(Starting(Stage.API))
        self._start(self._api)
        key = self._plan.secrets.publishable_key
        address = json.dumps({"supabase_url": self._plan.url, "publishable_key": key})
        folders.write_private(self._places.data / folders.ADDRESS, address)
        self._disk.check()

    def stop(self) -> None:
        self.restarter.stop()
        self._postgres.remove_temporary()

    def _start(self, part: Server) -> None:
        part.start()
        try:
            part.wait()
        except Misconfigured:
            if self._disk.has_stopped(part):
                raise folders.disk_full(self._places.data) from None
            raise


def _supervise(plan: Plan) -> None:
    """Run the parts of *plan* until a signal, and stop them in order. Raise Misconfigured for a database that fails."""
    database = Database(plan.database, plan.folders) if plan.database else None
    model = ModelRunner(ModelServer(plan.model, plan.folders), send) if plan.model else None
    try:
        if model:
            model.start()
        if database:
            database.start()
        send(Running())
        while True:
            time.sleep(_CHECK_SECONDS)
            if database:
                database.restarter.check()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        for part in (model, database):
            if part:
                part.stop()


def send(report: Report) -> None:
    # a broken pipe: the app is gone, and the end of the standard input says so
    with _writing, contextlib.suppress(BrokenPipeError):
        sys.stdout.write(json.dumps(asdict(report)) + "\n")
        sys.stdout.flush()


def _exit(*_: object) -> None:
    sys.exit(0)


def _exit_with_the_app() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _exit)
    plan: Plan = pickle.load(sys.stdin.buffer)  # noqa: S301 (the app's own pipe)
    logging.basicConfig(format="%(asctime)s %(message)s")
    threading.Thread(target=_exit_with_the_app, daemon=True).start()
    try:
        _supervise(plan)
    except Misconfigured as error:
        _logger.warning("%s", error.public, exc_info=True)
        send(Failed(error.public))
    except Exception as error:  # the app reports it, whatever it is
        _logger.exception("unexpected")
        is_full = says_disk_full(error if isinstance(error, OSError) else str(error))
        sentence = (
            f"The embedded backend stopped for a reason it did not expect: see {plan.folders.logs}."
        )
        send(Failed(folders.disk_full(plan.folders.data).public if is_full else sentence))
    sys.exit(1)


if __name__ == "__main__":
    main()
