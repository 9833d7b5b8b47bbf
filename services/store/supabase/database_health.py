"""A circuit breaker: one thread probes the database; calls fail fast while the database is down.

Without it, each call to a hanging database would wait until the call times out, and a page makes several calls.
"""

import logging
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from threading import Event, local
from typing import NoReturn

import httpx

from services.errors import StoreUnavailable
from services.events import log_event

_logger = logging.getLogger(__name__)
# seconds between probes while the database is down: the first pause, which doubles each time, and the longest
_FIRST_SECONDS, _LONGEST_SECONDS = 0.5, 3.0
_NO_UPSTREAM = 502  # a response with this or a higher HTTP status means that the API did not reach the database


class DatabaseHealth:
    """Tracks whether the database is up, and at first assumes that it is.

    Only one thread calls `keep_probing`; any thread may call the other methods.
    """

    def __init__(self, seconds: float) -> None:
        """Set the *seconds* between two probes while the database is up; a failed call causes a probe immediately."""
        self._seconds = seconds
        self._down_since: float | None = None
        self._failed = Event()
        self._exempt = local()

    @property
    def is_away(self) -> bool:
        return self._down_since is not None

    @property
    def hooks(self) -> dict[str, list[Callable[..., object]]]:
        """Return hooks for the gateway's client: calls fail fast during an outage, and a failed call causes a probe."""
        return {"request": [self.check], "response": [self.see]}

    def check(self, request: httpx.Request) -> None:
        """Raise httpx.ConnectError while the database is down, unless the calling thread is exempt."""
        if self.is_away and not getattr(self._exempt, "is_set", False):
            raise httpx.ConnectError("known to be away", request=request)
        request.extensions["trace"] = self._trace

    @contextmanager
    def exempt(self) -> Generator[None]:
        """Let the calls of this thread through during the block, even while the database is down."""
        self._exempt.is_set = True
        try:
            yield
        finally:
            self._exempt.is_set = False

    def see(self, response: httpx.Response) -> None:
        """Cause a probe of the database if *response* shows that the API did not reach it."""
        if response.status_code >= _NO_UPSTREAM:
            self._failed.set()

    def _trace(self, event: str, _: object) -> None:
        if event.endswith(".failed"):
            self._failed.set()

    def keep_probing(self, probe: Callable[[], object], report: Callable[[str], None]) -> NoReturn:
        """Call *probe* forever; call *report* with a sentence when an outage begins, and with "" when it ends."""
        pause = self._seconds
        while True:
            self._failed.clear()
            try:
                pause = self._probe(probe, report, pause)
            except Exception:  # a bug: it is logged, and probing continues
                _logger.exception("a probe of the database failed")
            self._failed.wait(pause)

    def _probe(
        self, probe: Callable[[], object], report: Callable[[str], None], pause: float
    ) -> float:
        """Call *probe* once. Return the seconds until the next call; *pause*: the seconds waited before this call."""
        since = self._down_since
        try:
            probe()
        except StoreUnavailable as error:
            if since is not None:
                return min(2 * pause, _LONGEST_SECONDS)
            self._down_since = time.monotonic()
            log_event("store.away")
            report(error.outage)
            return _FIRST_SECONDS
        if since is not None:
            self._down_since = None
            log_event("store.back", seconds=round(time.monotonic() - since, 1))
            report("")
        return self._seconds
