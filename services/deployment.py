"""The start of a server process: its settings, and its backend, which starts while the app is being imported."""

import logging
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from services import events, settings
from services.crypto import RootKeys
from services.embedded.folders import choose_folders
from services.embedded.plan import Endpoints, prepare
from services.embedded.reports import Failed, Report, Running
from services.embedded.stack import Stack
from services.errors import Refused, Unavailable
from services.settings import Settings
from services.web.server_health import ServerHealth

Check = Callable[[], Failed | None]  # a check by the backend


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """The settings and state of one server process. Any thread may read them; the main thread starts and ends it."""

    settings: Settings
    root_keys: RootKeys = field(repr=False)
    endpoints: Endpoints
    health: ServerHealth
    check: Future[Check]  # set once the app is imported
    stack: Stack = field(repr=False)

    def start(self) -> None:
        """Start the backend in a thread. It is reported as running once the app is imported and has checked it."""
        threading.Thread(target=self.stack.run, name="backend", daemon=True).start()

    def end_process(self, signal_number: int, _: object) -> None:
        """Stop the backend and end this process by the signal. Handles Ctrl-C until the server has its own handler."""
        self.stack.stop()
        signal.signal(signal_number, signal.SIG_DFL)
        signal.raise_signal(signal_number)


def log_handler() -> logging.Handler:
    """Set the handler of the root logger and return it. Expected errors leave no traceback."""
    return events.log_handler(Refused, Unavailable)


def read_deployment(url: str) -> Deployment:
    """Return the deployment that the settings describe, at *url* unless they name another URL. Raise Misconfigured."""
    chosen = settings.read()
    plan = prepare(
        choose_folders(chosen.data_dir, chosen.key_dir),
        root_keys=chosen.root_keys.get_secret_value() if chosen.root_keys else None,
        with_database=chosen.supabase_url is None,
        with_model=not (chosen.openai_base_url or chosen.openai_api_key),
        is_public=chosen.url is not None or chosen.trusted_proxies > 0,
    )
    health = ServerHealth(str(chosen.url or url), plan.endpoints)
    check = Future[Check]()

    def record(report: Report) -> None:
        if isinstance(report, Running):
            report = check.result()() or report
        health.record(report)

    return Deployment(
        settings=chosen,
        root_keys=plan.root_keys,
        endpoints=plan.endpoints,
        health=health,
        check=check,
        stack=Stack(plan, record),
    )
