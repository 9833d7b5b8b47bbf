"""The last model calls of this process: their times to the first token, and their failures."""

import statistics
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime

from services.domain.health import ModelCalls

_CALLS = 50


class RecentCalls:
    """The outcomes of the last 50 calls. `record` listens to `services.events`. Any thread may call any method."""

    def __init__(self) -> None:
        self._calls: deque[tuple[datetime, Mapping[str, object]]] = deque(maxlen=_CALLS)

    def record(self, event: str, measures: Mapping[str, object]) -> None:
        if event == "turn.finished":
            self._calls.append((datetime.now(UTC), measures))

    def summary(self) -> ModelCalls:
        calls = list(self._calls)
        waits = [ms for _, call in calls if isinstance(ms := call["first_token_ms"], int)]
        failures = [(at, str(call["failure"])) for at, call in calls if call["failure"]]
        failed_at, failure = failures[-1] if failures else (None, None)
        return ModelCalls(
            calls=len(calls),
            failed=len(failures),
            first_token_ms=round(statistics.median(waits)) if waits else None,
            last_failure=failure,
            last_failed_at=failed_at,
        )
