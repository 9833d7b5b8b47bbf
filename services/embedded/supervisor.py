"""The one child of the app: owns Postgres, the API and the model, and ends with the app.

`python -m services.embedded.supervisor`, in a session of its own. The first line of its standard
input says what to run; the end of that input, however it comes, means the app is gone. It reports
on its standard output. It stops the API, the model and the database, in that order, and exits.
"""

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass, field

from services.embedded import children, folders, supabase_api
from services.embedded.address import write_address
from services.embedded.children import Child, Patience, Server
from services.embedded.model import ModelServer
from services.embedded.plan import DatabasePlan, Plan
from services.embedded.postgres import Postgres
from services.embedded.reports import (
    Failed,
    Model,
    ModelState,
    Report,
    Running,
    Stage,
    Starting,
    Trouble,
    to_line,
)
from services.embedded.supabase_api import SupabaseApi
from services.errors import Misconfigured, says_disk_full
from services.store import migrations

_logger = logging.getLogger(__name__)
_GLANCE = 0.1  # seconds between looks at the children
_GRACE = 1.0  # seconds before another try with a disk that was full
_MODELS_PAUSE = 180.0  # seconds before another try with a model that failed again and again


@dataclass(slots=True)
class Part:
    """One program of the stack as it runs now, and how often it may start again."""

    server: Server
    child: Child | None = None
    patience: Patience = field(default_factory=Patience)

    def start(self) -> None:
        self.child = self.server.start()

    def wait(self) -> None:
        if self.child is not None:
            self.server.wait(self.child)

    def end(self) -> None:
        if self.child is not None:
            self.server.stop(self.child)

    def is_down(self) -> bool:
        return self.child is not None and self.child.poll() is not None


class Database:
    """Postgres and the API before it: started in order, kept up, stopped in order."""

    def __init__(self, plan: DatabasePlan, places: folders.Folders) -> None:
        self._plan, self._places = plan, places
        self._postgres = Postgres(
            folder=places.database,
            socket_folder=folders.socket_folder(places.database),
            log=places.logs / "postgres.log",
            secrets=plan.secrets,
        )
        self._api = SupabaseApi(
            modules=supabase_api.modules_folder(places.cache),
            folder=places.data / "api",
            log=places.logs / "api.log",
            port=plan.port,
            postgres=self._postgres,
            secrets=plan.secrets,
        )
        self._parts = (Part(self._postgres), Part(self._api))
        self._is_full: bool | None = None  # not looked yet

    def start(self) -> None:
        """Bring everything up, once. Raise Misconfigured with the first thing that cannot be."""
        database, api = self._parts
        supabase_api.fetch_modules(
            self._places.cache, lambda done, of: _say(Starting(Stage.MODULES, done, of))
        )
        _say(Starting(Stage.DATABASE))
        self._postgres.prepare()
        self._start(database)
        _say(Starting(Stage.TABLES))
        self._postgres.make_roles()
        self._api.prepare()
        self._prepare_tables()
        _say(Starting(Stage.API))
        self._start(api)
        write_address(self._places.data, self._api.url, self._plan.secrets.publishable_key)
        self._watch_disk()

    def look(self) -> None:
        """Start again what has stopped, and watch the disk. Raise Misconfigured when that is no use."""
        fallen = [part for part in self._parts if part.is_down()]
        if not fallen:
            self._watch_disk()
            return
        _say(Starting(Stage.RECOVERING))
        for part in fallen:
            self._revive(part)
        if self._all_answer():
            _say(Running())

    def end(self) -> None:
        for part in reversed(self._parts):
            part.end()
        self._postgres.clear()

    def _start(self, part: Part) -> None:
        part.start()
        try:
            part.wait()
        except Misconfigured:
            if self._died_of_a_full_disk(part):
                raise folders.full(self._places.data) from None
            raise

    def _prepare_tables(self) -> None:
        with self._postgres.connect(as_owner=True) as connection:
            migrations.apply(connection, self._plan.migrations)
            migrations.install_server_keys(connection, self._plan.proof_keys)
            connection.execute("update private.settings set first_account_is_admin = true")

    def _revive(self, part: Part) -> None:
        if self._died_of_a_full_disk(part):
            self._wait_for_room()
        else:
            delay = part.patience.next_delay()
            if delay is None:
                raise children.gone(part.server)
            _logger.warning("%s stopped; starting it again in %.1f s", part.server.name, delay)
            time.sleep(delay)
        part.start()

    def _all_answer(self) -> bool:
        """Whether every part answers; the first that does not is ended, to be started again."""
        for part in self._parts:
            try:
                part.wait()
            except Misconfigured:
                part.end()
                return False
        return True

    def _died_of_a_full_disk(self, part: Part) -> bool:
        said = children.tail(part.server.log)
        return folders.is_full(self._places.data) or says_disk_full(said)

    def _wait_for_room(self) -> None:
        """Return when another try makes sense: it would be no use, and use up what patience there is."""
        self._tell_full(is_full=True)
        time.sleep(_GRACE)
        while folders.is_full(self._places.data):
            time.sleep(_GLANCE)

    def _watch_disk(self) -> None:
        # half as much again before it counts as mended: no flapping around the border
        room = folders.ROOM * 3 // 2 if self._is_full else folders.ROOM
        self._tell_full(is_full=folders.is_full(self._places.data, room))

    def _tell_full(self, *, is_full: bool) -> None:
        if is_full != self._is_full:
            place = self._places.data
            _say(Trouble(f"The disk is full: free some space for {place}." if is_full else ""))
        self._is_full = is_full


