"""Threads that probe and sweep the database, and that erase deleted accounts from Supabase Auth's log."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event
from typing import NoReturn
from uuid import uuid4

import httpx

from services.errors import AppError, StoreUnavailable
from services.events import log_event
from services.store.supabase.api import ServerCalls
from services.store.supabase.database_health import DatabaseHealth

_NO_COOKIE_HASH = "0" * 64  # a hash that no session's cookie has


@dataclass(slots=True, kw_only=True)
class DatabaseProbe:
    """Probes the database in one thread: by a sweep if one is due, else by looking up a session that does not exist."""

    database: DatabaseHealth
    server: ServerCalls  # makes calls with a short time-out
    sweep_seconds: float
    report: Callable[[str], None]  # called when an outage begins (a sentence) or ends ("")
    log_erasures: Event = field(default_factory=Event)  # set when a sweep found entries to erase
    _sweep_at: float = 0.0

    def run(self) -> NoReturn:
        """Probe the database forever. The first probe is a sweep: it settles lapsed turns and removes rows due for deletion."""
        self._sweep_at = time.monotonic()
        self.database.keep_probing(self._probe, self.report)

    def _probe(self) -> None:
        # no sweep right after an outage, so that live turns can renew their leases first
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
        self.server.call("open_session", cookie=_NO_COOKIE_HASH, nonce=uuid4())


def keep_erasing(log_erasures: Event, server: ServerCalls) -> NoReturn:
    """Erase deleted accounts from Supabase Auth's log, in slices, whenever *log_erasures* is set.

    Sweeps do not wait for this. After a failure, the next sweep sets *log_erasures* again.
    """
    while True:
        log_erasures.wait()
        log_erasures.clear()
        try:
            while server.erase_log_entries():
                pass
        except AppError:
            log_event("erasure.missed")
