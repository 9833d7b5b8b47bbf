"""Whether the database answers, as one thread knows it that asks for everybody.

Whoever asks a database that hangs waits for the whole time-out, and a page asks several times. So one thread
asks every few seconds, and while it gets no answer every other call fails at once.
"""

import logging
import time
from collections.abc import Callable
from typing import NoReturn

import httpx

from services.errors import StoreUnavailable
from services.events import log_event

_logger = logging.getLogger(__name__)
_PAUSE = 3.0  # seconds between two questions to a database that answers
_FIRST, _LONGEST = 0.5, 5.0  # and to one that does not: growing


class Reach:
    """Whether the database is away. It answers until it is known that it does not."""

    def __init__(self) -> None:
        self._away_since: float | None = None

    @property
    def is_away(self) -> bool:
        return self._away_since is not None

    def check(self, request: httpx.Request) -> None:
        """Raise httpx.ConnectError while the database is away: a hook of the gateway's client."""
        if self.is_away:
            raise httpx.ConnectError("known to be away", request=request)

    def keep_asking(self, ask: Callable[[], object], tell: Callable[[bool], None]) -> NoReturn:
        """Ask again and again; *tell* of each change, whether it is away now."""
        pause = _PAUSE
        while True:
            try:
                pause = self._ask(ask, tell, pause)
            except Exception:  # a bug, seen in the log; nobody else would ever ask again
                _logger.exception("asking for the database failed")
            time.sleep(pause)

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
        return _PAUSE
