"""Model calls: charged by the endpoint's count as far as possible, and logged."""

import time
from dataclasses import replace

import pytest

from services.chat.paid_calls import Call, UnansweredCalls
from services.domain import Outcome, Usage
from services.domain.model_failures import ModelFailure, ModelUnavailable
from services.errors import Busy, StoreUnavailable, Tampered
from services.web.recent_calls import RecentCalls
from tests.chats import ask, done
from tests.fakes import INFO
from tests.store.conformance.talk import first_turn
from tests.unit.test_temporary import CANARY, held_by


@pytest.fixture
def charged(maya):
    """Return a function that returns the settled turn after the endpoint reported *usage*."""

    def settle(usage):
        maya.model.pieces = ("Prune in March.", usage)
        turn, _ = ask(maya.chat)
        return maya.database.tables.turns[turn.id]

    return settle


@pytest.fixture
def bound(charged):
    """The upper bound of the prompt's tokens."""
    return charged(Usage(1, 5)).reserved_tokens - INFO.reply_tokens


def test_prompt_is_charged_as_counted_up_to_its_bound(charged, bound):
    assert charged(Usage(bound, 5)).tokens_in == bound


@pytest.mark.parametrize("beyond", [1, 1_000, 270_000])
def test_prompt_is_charged_its_bound_at_most(charged, bound, beyond):
    turn = charged(Usage(bound + beyond, 5, cached=bound + beyond))

    assert 0 < turn.tokens_in <= bound
    assert turn.tokens_cached <= turn.tokens_in
    assert 0 < turn.charged_micro < turn.reserved_micro


def test_whole_reservation_is_the_most_that_is_charged(charged, bound):
    turn = charged(Usage(bound, INFO.context_tokens))

    assert turn.charged_micro == turn.reserved_micro


@pytest.mark.parametrize(
    ("failure", "is_charged", "state"),
    [(None, True, "complete"), (ModelUnavailable(ModelFailure.BROKEN), False, "failed")],
)
def test_empty_reply_is_charged_as_its_prompt(maya, model, failure, is_charged, state):
    model.pieces, model.failure = (), failure

    turn, _ = ask(maya.chat)

    settled = maya.database.tables.turns[turn.id]
    assert turn.failure.failure is (failure.failure if failure else ModelFailure.EMPTY)
    assert settled.state.value == state
    assert (settled.tokens_in > 0, settled.tokens_out) == (is_charged, 0)


def test_failed_reply_is_charged_as_counted(charged, model):
    model.failure = ModelUnavailable(ModelFailure.FILTERED)

    turn = charged(Usage(20, 5))

    assert (turn.tokens_in, turn.tokens_out) == (20, 5)


@pytest.mark.parametrize(
    ("model_failure", "store_failure"),
    [(ModelUnavailable(ModelFailure.BUSY), None), (None, Tampered()), (None, Busy())],
)
def test_failures_of_model_and_store_are_logged_apart(
    maya, model, monkeypatch, model_failure, store_failure
):
    calls, finished = RecentCalls(), []
    monkeypatch.setattr(
        "services.events._listeners",
        [calls.record, lambda event, fields: finished.append((event, fields))],
    )
    model.failure = model_failure
    if store_failure:
        maya.database.rows.failures["finish_turn"] = store_failure

    done(maya.chat.begin(None, "When?"))

    [fields] = [fields for event, fields in finished if event == "turn.finished"]
    assert fields["failure"] == (model_failure and "busy")
    assert fields["store_failure"] == (store_failure and type(store_failure).__name__)
    assert calls.summary().failed == (model_failure is not None)


@pytest.mark.parametrize(("seconds", "is_kept"), [(119, True), (121, False)])
def test_unanswered_call_is_kept_for_two_minutes(seconds, is_kept):
    calls, turn = UnansweredCalls(), first_turn(CANARY)
    lost = Call(turn=turn, offer=None, plan=None, made_at=time.monotonic() - seconds)
    with pytest.raises(StoreUnavailable), calls.kept_if_lost(lost):
        raise StoreUnavailable

    assert calls.is_prompt(turn.prompt_id) is is_kept
    assert calls.find(lost) is (lost if is_kept else None)
    assert (CANARY in held_by(calls)) is is_kept


def test_cached_tokens_cost_no_more_than_others():
    dear = replace(INFO, cached_input_micro=9 * INFO.input_micro)

    assert dear.cost_micro(Usage(100, 0, cached=60)) == INFO.cost_micro(Usage(100, 0))


def test_reply_within_its_limit_is_never_cut(maya, model):
    """Georgian tokens have more bytes than those of any other measured language."""
    words = "ყველა ადამიანი იბადება თავისუფალი და თანასწორი თავისი ღირსებითა და უფლებებით "
    tokens = INFO.reply_tokens
    longest = (words * 99).encode()[: int(10.4 * tokens)].decode(errors="ignore")
    model.pieces = (*longest, Usage(60, tokens))

    turn, thread = ask(maya.chat)

    assert thread.tip.outcome is Outcome.COMPLETE
    assert turn.said() == longest
