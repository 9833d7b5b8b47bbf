"""Receipts: written and read again as they were, and nothing else is taken for one."""

import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.domain import (
    Fact,
    FactId,
    Message,
    MessageId,
    Retrieval,
    Role,
    RunningSummary,
    Summary,
)
from services.memory.context import (
    ContextBudget,
    ContextMessage,
    History,
    PartKind,
    RecalledMessage,
)
from services.memory.forecast import (
    LEAST_RATIO,
    MOST_RATIO,
    Calibration,
    KindRatio,
    min_likely_tokens,
)
from services.memory.planner import plan_context
from services.memory.receipt import Receipt, ReceiptEntry
from services.memory.tokens import RegexCounter

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
CANARY = "kumquat-7781"
RECEIPT = Receipt(
    policy="retrieval",
    model="m",
    instructions="Be kind.",
    tokens=Counter({PartKind.INSTRUCTIONS: 3, PartKind.FRAME: 7}),
    reply_tokens=5,
)
_ids = st.uuids().map(MessageId)
_texts = st.text(st.characters(codec="utf-8"), max_size=40)
receipts = st.builds(
    replace,
    st.just(RECEIPT),
    instructions=_texts,
    facts=st.lists(st.tuples(st.uuids().map(FactId), _texts), max_size=3).map(tuple),
    summary=st.none()
    | st.builds(
        RunningSummary,
        text=_texts,
        from_seq=st.integers(1, 9),
        up_to_seq=st.integers(10, 99),
        made_at=st.just(NOON),
        is_edited=st.booleans(),
    ),
    verbatim=st.lists(st.tuples(st.integers(1, 99), st.integers(0, 99)), max_size=3).map(tuple),
    recalls=st.lists(
        st.builds(
            ReceiptEntry,
            message_id=_ids,
            tokens=st.integers(0, 99),
            matched=st.lists(_texts, max_size=2).map(tuple),
            recalled_for=st.none() | _ids,
            extract=st.none() | st.tuples(st.integers(0, 99), st.integers(100, 199)),
        ),
        max_size=3,
    ).map(tuple),
    tokens=st.dictionaries(st.sampled_from(PartKind), st.integers(0, 99)).map(Counter),
    omitted_count=st.integers(0, 9),
    calibration=st.builds(
        Calibration,
        st.dictionaries(
            st.sampled_from(["english", "han"]),
            st.builds(KindRatio, st.floats(0.05, 1.5), st.floats(0, 99)),
        ),
        st.booleans(),
    ),
)


@given(receipts)
def test_what_was_written_is_read_again(receipt):
    assert Receipt.from_json(receipt.to_json()) == receipt


@given(st.text())
def test_nothing_else_is_taken_for_one(text):
    assert Receipt.from_json(text) is None


def test_a_receipt_has_all_that_was_sent():
    past = tuple(
        Message(
            id=MessageId(UUID(int=seq)),
            seq=seq,
            parent_id=None,
            role=Role.USER if seq % 2 else Role.ASSISTANT,
            body=f"message {seq}",
            created_at=NOON,
        )
        for seq in range(1, 7)
    )
    summary = RunningSummary(text="They sow.", from_seq=1, up_to_seq=2, made_at=NOON)
    fact = Fact(id=FactId(UUID(int=9)), text="Has a dog.", since=NOON)
    history = History(
        instructions="Be kind.", past=past, prompt="And now?", summary=summary, facts=(fact,)
    )
    plan = plan_context(Summary(), history, ContextBudget(4000, 100), RegexCounter())

    receipt = Receipt.from_plan(Summary(), "m", history, plan, Calibration())

    assert (receipt.policy, receipt.summary, receipt.summarised_count) == ("summary", summary, 2)
    assert [seq for seq, _ in receipt.verbatim] == [3, 4, 5, 6]
    assert receipt.facts == ((fact.id, "Has a dog."),)
    assert receipt.tokens == plan.tokens_by_kind()
    assert receipt.prompt_tokens == plan.prompt_tokens
    assert receipt.tokens[PartKind.VERBATIM] == sum(tokens for _, tokens in receipt.verbatim)


