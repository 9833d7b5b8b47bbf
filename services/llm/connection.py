"""The connection to the endpoint of a deployment's models, as admins see and test it."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

from services.domain.health import ConnectionTest
from services.domain.model_failures import ModelUnavailable
from services.llm.endpoint import Endpoint
from services.llm.model_spec import listed_models

_SECONDS = 5.0  # the shortest time between two tests, from the end of the first


class Connection:
    """Tests the connection to *endpoint*. Any thread may call any method."""

    def __init__(self, endpoint: Endpoint, list_models: Callable[[], object]) -> None:
        """*list_models* returns the endpoint's list of models; it may raise ModelUnavailable."""
        self.endpoint = endpoint
        self._list_models, self._lock = list_models, threading.Lock()
        self._last: ConnectionTest | None = None
        self._may_test_at = 0.0

    def test(self) -> ConnectionTest:
        """Ask for the list of models, and for no reply; return the last result if it is less than five seconds old."""
        with self._lock:
            if self._last is None or time.monotonic() >= self._may_test_at:
                self._last = self._test()
                self._may_test_at = time.monotonic() + _SECONDS
            return self._last

    def _test(self) -> ConnectionTest:
        at, began = datetime.now(UTC), time.monotonic()
        listed, failure = list[object](), None
        try:
            listed = listed_models(self._list_models())
        except ModelUnavailable as error:
            failure = error.failure
        return ConnectionTest(
            host=self.endpoint.host,
            at=at,
            ms=round((time.monotonic() - began) * 1000),
            models=len(listed),
            failure=failure,
        )
