"""The start of a server process: its settings, and the backend, which starts while the rest of the app is imported."""

import logging
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from services import events, settings
from services.crypto import RootKeys
from services.domain import SessionId
from services.embedded.folders import choose_folders
from services.embedded.plan import Endpoints, prepare
from services.embedded.reports import Failed, Report, Running
from services.embedded.stack import Stack
from services.errors import Refused, Unavailable
from services.settings import Settings
from services.web.server_health import ServerHealth

Check = Callable[[], Failed | None]  # of the backend


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """The settings and state that one server process began with."""

    settings: Settings
    root_keys: RootKeys = field(repr=False)
    endpoints: Endpoints
    health: ServerHealth
    check: Future[Check] = field(default_factory=Future[Check])  # once the app is imported
    close_tabs: Callable[[SessionId], object] = lambda _: None  # of a session that has ended
    stop: Callable[[], None] = lambda: None  # the backend


_deployment: Deployment | None = None


def log_handler() -> logging.Handler:
    """Make the root's handler and return it. What the app raises on purpose leaves no traceback."""
    return events.log_handler(Refused, Unavailable)


def begin(url: str, close_tabs: Callable[[SessionId], object]) -> None:
    """Check what can be checked at once, and start the backend in a thread. Raise Misconfigured with what to do.

    The backend is reported as running only once the app is imported and has checked it.

    *close_tabs*: closes the tabs of an app session that has ended.
    """
    global _deployment
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

    stack = Stack(plan, record)
    _deployment = Deployment(
        settings=chosen,
        root_keys=plan.root_keys,
        endpoints=plan.endpoints,
        health=health,
        check=check,
        close_tabs=close_tabs,
        stop=stack.stop,
    )
    threading.Thread(target=stack.run, name="backend", daemon=True).start()


def end_process(signal_number: int, _: object) -> None:
    """Stop the backend, if any, and end this process by the signal: the handler of Ctrl-C until the server has its own."""
    if _deployment:
        _deployment.stop()
    signal.signal(signal_number, signal.SIG_DFL)
    signal.raise_signal(signal_number)


def current_deployment() -> Deployment:
    """The deployment that this process began with."""
    if _deployment is None:
        raise RuntimeError("begin() comes first")
    return _deployment
