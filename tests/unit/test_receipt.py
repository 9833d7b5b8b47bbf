"""Receipts: written and read again as they were, and nothing else is taken for one."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from services.domain import Fact, FactId, Message, MessageId, Role, RunningSummary, Summary
from services.memory import (
    ContextBudget,
    History,
    RecalledNote,
    Receipt,
    RegexCounter,
    plan_context,
)

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
CANARY = "kumquat-7781"
RECEIPT = Receipt(
    policy="retrieval",
    model="m",
    instructions="Be kind.",
    instructions_tokens=3,
    prompt_tokens=10,
    reply_tokens=5,
    start_seq=2,
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
    kept=st.lists(st.tuples(st.integers(1, 99), st.integers(0, 99)), max_size=3).map(tuple),
    recalled=st.lists(
        st.builds(
            RecalledNote,
            message_id=_ids,
            tokens=st.integers(0, 99),
            matched=st.lists(_texts, max_size=2).map(tuple),
            recalled_for=st.none() | _ids,
        ),
        max_size=3,
    ).map(tuple),
    omitted=st.integers(0, 9),
)


@given(receipts)
def test_what_was_written_is_read_again(receipt: Receipt):
    assert Receipt.read(receipt.written()) == receipt


@given(st.text())
def test_nothing_else_is_taken_for_one(text: str):
    assert Receipt.read(text) is None


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

    receipt = Receipt.of(Summary(), "m", history, plan)

    assert (receipt.policy, receipt.summary, receipt.summarised) == ("summary", summary, 2)
    assert [seq for seq, _ in receipt.kept] == [3, 4, 5, 6]
    assert receipt.facts == ((fact.id, "Has a dog."),)
    assert sum(receipt.tokens_by_kind().values()) == plan.prompt_tokens == receipt.prompt_tokens


def test_a_repr_shows_nothing_that_anybody_wrote():
    summary = RunningSummary(text=CANARY, from_seq=1, up_to_seq=2, made_at=NOON)
    note = RecalledNote(message_id=MessageId(UUID(int=1)), tokens=1, matched=(CANARY,))
    facts = ((FactId(UUID(int=1)), CANARY),)

    receipt = replace(RECEIPT, instructions=CANARY, facts=facts, summary=summary, recalled=(note,))

    assert CANARY not in repr(receipt)
    assert CANARY in receipt.written()
