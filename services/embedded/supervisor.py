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
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from services.embedded import folders
from services.embedded.folders import Folders
from services.embedded.model_server import ModelRunner, ModelServer
from services.embedded.plan import DatabasePlan, Plan
from services.embedded.postgres import Postgres
from services.embedded.processes import Server
from services.embedded.reports import Failed, Report, Reporter, Running, Stage, Starting, Trouble
from services.embedded.supabase_api import SupabaseApi, fetch_modules
from services.errors import Misconfigured, says_disk_full
from services.store.supabase import migrations

_CHECK_SECONDS = 0.1  # between two checks of the parts
_FULL_DISK_SECONDS = 1.0  # before another start with a disk that was full
_logger = logging.getLogger(__name__)
_writing = threading.Lock()


class DiskMonitor:
    """Reports once that the disk of the data folder is full, and once that it no longer is."""

    def __init__(self, folder: Path, report: Reporter) -> None:
        self._folder, self._report = folder, report
        self._is_full: bool | None = None

    def check(self) -> bool:
        """Report a change. Return True while the disk is full."""
        # half as much again must be free before it counts as solved: no flapping around the border
        reserve = folders.RESERVE_BYTES * 3 // 2 if self._is_full else folders.RESERVE_BYTES
        is_full = folders.is_full(self._folder, reserve)
        if is_full != self._is_full:
            sentence = f"The disk is full: free some space for {self._folder}."
            self._report(Trouble(sentence if is_full else ""))
        self._is_full = is_full
        return is_full

    def wait_for_space(self) -> None:
        """Return once another start may succeed; until then it would fail and use up the restarts."""
        while self.check():
            time.sleep(_CHECK_SECONDS)


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
        for part in self._parts:
            try:
                part.wait()
            except Misconfigured:
                part.stop()  # the next check restarts it
                return
        self._report(Running())

    def stop(self) -> None:
        for part in reversed(self._parts):
            part.stop()

    def _restart(self, part: Server) -> None:
        if part.lacks_space():
            time.sleep(_FULL_DISK_SECONDS)
            self._disk.wait_for_space()
        else:
            delay = part.backoff.next_delay()
            if delay is None:
                raise part.failure()
            _logger.warning("%s stopped; starting it again in %.1f s", part.name, delay)
            time.sleep(delay)
        part.start()


class Database(Restarter):
    """Postgres and the API in front."""

    def __init__(self, plan: DatabasePlan, places: Folders) -> None:
        self._plan, self._places = plan, places
        self._postgres = Postgres(places, plan.secrets)
        self._api = SupabaseApi(places, plan.port, self._postgres)
        super().__init__((self._postgres, self._api), DiskMonitor(places.data, send), send)

    def start(self) -> None:
        """Start Postgres, bring its tables up to date, and start the API. Raise Misconfigured for the first failure."""
        self._disk.wait_for_space()  # `prepare` checked, but another supervisor may have been killed since
        fetch_modules(
            self._places.cache, lambda done, total: send(Starting(Stage.MODULES, done, total))
        )
        send(Starting(Stage.DATABASE))
        self._postgres.prepare()
        self._postgres.start()
        self._postgres.wait()
        send(Starting(Stage.TABLES))
        self._postgres.create_roles()
        self._api.prepare()
        with self._postgres.connect(as_owner=True) as connection:
            migrations.apply(connection, folders.MIGRATIONS, data=self._places.data)
            migrations.install_server_keys(connection, self._plan.proof_keys)
            connection.execute("update private.settings set first_account_is_admin = true")
        send(Starting(Stage.API))
        self._api.start()
        self._api.wait()
        key = self._plan.secrets.publishable_key
        address = json.dumps({"supabase_url": self._plan.url, "publishable_key": key})
        folders.write_private(self._places.data / folders.ADDRESS, address)

    def stop(self) -> None:
        super().stop()
        self._postgres.remove_temporary()


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
                database.check()
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
    except Exception as error:  # the app reports it, whatever it is
        _logger.exception("stopped")
        send(Failed(_sentence(error, plan.folders)))
    sys.exit(1)


def _sentence(error: Exception, places: Folders) -> str:
    if isinstance(error, Misconfigured):
        return error.public
    if says_disk_full(error if isinstance(error, OSError) else str(error)):
        return folders.disk_full(places.data).public
    return f"The embedded backend stopped for a reason it did not expect: see {places.logs}."


if __name__ == "__main__":
    main()
