"""Threads of the server process: the probe of the database with its sweeps, the erasures from Supabase Auth's log, and the
end of deserted temporary chats and of idle and ended sessions."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event
from typing import NoReturn

import httpx

from services.crypto import RootKeys
from services.embedded.reports import Failed
from services.errors import AppError, Misconfigured, RowsCut, StoreUnavailable
from services.events import log_event
from services.store.supabase.api import ServerCalls
from services.store.supabase.database_health import DatabaseHealth
from services.store.supabase.sessions import Cookie
from services.web.server_health import ServerHealth

_logger = logging.getLogger(__name__)
_LOOK_SECONDS = 3.0  # between two looks for what is no longer used


def failed_check(server: ServerCalls, root_keys: RootKeys) -> Failed | None:
    """The failure if answers are cut or stored data lacks its root key; None also while the database is away."""
    try:
        server.check_rows()
        root_keys.refuse_missing(server.root_key_versions())
    except (Misconfigured, RowsCut) as error:
        return Failed(error.public)
    except StoreUnavailable:  # asked again once the database is back
        pass
    return None


@dataclass(slots=True, kw_only=True)
class DatabaseProbe:
    """Probes the database by sweeps, and between them by a call that finds nothing."""

    database: DatabaseHealth
    server: ServerCalls  # with a short time-out
    sweep_seconds: float
    health: ServerHealth
    check: Callable[[], Failed | None]  # made again after an outage
    log_erasures: Event  # set when a sweep found some
    _sweep_at: float = 0.0

    def run(self) -> NoReturn:
        """Probe for ever, the first sweep at once."""
        self._sweep_at = time.monotonic()
        self.database.keep_probing(self._probe, self._report)

    def _probe(self) -> None:
        # after an outage live turns prolong their leases first
        if not self.database.is_away and time.monotonic() >= self._sweep_at:
            self._sweep_at = time.monotonic() + self.sweep_seconds
            try:
                while (swept := self.server.sweep()).more:
                    pass
                if swept.log_erasures:
                    self.log_erasures.set()
                return
            except StoreUnavailable as error:
                log_event("sweep.missed")
                if isinstance(error.__cause__, httpx.HTTPError):
                    raise
        self.server.call("open_session", cookie=Cookie.new().hash)  # of no session

    def _report(self, is_away: bool) -> None:
        if not is_away and (failure := self.check()):
            self.health.record(failure)
        self.health.record_outage(is_away=is_away)


def keep_erasing(log_erasures: Event, server: ServerCalls) -> NoReturn:
    """Erase deleted accounts from Supabase Auth's log, slice by slice, whenever *log_erasures* is set: no sweep waits for it,
    and after a failure the next sweep sets it again.
    """
    while True:
        log_erasures.wait()
        log_erasures.clear()
        try:
            while server.erase_log_entries():
                pass
        except AppError:
            log_event("erasure.missed")


def keep_forgetting(*acts: Callable[[], object]) -> NoReturn:
    """Call *acts* every few seconds, for ever: each drops text that is no longer used, or begins postponed tasks."""
    while True:
        time.sleep(_LOOK_SECONDS)
        for act in acts:
            try:
                act()
            except AppError:
                log_event("forgetting.missed")
            except Exception:  # any bug: without this thread no such text would leave the memory
                _logger.exception("forgetting.missed")