def test_a_receipt_says_which_extract_was_sent():
    long = Message(
        id=MessageId(UUID(int=1)),
        seq=1,
        parent_id=None,
        role=Role.USER,
        body="We met in Bern. " * 200,
        created_at=NOON,
    )
    history = History("", (), "Where?", candidates=(RecalledMessage(long, 1.0, ("bern",)),))
    plan = plan_context(Retrieval(), history, ContextBudget(9000, 100), RegexCounter())

    [note] = Receipt.from_plan(Retrieval(), "m", history, plan, Calibration()).recalls

    assert note.extract
    assert note.extract == plan.recalls[0].extract


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=12),
        st.builds(KindRatio, st.floats(LEAST_RATIO, MOST_RATIO), st.floats(0, 1e6)),
        max_size=30,
    ),
    st.booleans(),
)
def test_what_was_known_of_the_model_is_known_again(by_kind, has_thoughts):
    history = History("Be kind.", (), "And now?")
    plan = plan_context(Summary(), history, ContextBudget(4000, 100), RegexCounter())
    rates = Calibration(by_kind, has_thoughts)

    receipt = Receipt.from_plan(Summary(), "m", history, plan, rates)
    known = Receipt.from_json(receipt.to_json()).calibration

    assert (known.by_kind.keys(), known.has_thoughts) == (by_kind.keys(), has_thoughts)
    for kind, rate in by_kind.items():
        assert known.by_kind[kind].ratio == pytest.approx(rate.ratio, abs=1e-4)
        assert known.by_kind[kind].samples == pytest.approx(rate.samples, abs=0.01)
    again = Receipt.from_plan(Summary(), "m", history, plan, known)
    assert again == receipt  # nothing is lost by being stored again and again
    size = len(receipt.to_json()) - len(replace(receipt, calibration=Calibration()).to_json())
    assert size <= 60 + sum(len(json.dumps(kind)) + 24 for kind in by_kind)


def test_a_receipt_from_before_rates_were_kept_knows_nothing_of_the_model():
    text = RECEIPT.to_json()

    assert "calibration" not in text
    assert Receipt.from_json(text).calibration == Calibration()


@pytest.mark.parametrize(
    ("counted", "is_cut"),
    [
        (4096, True),  # of 9,000
        (4500, False),  # it may count half of what we do
        (9000, False),
        (700, False),  # the last reply and the prompt: the rest was in its cache
        (100, True),  # not even those
    ],
)
def test_a_count_far_below_ours_means_that_the_start_was_cut(counted, is_cut):
    tokens = Counter({PartKind.VERBATIM: 8800, PartKind.PROMPT: 200})
    kept = ((1, 8000), (2, 800))
    receipt = replace(RECEIPT, tokens=tokens, verbatim=kept, min_likely_tokens=4500)

    assert receipt.is_truncated(counted) is is_cut


def test_the_count_of_a_first_prompt_has_nothing_from_a_cache():
    long = replace(RECEIPT, tokens=Counter({PartKind.PROMPT: 9000}), min_likely_tokens=4500)
    short = replace(RECEIPT, tokens=Counter({PartKind.PROMPT: 900}), min_likely_tokens=450)

    assert long.is_truncated(4096)
    assert not short.is_truncated(10)
    assert not replace(long, min_likely_tokens=0).is_truncated(4096)  # written before it was kept


@pytest.mark.parametrize(
    ("text", "share"), [("the bees of that garden " * 10, 0.5), ("сад и пчёлы " * 10, 0.1)]
)
def test_scripts_that_some_vocabularies_know_well_count_for_little(text, share):
    counter, prompt = RegexCounter(), [ContextMessage(Role.USER, text)]

    assert min_likely_tokens(prompt, Calibration(), counter) == pytest.approx(
        counter.count(text) * share, abs=3
    )
    known = Calibration({kind: KindRatio(1.0, 9) for kind in counter.kinds(text)})
    assert min_likely_tokens(prompt, known, counter) == pytest.approx(
        counter.count(text) / 2, abs=3
    )


def test_a_repr_shows_nothing_that_anybody_wrote():
    summary = RunningSummary(text=CANARY, from_seq=1, up_to_seq=2, made_at=NOON)
    note = ReceiptEntry(message_id=MessageId(UUID(int=1)), tokens=1, matched=(CANARY,))
    facts = ((FactId(UUID(int=1)), CANARY),)

    receipt = replace(RECEIPT, instructions=CANARY, facts=facts, summary=summary, recalls=(note,))

    assert CANARY not in repr(receipt)
    assert CANARY in receipt.to_json()
