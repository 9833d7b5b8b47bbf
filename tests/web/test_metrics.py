"""The metrics of a process, and the callers that may read them."""

from uuid import uuid4

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.testclient import TestClient

from services.chat.live_turn import LiveTurns
from services.domain import Outcome, Purpose
from services.domain.model_failures import ModelFailure
from services.domain.turns import StopCause
from services.errors import SignedOut, StoreUnavailable
from services.events import log_event
from services.web.metrics import Metrics
from tests.unit.test_live_turn import a_turn, end

TOKEN = "a-token-of-prometheus"


@pytest.fixture
def metrics(monkeypatch):
    """Metrics that receive the events of this test."""
    made = Metrics(SecretStr(TOKEN), sessions=lambda: 3)
    monkeypatch.setattr("services.events._listeners", [made.record])
    return made


def get(metrics, **headers):
    return TestClient(Starlette(routes=metrics.routes())).get("/metrics", headers=headers)


def samples(metrics):
    """Return the values of our samples that are not 0, by name and labels."""
    text = get(metrics, authorization=f"Bearer {TOKEN}").text
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("daybook")
        and not sample.name.endswith("_created")
        and sample.value
    }


def finish(turn, outcome, first_token_ms=None, failure=None, store_failure=None):
    tokens = {"prompt_tokens": 100, "cached_tokens": 60, "reply_tokens": 20}
    log_event(
        "turn.finished",
        turn=turn,
        purpose=Purpose.REPLY,
        outcome=outcome,
        **tokens,
        first_token_ms=first_token_ms,
        failure=failure,
        store_failure=store_failure,
    )


def test_settled_turns_are_counted_with_tokens_and_errors(metrics):
    for _ in range(2):
        finish(uuid4(), Outcome.COMPLETE, first_token_ms=700)
    finish(uuid4(), Outcome.FAILED, failure=ModelFailure.BUSY)
    finish(uuid4(), Outcome.COMPLETE, store_failure=StoreUnavailable)
    log_event("store.away")
    log_event("store.back", seconds=2.0)

    counted = samples(metrics)

    buckets = [bound for name, *labels in counted if name.endswith("_bucket") for bound in labels]
    assert buckets[0] == "0.8"
    assert {key: value for key, value in counted.items() if not key[0].endswith("_bucket")} == {
        ("daybook_turns_total", "complete", "reply"): 3,
        ("daybook_turns_total", "failed", "reply"): 1,
        ("daybook_tokens_total", "in"): 400,
        ("daybook_tokens_total", "cached"): 240,
        ("daybook_tokens_total", "out"): 80,
        ("daybook_errors_total", "busy"): 1,
        ("daybook_errors_total", "StoreUnavailable"): 1,
        ("daybook_errors_total", "store.away"): 1,
        ("daybook_first_token_seconds_count",): 2,
        ("daybook_first_token_seconds_sum",): 1.4,
        ("daybook_sessions",): 3,
    }


def test_live_turns_are_those_begun_and_not_settled(metrics):
    turns = [uuid4() for _ in range(3)]
    for turn in turns:
        log_event("turn.begun", turn=turn)
    finish(turns[0], Outcome.COMPLETE)

    assert samples(metrics)["daybook_live_turns",] == 2


def test_turn_that_a_sign_out_refused_is_not_live(metrics):
    live_turns, turn = LiveTurns(), a_turn()
    turn.owner = "phone"
    log_event("turn.begun", turn=turn.id)

    with live_turns.leaving("phone", StopCause.USER), pytest.raises(SignedOut):
        live_turns.run(turn, lambda _: None, end)

    assert ("daybook_live_turns",) not in samples(metrics)


def test_turn_without_a_thread_is_not_live(metrics, monkeypatch):
    def start(_):
        raise RuntimeError("can't start new thread")

    turn = a_turn()
    log_event("turn.begun", turn=turn.id)

    with monkeypatch.context() as full, pytest.raises(RuntimeError):
        full.setattr("threading.Thread.start", start)
        LiveTurns().run(turn, lambda _: None, end)

    assert ("daybook_live_turns",) not in samples(metrics)


def test_metrics_hold_no_ids(metrics):
    turn = uuid4()
    log_event("turn.begun", turn=turn)
    log_event("turn.lost", turn=turn, conversation=turn)
    finish(turn, Outcome.COMPLETE)

    assert str(turn) not in get(metrics, authorization=f"Bearer {TOKEN}").text


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Bearer ä"]
)
def test_metrics_are_for_the_token_alone(metrics, header):
    answer = get(metrics, **({} if header is None else {"authorization": header.encode()}))

    assert (answer.status_code, "daybook" in answer.text) == (401, False)


def test_without_a_token_there_are_no_metrics():
    metrics = Metrics(None, sessions=lambda: 0)

    assert get(metrics, authorization="Bearer ").status_code == 404
