"""A circuit breaker: one thread probes the database; calls fail fast while it is away.

A call of a database that hangs waits for the whole time-out, and a page makes several. So one thread probes it, at
intervals and at once when a call fails, and while there is no answer every other call fails at once.
"""

import logging
import time
from collections.abc import Callable
from threading import Event
from typing import NoReturn

import httpx

from services.errors import StoreUnavailable
from services.events import log_event

_logger = logging.getLogger(__name__)
_FIRST, _LONGEST = 0.5, 3.0  # seconds between two questions to a database that is away: growing
_NO_UPSTREAM = 502  # from here on a status says that the API itself got no answer


class DatabaseHealth:
    """Whether the database is away. It answers until it is known that it does not."""

    def __init__(self, seconds: float) -> None:
        """A database that answers is asked every *seconds*, and after a call that failed."""
        self._seconds = seconds
        self._away_since: float | None = None
        self._failed = Event()

    @property
    def is_away(self) -> bool:
        return self._away_since is not None

    def check(self, request: httpx.Request) -> None:
        """Raise httpx.ConnectError while the database is away: a hook of the gateway's client.

        A request that passes wakes the thread if its connection fails.
        """
        if self.is_away:
            raise httpx.ConnectError("known to be away", request=request)
        request.extensions["trace"] = self._trace

    def see(self, response: httpx.Response) -> None:
        """Wake the thread if the API got no answer from the database: a hook of the gateway's client."""
        if response.status_code >= _NO_UPSTREAM:
            self._failed.set()

    def _trace(self, event: str, _: object) -> None:
        if event.endswith(".failed"):
            self._failed.set()

    def keep_asking(self, ask: Callable[[], object], tell: Callable[[bool], None]) -> NoReturn:
        """Ask again and again; *tell* of each change, whether it is away now."""
        pause = self._seconds
        while True:
            self._failed.clear()
            try:
                pause = self._ask(ask, tell, pause)
            except Exception:  # a bug, seen in the log; nobody else would ever ask again
                _logger.exception("asking for the database failed")
            self._failed.wait(pause)

    def _ask(self, ask: Callable[[], object], tell: Callable[[bool], None], pause: float) -> float:
        """Ask once. Return the seconds to wait before the next time, *pause* having been the last."""
        since = self._away_since
        try:
            ask()
        except StoreUnavailable:
            if since is not None:
                return min(2 * pause, _LONGEST)
            self._away_since = time.monotonic()
            log_event("store.away")
            tell(True)
            return _FIRST
        if since is not None:
            self._away_since = None
            log_event("store.back", seconds=round(time.monotonic() - since, 1))
            tell(False)
        return self._seconds
