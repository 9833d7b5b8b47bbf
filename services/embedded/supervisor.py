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

from services.embedded import children, folders, keys, supabase_api
from services.embedded.children import Child, Patience, Server
from services.embedded.model import Model
from services.embedded.plan import Plan
from services.embedded.postgres import Postgres
from services.embedded.reports import Failed, Report, Running, Stage, Starting, to_line
from services.embedded.supabase_api import SupabaseApi
from services.errors import Misconfigured, says_disk_full
from services.store import migrations

_logger = logging.getLogger(__name__)
_GLANCE = 0.2  # seconds between looks at the children


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


class Supervisor:
    """Starts the stack in order, keeps it up, and stops it in order, whatever happens."""

    def __init__(self, plan: Plan) -> None:
        places, self._plan = plan.folders, plan
        secrets = keys.stack_secrets(places.keys, places.database)
        self._postgres = Postgres(
            folder=places.database,
            socket_folder=folders.socket_folder(places.database),
            log=places.logs / "postgres.log",
            secrets=secrets,
        )
        self._api = SupabaseApi(
            modules=supabase_api.modules_folder(places.cache),
            folder=places.data / "api",
            log=places.logs / "api.log",
            port=plan.api_port,
            postgres=self._postgres,
            secrets=secrets,
        )
        model = Model(
            port=plan.model_port,
            folder=places.data,
            log=places.logs / "model.log",
            key=secrets.model_key,
        )
        self._database, self._rest = Part(self._postgres), Part(self._api)
        self._model = Part(model) if plan.with_model else None
        self._parts = [part for part in (self._database, self._model, self._rest) if part]

    def run(self) -> None:
        """Run the stack until told to stop. Raise Misconfigured when it cannot be kept up."""
        try:
            self._boot()
            self._keep_up()
        finally:
            _ignore_signals()
            for part in reversed(self._parts):
                part.end()

    def _boot(self) -> None:
        supabase_api.fetch_modules(
            self._plan.folders.cache, lambda done, of: _say(Starting(Stage.MODULES, done, of))
        )
        if self._model:
            self._model.start()  # it loads while the database starts
        _say(Starting(Stage.DATABASE))
        self._postgres.prepare()
        self._database.start()
        self._database.wait()
        _say(Starting(Stage.TABLES))
        self._postgres.make_roles()
        self._api.prepare()
        with self._postgres.connect(as_owner=True) as connection:
            migrations.apply(connection, self._plan.migrations)
        _say(Starting(Stage.API))
        self._rest.start()
        self._rest.wait()
        if self._model:
            _say(Starting(Stage.MODEL))
            self._model.wait()
        _say(Running())

    def _keep_up(self) -> None:
        while True:
            time.sleep(_GLANCE)
            fallen = [part for part in self._parts if part.is_down()]
            if fallen:
                _say(Starting(Stage.RECOVERING))
                for part in fallen:
                    _revive(part)
                if self._all_answer():
                    _say(Running())

    def _all_answer(self) -> bool:
        """Whether every part answers; the first that does not is ended, to be started again."""
        for part in self._parts:
            try:
                part.wait()
            except Misconfigured:
                part.end()
                return False
        return True


def _revive(part: Part) -> None:
    delay = part.patience.next_delay()
    if delay is None:
        raise children.gone(part.server)
    _logger.warning("%s stopped; starting it again in %.1f s", part.server.name, delay)
    time.sleep(delay)
    part.start()


def _say(report: Report) -> None:
    with contextlib.suppress(BrokenPipeError):  # the app is gone, and its input's end will say so
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
    logging.basicConfig(
        filename=plan.folders.logs / "supervisor.log", format="%(asctime)s %(message)s"
    )
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
        return f"The disk is full: free some space for {plan.folders.data} and start again."
    return f"The embedded backend stopped for a reason it did not expect: see {plan.folders.logs}."


if __name__ == "__main__":
    main()
