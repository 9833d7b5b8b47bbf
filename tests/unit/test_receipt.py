"""Receipts: their contents, and their JSON."""

import json
from collections import Counter
from dataclasses import replace
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.domain import ConversationId, Retrieval, Summary
from services.domain.context import ContextBudget, History, PartKind, RecalledMessage
from services.memory.forecast import (
    LEAST_RATIO,
    MOST_RATIO,
    Calibration,
    KindRatio,
    min_likely_tokens,
)
from services.memory.planner import plan_context
from services.memory.receipt import Receipt
from services.memory.tokens import RegexCounter
from tests.unit.test_memory import NOON, fact, said, summary_of, talk
from tests.unit.test_memory_forecast import asked

RECEIPT = Receipt(
    policy="retrieval",
    model="m",
    instructions="Be kind.",
    tokens=Counter({PartKind.INSTRUCTIONS: 3, PartKind.FRAME: 7}),
    reply_tokens=5,
)


calibrations = st.builds(
    Calibration,
    st.dictionaries(
        st.text(min_size=1, max_size=12),
        st.builds(KindRatio, st.floats(LEAST_RATIO, MOST_RATIO), st.floats(0, 1e6)),
        max_size=30,
    ),
    st.booleans(),
)
receipts = st.builds(replace, st.from_type(Receipt), calibration=calibrations)


@pytest.mark.slow
@given(receipts)
def test_receipt_survives_json_round_trip(receipt):
    assert Receipt.from_json(receipt.to_json()) == receipt


def test_text_of_a_read_receipt_is_in_no_cache_of_the_process():
    text = replace(RECEIPT, instructions="Be brief.").to_json()
    one, two = Receipt.from_json(text), Receipt.from_json(text)

    assert one.instructions == two.instructions == "Be brief."
    assert one.instructions is not two.instructions


@given(st.text())
def test_other_text_is_no_receipt(text):
    assert Receipt.from_json(text) is None


def test_receipt_records_all_parts_of_the_plan():
    summary = summary_of(1, 2, "They sow.")
    dog = fact("Has a dog.", NOON, 0)
    history = History("Be kind.", talk(6), "And now?", summary=summary, facts=(dog,))
    plan = plan_context(Summary(), history, ContextBudget(4000, 100), RegexCounter())

    receipt = Receipt.from_plan(Summary(), "m", history, plan, Calibration())

    assert (receipt.policy, receipt.summary, receipt.summarised_count) == ("summary", summary, 2)
    assert [seq for seq, _ in receipt.verbatim] == [3, 4, 5, 6]
    assert receipt.facts == ((dog.id, "Has a dog."),)
    assert receipt.tokens == plan.tokens_by_kind()
    assert receipt.prompt_tokens == plan.prompt_tokens
    assert receipt.tokens[PartKind.VERBATIM] == sum(tokens for _, tokens in receipt.verbatim)


def test_receipt_records_extract_and_matched_words():
    found = RecalledMessage(said(1, "We met in Bern. " * 200), 1.0, ("bern",))
    history = History("", (), "Where?", candidates=(found,))
    plan = plan_context(Retrieval(), history, ContextBudget(9000, 100), RegexCounter())

    [note] = Receipt.from_plan(Retrieval(), "m", history, plan, Calibration()).recalls

    assert note.extract
    assert (note.extract, note.matched) == (plan.recalls[0].extract, ("bern",))


def test_receipt_names_the_conversation_of_what_was_recalled_for_an_earlier_prompt():
    elsewhere, past = ConversationId(uuid4()), talk(2)
    found = RecalledMessage(said(9, "We met in Bern."), conversation_id=elsewhere)
    history = History("", past, "And now?", earlier_recalls={past[0].id: (found,)})
    plan = plan_context(Retrieval(), history, ContextBudget(9000, 100), RegexCounter())

    [note] = Receipt.from_plan(Retrieval(), "m", history, plan, Calibration()).recalls

    assert (note.recalled_for, note.conversation_id) == (past[0].id, elsewhere)


@given(calibrations)
def test_receipt_keeps_the_calibration(rates):
    history = History("Be kind.", (), "And now?")
    plan = plan_context(Summary(), history, ContextBudget(4000, 100), RegexCounter())

    receipt = Receipt.from_plan(Summary(), "m", history, plan, rates)
    known = Receipt.from_json(receipt.to_json()).calibration

    assert known.by_kind.keys() == rates.by_kind.keys()
    assert known.has_thoughts is rates.has_thoughts
    for kind, rate in rates.by_kind.items():
        assert known.by_kind[kind].ratio == pytest.approx(rate.ratio, abs=1e-4)
        assert known.by_kind[kind].samples == pytest.approx(rate.samples, abs=0.01)
    again = Receipt.from_plan(Summary(), "m", history, plan, known)
    assert again == receipt  # storing a receipt repeatedly loses nothing
    size = len(receipt.to_json()) - len(replace(receipt, calibration=Calibration()).to_json())
    assert size <= 60 + sum(len(json.dumps(kind)) + 24 for kind in rates.by_kind)


def test_receipt_without_calibration_is_uncalibrated():
    text = RECEIPT.to_json()

    assert "calibration" not in text
    assert Receipt.from_json(text).calibration == Calibration()


@pytest.mark.parametrize(
    ("counted", "is_cut"),
    [
        (4096, True),  # 4,096 of 9,000 estimated tokens
        (4500, False),  # the endpoint may count half of the app's estimate
        (9000, False),
        (700, False),  # the last reply and the prompt, if all other tokens were cached
        (100, True),  # fewer than the last reply and the prompt have
    ],
)
def test_far_lower_count_means_a_truncated_prompt(counted, is_cut):
    tokens = Counter({PartKind.VERBATIM: 8800, PartKind.PROMPT: 200})
    kept = ((1, 8000), (2, 800))
    receipt = replace(RECEIPT, tokens=tokens, verbatim=kept, min_likely_tokens=4500)

    assert receipt.is_truncated(counted) is is_cut


def test_first_prompt_has_no_cached_tokens():
    long = replace(RECEIPT, tokens=Counter({PartKind.PROMPT: 9000}), min_likely_tokens=4500)
    short = replace(RECEIPT, tokens=Counter({PartKind.PROMPT: 900}), min_likely_tokens=450)

    assert long.is_truncated(4096)
    assert not short.is_truncated(10)
    # a receipt from before this value was stored
    assert not replace(long, min_likely_tokens=0).is_truncated(4096)


@pytest.mark.parametrize(
    ("text", "share"), [("the bees of that garden " * 10, 0.5), ("сад и пчёлы " * 10, 0.1)]
)
def test_min_likely_tokens_follow_script_and_calibration(text, share):
    counter, prompt = RegexCounter(), [asked(text)]

    known = Calibration({kind: KindRatio(1.0, 9) for kind in counter.kinds(text)})
    for calibration, expected in ((Calibration(), share), (known, 0.5)):
        least = min_likely_tokens(prompt, calibration, counter)
        assert least == pytest.approx(counter.count(text) * expected, abs=3)
