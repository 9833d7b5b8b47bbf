"""Token calibration of a model: the rates that a plan uses, and the rates that are stored."""

from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chat.counting import Counting
from services.chat.planning import stored_rates
from services.domain import TurnId
from services.domain.context import ContextBudget
from services.memory.forecast import Calibration, KindRatio
from services.memory.tokens import RegexCounter
from tests.unit.test_memory import said
from tests.unit.test_receipt import RECEIPT

COUNTER = RegexCounter()
KUMQUAT = "kumquat-8841 is a tree"


def rates(ratio, seen=1.0):
    return Calibration({"english": KindRatio(ratio, seen)})


def turn_id(seq):
    return TurnId(UUID(int=(seq + 1) // 2))


def past(messages):
    return tuple(said(seq, turn_id=turn_id(seq)) for seq in range(1, messages + 1))


def kept(model, ratio):
    return replace(RECEIPT, model=model, calibration=rates(ratio)).to_json()


class Receipts:
    """Receipts by turn, and the number of messages in each call for receipts."""

    def __init__(self, by_turn):
        self._by_turn = by_turn
        self.asked = []

    def __call__(self, messages):
        if messages:
            self.asked.append(len(messages))
        return {m.turn_id: self._by_turn[m.turn_id] for m in messages if m.turn_id in self._by_turn}


@given(st.lists(st.sampled_from(["ours", "theirs", None]), max_size=12))
def test_plan_counts_by_the_last_receipt_of_its_model(models):
    texts = {turn_id(2 * n + 1): kept(m, n / 100) for n, m in enumerate(models) if m}
    receipts = Receipts(texts)

    found = stored_rates("ours", past(2 * len(models)), receipts)

    near = models[-10:]
    last = next((n for n in range(len(models) - 1, -1, -1) if models[n] == "ours"), None)
    is_near = last is not None and len(models) - last <= len(near)
    assert found == (rates(last / 100) if is_near else Calibration())
    assert len(receipts.asked) <= 2
    if models and models[-1] == "ours":
        assert receipts.asked == [1]


def test_receipt_without_rates_means_no_calibration():
    receipts = Receipts(
        {turn_id(1): kept("ours", 0.5), turn_id(3): replace(RECEIPT, model="ours").to_json()}
    )

    assert stored_rates("ours", past(4), receipts) == Calibration()
    assert receipts.asked == [1]


@pytest.mark.parametrize("text", ["", "rubbish", "{}"])
def test_invalid_receipt_is_skipped(text):
    receipts = Receipts({turn_id(1): kept("ours", 0.5), turn_id(3): text})

    assert stored_rates("ours", past(4), receipts) == rates(0.5)


def test_rates_with_more_samples_are_kept():
    counting = Counting()

    assert counting.rates("ours", Calibration()) == Calibration()
    assert counting.rates("ours", rates(0.5, 3)) == rates(0.5, 3)
    assert counting.rates("ours", rates(0.9, 2)) == rates(0.5, 3)
    assert counting.rates("theirs", Calibration()) == Calibration()


def test_calibrated_counter_is_kept_per_calibration():
    counting = Counting()

    assert counting.counter(COUNTER, Calibration()) is COUNTER
    scaled = counting.counter(COUNTER, rates(0.5, 9))
    assert scaled.count(KUMQUAT) < COUNTER.count(KUMQUAT)
    assert counting.counter(COUNTER, rates(0.5, 9)) is scaled
    assert counting.counter(COUNTER, rates(0.2, 9)).count(KUMQUAT) < scaled.count(KUMQUAT)


@given(st.integers(512, 50_000), st.integers(16, 50_000), st.integers(384, 50_000))
def test_budget_within_a_limit_has_that_room_for_prompts(context_tokens, reply_tokens, most):
    budget = ContextBudget(context_tokens, reply_tokens)
    within = budget.within(most)

    assert within.prompt_tokens == min(budget.prompt_tokens, most)
    assert within.context_tokens <= context_tokens
