"""The last model calls of this process, with times to the first token and failures; and the times of the last failed sign-ins."""

import statistics
from collections import defaultdict, deque
from collections.abc import Mapping
from datetime import UTC, datetime

from services.domain.health import ModelCalls, SignInFailure, UnsentReason
from services.domain.model_failures import ModelFailure

_CALLS, _FAILED_SIGN_INS = 50, 1000
_SIGN_IN_FAILURES = {
    "credentials.unopened": SignInFailure.CREDENTIALS,
    "key.missing": SignInFailure.CREDENTIALS,
    "sign_in.broken": SignInFailure.RECOGNITION,
    "sign_in.mismatch": SignInFailure.RECOGNITION,
    "sign_up.failed": SignInFailure.CONFIRMATION,
}


class RecentCalls:
    """The outcomes of the last 50 model calls, and the last 1,000 sign-in failures.

    `record` listens to `services.events`. Any thread may call any method.
    """

    def __init__(self) -> None:
        self._calls: deque[tuple[datetime, Mapping[str, object]]] = deque(maxlen=_CALLS)
        self._failed_sign_ins: deque[tuple[datetime, SignInFailure]] = deque(
            maxlen=_FAILED_SIGN_INS
        )
        # why Supabase Auth did not send the last email for a sign-up that it should have sent; None: it sent all
        self.unsent_reason: UnsentReason | None = None

    def record(self, event: str, measures: Mapping[str, object]) -> None:
        if event == "turn.finished":
            self._calls.append((datetime.now(UTC), measures))
        elif failure := _SIGN_IN_FAILURES.get(event):
            self._failed_sign_ins.append((datetime.now(UTC), failure))
            if failure is SignInFailure.CONFIRMATION:
                self.unsent_reason = UnsentReason(str(measures["reason"]))

    def failed_sign_ins(self) -> dict[SignInFailure, list[datetime]]:
        """Return the times of the last sign-in failures, oldest first, keyed by kind; only kinds that occurred are keys."""
        times = defaultdict[SignInFailure, list[datetime]](list)
        for at, failure in [*self._failed_sign_ins]:
            times[failure].append(at)
        return times

    def summary(self) -> ModelCalls:
        calls = list(self._calls)
        waits = [ms for _, call in calls if isinstance(ms := call["first_token_ms"], int)]
        failures = [(at, ModelFailure(call["failure"])) for at, call in calls if call["failure"]]
        failed_at, failure = failures[-1] if failures else (None, None)
        return ModelCalls(
            calls=len(calls),
            failed=len(failures),
            first_token_ms=round(statistics.median(waits)) if waits else None,
            last_failure=failure,
            last_failed_at=failed_at,
        )
