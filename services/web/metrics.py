"""Prometheus metrics of this process, counted from its events: `GET /metrics`, with a bearer token."""

import hmac
from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

_SECONDS = (0.1, 0.2, 0.4, 0.8, 1.5, 3, 6, 12, 30, 60, 180)
_DIRECTIONS = {"in": "prompt_tokens", "cached": "cached_tokens", "out": "reply_tokens"}
# events that are not errors; `turn.begun` and `turn.finished` are counted separately
_NO_ERRORS = {
    "turn.adopted", "summary.made", "title.made", "facts.noted", "session.started", "account.deleted", "store.back", "mail.sent",
}  # fmt: skip


class Metrics:
    """Counts of events by kind, never by user: no label contains an id. Any thread may record."""

    def __init__(self, token: SecretStr | None, sessions: Callable[[], int]) -> None:
        """If *token* is None, the route is disabled. *sessions* returns the number of open sessions in this process."""
        self._expected = f"Bearer {token.get_secret_value()}".encode() if token else None
        self._live: set[object] = set()
        registry = self._registry = CollectorRegistry()
        self._turns = Counter(
            "daybook_turns", "Settled calls of a model", ["purpose", "outcome"], registry=registry
        )
        self._tokens = Counter(
            "daybook_tokens", "Tokens (cached: of those in)", ["direction"], registry=registry
        )
        self._errors = Counter("daybook_errors", "Errors", ["kind"], registry=registry)
        self._first_token = Histogram(
            "daybook_first_token_seconds",
            "Seconds to the first token",
            buckets=_SECONDS,
            registry=registry,
        )
        live = Gauge("daybook_live_turns", "Calls of a model under way", registry=registry)
        live.set_function(lambda: len(self._live))
        opened = Gauge("daybook_sessions", "App sessions in memory", registry=registry)
        opened.set_function(sessions)
        ProcessCollector(registry=registry)

    def routes(self) -> list[Route]:
        return [Route("/metrics", self._answer)]

    def record(self, event: str, measures: Mapping[str, object]) -> None:
        """Count *event*. This is a listener of `services.events`."""
        turn = measures.get("turn")
        if event == "turn.begun":
            self._live.add(turn)
            return
        if event in ("turn.finished", "turn.lost"):
            self._live.discard(turn)
        if event == "turn.finished":
            self._count_turn(measures)
        elif event not in _NO_ERRORS:
            self._errors.labels(event).inc()

    def _count_turn(self, measures: Mapping[str, object]) -> None:
        self._turns.labels(measures["purpose"], measures["outcome"]).inc()
        for direction, name in _DIRECTIONS.items():
            self._tokens.labels(direction).inc(_number(measures[name]))
        for failure in filter(None, (measures["failure"], measures["store_failure"])):
            self._errors.labels(failure).inc()
        if measures["first_token_ms"] is not None:
            self._first_token.observe(_number(measures["first_token_ms"]) / 1000)

    async def _answer(self, request: Request) -> Response:
        if self._expected is None:
            return PlainTextResponse("Not Found", 404)
        given = request.headers.get("authorization", "").encode()
        if not hmac.compare_digest(given, self._expected):
            return PlainTextResponse("Unauthorized", 401, {"WWW-Authenticate": "Bearer"})
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)


def _number(value: object) -> float:
    return value if isinstance(value, int | float) else 0
