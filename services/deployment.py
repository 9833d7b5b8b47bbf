"""The start of a server process: it reads its settings, and starts the backend while the app is still being imported."""

import logging
import secrets
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from services import events, settings
from services.crypto import RootKeys
from services.domain.hosts import is_loopback
from services.domain.sign_in_methods import SignInMethod
from services.embedded.folders import choose_folders, write_private
from services.embedded.plan import Endpoints, prepare
from services.embedded.reports import (
    MAIL_IS_PRINTED,
    NO_ADMIN,
    ONLY_PASSKEYS,
    Failed,
    Report,
    Running,
    address_notice,
    new_store,
)
from services.embedded.stack import Stack
from services.errors import Misconfigured, Refused, Unavailable
from services.settings import Settings
from services.store.tables.protocol import AllTables
from services.stores import choose_first_admin, location, open_tables, place_of
from services.web.server_health import SUPABASE, ServerHealth

_SECRET_BYTES = 32

Check = Callable[[], Failed | None]  # checks the backend; returns None if it meets all requirements


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """The settings and state of one server process. Any thread may read them; only the main thread calls the methods."""

    settings: Settings
    root_keys: RootKeys = field(repr=False)
    endpoints: Endpoints
    health: ServerHealth
    check: Future[Check]  # the function that checks the backend, set once the app has been imported
    stack: Stack = field(repr=False)
    tables: AllTables | None = field(default=None, repr=False)  # the opened store; None: Supabase
    # a deployment without sign-in has one user, whom a URL with this secret lets in until the process ends; None: users
    # must sign in
    secret: str | None = field(default=None, repr=False)
    opening: str = ""  # says where the user finds that URL, without a folder

    def start(self) -> None:
        """Start the backend in a thread. The backend is reported as running once the imported app has checked it."""
        threading.Thread(target=self.stack.run, name="backend", daemon=True).start()

    def end_process(self, signal_number: int, _: object) -> None:
        """Stop the backend, then end this process by the signal. This handles Ctrl-C until the server sets its own handler."""
        self.stack.stop()
        signal.signal(signal_number, signal.SIG_DFL)
        signal.raise_signal(signal_number)


def log_handler() -> logging.Handler:
    """Add the app's handler to the root logger, and return it. It logs expected errors without a traceback."""
    return events.log_handler(Refused, Unavailable)


def read_deployment(url: str) -> Deployment:
    """Read the settings and return the deployment. *url*: the URL at which the server listens, shown if DAYBOOK_URL is not set.

    Raise Misconfigured if the settings, the keys or the store cannot be used, StoreUnavailable if the store cannot be read.
    """
    chosen = settings.read()
    folders = choose_folders(chosen.data_dir, chosen.key_dir)
    is_local, place = is_loopback(urlsplit(url).netloc), place_of(chosen, folders)
    if chosen.is_alone and not is_local:
        raise Misconfigured(
            "Without sign-in Daybook is for this machine alone: set DAYBOOK_SIGN_IN=local, or start without --server.address."
        )
    if chosen.prints_mail and not is_local:
        raise Misconfigured(
            "DAYBOOK_MAIL=console is for this machine alone: set DAYBOOK_SMTP_HOST, or start without --server.address."
        )
    is_public = chosen.url is not None or chosen.trusted_proxies > 0 or not is_local
    is_new = place is not None and not place.exists()
    plan = prepare(
        folders,
        root_keys=chosen.root_keys_text,
        with_database=chosen.supabase_url is None and place is None,
        with_model=chosen.is_model_local,
        makes_key=is_new,
        is_public=is_public,
    )
    tables = open_tables(place, plan.root_keys) if place else None
    secret = secrets.token_urlsafe(_SECRET_BYTES) if chosen.is_alone else None
    at, opening = str(chosen.url or url), ""
    if secret:
        at, opening = _secret_address(f"{at}/open/{secret}", folders.keys)
    health = ServerHealth(at, plan.endpoints, place.kind if place else SUPABASE)
    if chosen.store and is_new:
        health.record(new_store(location(chosen.store)))
    if tables and not choose_first_admin(tables, is_public=is_public):
        health.record(NO_ADMIN)
    if chosen.prints_mail:
        health.record(MAIL_IS_PRINTED)
    if [*chosen.methods] == [SignInMethod.PASSKEY]:
        health.record(ONLY_PASSKEYS)
    if notice := address_notice(chosen, url):
        health.record(notice)
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
        tables=tables,
        secret=secret,
        opening=opening,
    )


def _secret_address(url: str, keys: Path) -> tuple[str, str]:
    """Return the text to print at the start (*url* on a terminal, else the path of a file that contains *url*), and
    `Deployment.opening`.

    Without a terminal, the output may go to a log, which must not contain the secret.
    """
    if sys.stdout.isatty():
        return url, "the address that Daybook printed in its terminal"
    # the port, because another Daybook on this machine may use the same key folder
    file = keys / f"open-{urlsplit(url).port or 80}.txt"
    write_private(file, f"{url}\n")
    return f"the address in {file}", f"the address in the file {file.name}, in Daybook's key folder"
