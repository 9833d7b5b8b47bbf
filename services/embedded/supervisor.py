"""The one child of the app: owns Postgres, the API and the model, and ends with the app.

`python -m services.embedded.supervisor`, in a session of its own. The first line of its standard
input says what to run; the end of that input, however it comes, means the app is gone. It reports
on its standard output. It stops the model, the API and the database, in that order, and exits.
"""

import contextlib
import logging
import os
import signal
import sys
import threading
import time

from services.embedded import folders
from services.embedded.children import Server
from services.embedded.lock import write_address
from services.embedded.model import ModelServer
from services.embedded.plan import DatabasePlan, Plan
from services.embedded.postgres import Postgres
from services.embedded.prepare import MIGRATIONS
from services.embedded.reports import Failed, Report, Running, Stage, Starting, to_line
from services.embedded.supabase_api import SupabaseApi, fetch_modules
from services.embedded.upkeep import GLANCE, Disk, LocalModel, Upkeep
from services.errors import Misconfigured, says_disk_full
from services.store.supabase import migrations

_logger = logging.getLogger(__name__)
_saying = threading.Lock()


class Database:
    """Postgres and the API before it."""

    def __init__(self, plan: DatabasePlan, places: folders.Folders) -> None:
        self._plan, self._places = plan, places
        self._postgres = Postgres(places, plan.secrets)
        self._api = SupabaseApi(places, plan.port, self._postgres, plan.secrets)
        self._disk = Disk(places.data, _say)
        self.upkeep = Upkeep((self._postgres, self._api), self._disk, _say)

    def start(self) -> None:
        """Bring everything up, once. Raise Misconfigured with the first thing that cannot be."""
        if folders.is_full(self._places.data):  # since the app looked: a supervisor was killed
            self._disk.wait_for_room()
        fetch_modules(self._places.cache, lambda done, of: _say(Starting(Stage.MODULES, done, of)))
        _say(Starting(Stage.DATABASE))
        self._postgres.prepare()
        self._start(self._postgres)
        _say(Starting(Stage.TABLES))
        self._postgres.make_roles()
        self._api.prepare()
        self._prepare_tables()
        _say(Starting(Stage.API))
        self._start(self._api)
        write_address(self._places.data, self._plan.url, self._plan.secrets.publishable_key)
        self._disk.look()

    def end(self) -> None:
        self.upkeep.end()
        self._postgres.clear()

    def _start(self, part: Server) -> None:
        part.start()
        try:
            part.wait()
        except Misconfigured:
            if self._disk.killed(part):
                raise folders.full(self._places.data) from None
            raise

    def _prepare_tables(self) -> None:
        with self._postgres.connect(as_owner=True) as connection:
            migrations.apply(connection, MIGRATIONS, data=self._places.data)
            migrations.install_server_keys(connection, self._plan.proof_keys)
            connection.execute("update private.settings set first_account_is_admin = true")


class Supervisor:
    """Runs what a plan asks for until told to stop, and ends it in order, whatever happens."""

    def __init__(self, plan: Plan) -> None:
        self._database = Database(plan.database, plan.folders) if plan.database else None
        self._model = (
            LocalModel(ModelServer(plan.model, plan.folders), _say) if plan.model else None
        )

    def run(self) -> None:
        """Run the stack until told to stop. Raise Misconfigured when it cannot be kept up."""
        try:
            if self._model:
                self._model.begin()
            if self._database:
                self._database.start()
            _say(Running())
            while True:
                time.sleep(GLANCE)
                if self._database:
                    self._database.upkeep.look()
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            for part in (self._model, self._database):
                if part:
                    part.end()


def _say(report: Report) -> None:
    with _saying, contextlib.suppress(BrokenPipeError):  # the app is gone; its input's end says so
        sys.stdout.write(to_line(report))
        sys.stdout.flush()


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