class LocalModel:
    """Keeps a model up, in a thread of its own: nothing waits for it, and it ends nothing but itself."""

    def __init__(self, server: Server, patience: Patience) -> None:
        self._server, self._patience = server, patience
        self._child: Child | None = None
        self._change, self._ending = threading.Lock(), threading.Event()

    def begin(self) -> None:
        threading.Thread(target=self._keep, name="model", daemon=True).start()

    def end(self) -> None:
        with self._change:
            self._ending.set()
        if self._child is not None:
            self._server.stop(self._child)

    def _keep(self) -> None:
        while not self._ending.is_set():
            _say(Model(ModelState.STARTING))
            try:
                self._run_once()
            except (Misconfigured, OSError) as error:
                _logger.warning("%s", error)
            delay = self._patience.next_delay()
            if delay is None:
                _say(Model(ModelState.FAILED))
            self._ending.wait(_MODELS_PAUSE if delay is None else delay)

    def _run_once(self) -> None:
        with self._change:
            if self._ending.is_set():
                return
            self._child = self._server.start()
        try:
            self._server.wait(self._child)
            _say(Model(ModelState.READY))
            self._child.wait()
        finally:
            self._server.stop(self._child)


class Supervisor:
    """Runs what a plan asks for until told to stop, and ends it in order, whatever happens."""

    def __init__(self, plan: Plan) -> None:
        places = plan.folders
        self._database = Database(plan.database, places) if plan.database else None
        self._model = None
        if plan.model:
            log = places.logs / "model.log"
            server = ModelServer(
                port=plan.model.port, folder=places.data, log=log, key=plan.model.key
            )
            self._model = LocalModel(server, Patience())

    def run(self) -> None:
        """Run the stack until told to stop. Raise Misconfigured when it cannot be kept up."""
        try:
            if self._model:
                self._model.begin()
            if self._database:
                self._database.start()
            _say(Running())
            while True:
                time.sleep(_GLANCE)
                if self._database:
                    self._database.look()
        finally:
            _ignore_signals()
            for part in (self._model, self._database):
                if part:
                    part.end()


_saying = threading.Lock()


def _say(report: Report) -> None:
    with _saying, contextlib.suppress(BrokenPipeError):  # the app is gone; its input's end says so
        sys.stdout.write(to_line(report))
        sys.stdout.flush()


def _ignore_signals() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def _end(*_: object) -> None:
    sys.exit(0)


def _end_with_the_app() -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    plan = Plan.from_line(sys.stdin.readline())
    logging.basicConfig(format="%(asctime)s %(message)s")
    threading.Thread(target=_end_with_the_app, daemon=True).start()
    try:
        Supervisor(plan).run()
    except Misconfigured as error:
        _logger.warning("%s", error.public, exc_info=True)
        _say(Failed(error.public))
    except Exception as error:  # the app must hear of it, whatever it is
        _logger.exception("unexpected")
        _say(Failed(_sentence(error, plan)))
    sys.exit(1)


def _sentence(error: Exception, plan: Plan) -> str:
    if says_disk_full(error if isinstance(error, OSError) else str(error)):
        return folders.full(plan.folders.data).public
    return f"The embedded backend stopped for a reason it did not expect: see {plan.folders.logs}."


if __name__ == "__main__":
    main()
