"""What the planner promises, for every policy, history and budget."""

from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.domain import (
    Full,
    MemoryPolicy,
    Message,
    MessageId,
    Outcome,
    Retrieval,
    Role,
    Summary,
    Window,
)
from services.errors import PromptTooLong
from services.memory import (
    ContextBudget,
    ContextMessage,
    ContextPlan,
    History,
    RegexCounter,
    plan_context,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
COUNTER = RegexCounter()
PLENTY = ContextBudget(context_tokens=100_000, reply_tokens=1000)


class OneTokenAWord:
    """Figures that a reader of a test can add up."""

    def count(self, text: str) -> int:
        return len(text.split())

    def bound(self, text: str) -> int:
        return len(text)


WORDS = OneTokenAWord()


def said(seq: int, body: str | None = None, **changes: object) -> Message:
    """Message number *seq*; the odd ones are prompts."""
    role = Role.USER if seq % 2 else Role.ASSISTANT
    message = Message(
        id=MessageId(UUID(int=seq)),
        seq=seq,
        parent_id=MessageId(UUID(int=seq - 1)) if seq > 1 else None,
        role=role,
        body=f"{role} {seq}" if body is None else body,
        created_at=NOON,
    )
    return replace(message, **changes)


def talk(messages: int) -> tuple[Message, ...]:
    return tuple(said(seq) for seq in range(1, messages + 1))


def plan(
    policy: MemoryPolicy,
    past: tuple[Message, ...],
    prompt: str | None = "And now?",
    budget: ContextBudget = PLENTY,
    **changes: int,
) -> ContextPlan:
    return plan_context(policy, History("Be kind.", past, prompt, **changes), budget, WORDS)


def shown(plan: ContextPlan) -> list[int]:
    return [each.int for each in plan.shown]


def omitted(plan: ContextPlan) -> list[int]:
    return [each.int for each in plan.omitted]


# -- for all inputs ---------------------------------------------------------------------------

policies = st.one_of(
    st.just(Full()),
    st.builds(Window, st.integers(0, 30)),
    st.just(Summary()),
    st.just(Retrieval()),
)
bodies = st.one_of(st.text(max_size=30), st.sampled_from(["", " ", "a word or two " * 20]))


@st.composite
def pasts(draw: st.DrawFn) -> tuple[Message, ...]:
    """A branch as the store may hand it over: gaps, unanswered prompts, unverified messages."""
    exchanges = draw(st.lists(st.sampled_from(["ua", "ua", "ua", "u", "a"]), max_size=12))
    past: list[Message] = []
    seq = 0
    for who in "".join(exchanges):
        seq += draw(st.integers(1, 3))
        past.append(
            said(
                seq,
                draw(bodies),
                role=Role.USER if who == "u" else Role.ASSISTANT,
                outcome=draw(st.sampled_from(Outcome)),
                is_verified=draw(st.sampled_from([True] * 9 + [False])),
            )
        )
    return tuple(past)


@st.composite
def histories(draw: st.DrawFn) -> History:
    past = draw(pasts())
    last = past[-1].seq if past else 0
    return History(
        instructions=draw(st.sampled_from(["", "Be kind."])),
        past=past,
        prompt=draw(st.none() | st.text(min_size=1, max_size=30)),
        start_seq=draw(st.just(0) | st.integers(0, last)),
        reset_seq=draw(st.just(0) | st.integers(0, last)),
    )


budgets = st.builds(ContextBudget, st.integers(0, 900) | st.just(9000), st.integers(0, 100))


def planned(policy: MemoryPolicy, history: History, budget: ContextBudget) -> ContextPlan | None:
    try:
        return plan_context(policy, history, budget, COUNTER)
    except PromptTooLong:
        return None


@given(policies, histories(), budgets)
def test_every_plan_keeps_the_promises(
    policy: MemoryPolicy, history: History, budget: ContextBudget
):
    plan = planned(policy, history, budget)
    if plan is None:
        return

    # it fits
    counted = sum(COUNTER.count(message.body) for message in plan.messages)
    assert counted <= plan.prompt_tokens <= plan.bound_tokens
    assert plan.prompt_tokens + plan.reply_tokens <= budget.context_tokens
    assert plan.reply_tokens == budget.reply_tokens
    # the instructions and the prompt are there
    expected_first = [ContextMessage(Role.SYSTEM, history.instructions)] * bool(
        history.instructions
    )
    expected_last = [] if history.prompt is None else [ContextMessage(Role.USER, history.prompt)]
    middle = list(plan.messages)[len(expected_first) : len(plan.messages) - len(expected_last)]
    assert list(plan.messages) == expected_first + middle + expected_last
    # the past is planned verbatim, in order, in whole pairs
    by_id = {message.id: message for message in history.past}
    seen = [by_id[each] for each in plan.shown]
    assert [(m.role, m.body) for m in middle] == [(m.role, m.body) for m in seen]
    assert [m.seq for m in seen] == sorted(m.seq for m in seen)
    assert [m.role for m in seen] == [Role.USER, Role.ASSISTANT] * (len(seen) // 2)
    neighbours = set(pairwise(m.id for m in history.past))
    assert neighbours.issuperset(zip(plan.shown[::2], plan.shown[1::2], strict=True))
    # nothing unverified, empty, or from before the view
    assert all(m.is_verified and m.body.strip() for m in seen)
    assert all(m.seq > plan.start_seq >= history.reset_seq for m in seen)
    # what is not seen is named
    within = {m.id for m in history.past if m.seq > history.reset_seq}
    assert set(plan.omitted) == within - set(plan.shown)


@given(policies, histories(), budgets)
def test_the_same_rows_give_the_same_bytes(
    policy: MemoryPolicy, history: History, budget: ContextBudget
):
    first = planned(policy, history, budget)
    if first is None:
        return

    assert planned(policy, history, budget) == first
    assert planned(policy, replace(history, start_seq=first.start_seq), budget) == first


@given(st.sampled_from([Summary(), Retrieval(), Window(1000)]), st.data())
def test_a_turn_without_a_trim_only_appends(policy: MemoryPolicy, data: st.DataObject):
    budget = ContextBudget(600, 100)
    past: tuple[Message, ...] = ()
    before, start_seq = None, 0
    for turn in range(data.draw(st.integers(1, 12))):
        prompt = data.draw(st.text("word ", min_size=1, max_size=120).filter(str.strip))
        history = History("Be kind.", past, prompt, start_seq)
        now = plan_context(policy, history, budget, COUNTER)
        if before and now.start_seq == start_seq:
            assert now.messages[: len(before.messages)] == before.messages
        before, start_seq = now, now.start_seq
        past += (said(2 * turn + 1, prompt), said(2 * turn + 2))


@given(histories(), budgets)
def test_full_shows_everything_or_refuses(history: History, budget: ContextBudget):
    plan = planned(Full(), history, budget)
    roomy = planned(Full(), history, ContextBudget(10**6, 0))

    assert roomy is not None
    if plan is None:
        assert roomy.prompt_tokens > budget.context_tokens - budget.reply_tokens
    else:
        assert plan.messages == roomy.messages
        assert plan.start_seq == history.reset_seq


# -- the window -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("past", "limit", "first"),
    [(2, 20, 1), (20, 20, 1), (22, 20, 3), (60, 20, 41), (22, 19, 5), (22, 1, None), (22, 0, None)],
)
def test_a_window_shows_the_last_messages_in_whole_pairs(past: int, limit: int, first: int | None):
    seen = plan(Window(limit), talk(past))

    assert shown(seen) == (list(range(first, past + 1)) if first else [])
    assert omitted(seen) == list(range(1, first or past + 1))
    assert seen.start_seq == (first or past + 1) - 1
    assert seen.messages[0].body == "Be kind."


def test_a_view_begins_where_it_was_stored():
    assert shown(plan(Window(20), talk(8), start_seq=4)) == [5, 6, 7, 8]
    assert shown(plan(Window(20), talk(8), start_seq=5)) == [7, 8]  # never half a pair


def test_nothing_from_before_the_reset_is_seen_or_called_omitted():
    seen = plan(Window(20), talk(8), start_seq=2, reset_seq=6)

    assert shown(seen) == [7, 8]
    assert omitted(seen) == []
    assert seen.start_seq == 6


def test_the_view_of_a_conversation_at_rest_is_that_of_its_next_turn():
    at_rest, next_turn = (plan(Window(20), talk(24), prompt) for prompt in (None, "And now?"))

    assert at_rest.messages == next_turn.messages[:-1]
    assert at_rest.start_seq == next_turn.start_seq


# One pair of these costs 2 x (6 + 2) tokens, the rest of a plan 4 + 2 x (6 + 2) = 20.
PAIR, REST = 16, 20


@pytest.mark.parametrize("policy", [Window(1000), Summary(), Retrieval()])
def test_an_overflow_trims_to_seventy_percent_and_that_lasts(policy: MemoryPolicy):
    budget = ContextBudget(context_tokens=REST + 10 * PAIR + 50, reply_tokens=50)  # ten pairs fit

    full = plan(policy, talk(20), budget=budget)
    trimmed = plan(policy, talk(22), budget=budget, start_seq=full.start_seq)
    later = plan(policy, talk(28), budget=budget, start_seq=trimmed.start_seq)

    assert (len(full.shown), full.start_seq) == (20, 0)
    assert full.prompt_tokens == 180
    assert len(trimmed.shown) == 12  # six pairs: 116 of 126 tokens
    assert trimmed.start_seq == 10
    assert omitted(trimmed) == list(range(1, 11))
    assert later.start_seq == 10
    assert later.messages[: len(trimmed.messages) - 1] == trimmed.messages[:-1]


def test_a_long_last_exchange_stays_while_it_fits_at_all():
    past = (*talk(4), said(5, "word " * 60), said(6, "word " * 60))
    budget = ContextBudget(context_tokens=REST + 150, reply_tokens=0)

    assert shown(plan(Summary(), past, budget=budget)) == [5, 6]
    assert shown(plan(Summary(), past, "word " * 30, budget=budget)) == []


# -- what is never planned --------------------------------------------------------------------


@pytest.mark.parametrize(
    "broken",
    [
        said(3, "", is_verified=False),
        said(3, "Somebody else's words", is_verified=False),
        said(4, "", is_verified=False),
        said(4, "", outcome=Outcome.FAILED),
        said(4, "", outcome=Outcome.STOPPED),
        said(4, " \n", outcome=Outcome.INTERRUPTED),
    ],
)
def test_a_pair_with_a_bad_half_is_not_planned(broken: Message):
    past = tuple(broken if m.seq == broken.seq else m for m in talk(6))

    seen = plan(Full(), past)

    assert shown(seen) == [1, 2, 5, 6]
    assert omitted(seen) == [3, 4]


@pytest.mark.parametrize("outcome", [Outcome.STOPPED, Outcome.FAILED, Outcome.INTERRUPTED])
def test_what_had_come_of_a_reply_is_planned(outcome: Outcome):
    past = (said(1), said(2, "Once upon", outcome=outcome))

    assert shown(plan(Full(), past)) == [1, 2]


def test_a_prompt_that_was_never_answered_is_not_planned():
    past = (*talk(2), said(3), said(5), said(6), said(7))

    seen = plan(Full(), past)

    assert [m.role for m in seen.messages[1:]] == [
        Role.USER,
        Role.ASSISTANT,
        Role.USER,
        Role.ASSISTANT,
        Role.USER,
    ]
    assert shown(seen) == [1, 2, 5, 6]
    assert omitted(seen) == [3, 7]


def test_without_instructions_there_is_no_system_message():
    seen = plan_context(Full(), History("", talk(2), "And now?"), PLENTY, WORDS)

    assert [m.role for m in seen.messages] == [Role.USER, Role.ASSISTANT, Role.USER]


# -- what does not fit ------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [Full(), Window(20), Summary(), Retrieval()])
def test_a_prompt_that_cannot_fit_is_refused_with_figures(policy: MemoryPolicy):
    plan(policy, (), "word " * 80, ContextBudget(198, 100))

    with pytest.raises(PromptTooLong) as caught:
        plan(policy, (), "word " * 81, ContextBudget(198, 100))

    assert (caught.value.tokens, caught.value.limit) == (99, 98)


def test_full_refuses_before_it_would_overflow():
    budget = ContextBudget(context_tokens=REST + 3 * PAIR + 50, reply_tokens=50)
    assert len(plan(Full(), talk(6), budget=budget).shown) == 6

    with pytest.raises(PromptTooLong) as caught:
        plan(Full(), talk(8), budget=budget)

    assert (caught.value.tokens, caught.value.limit) == (REST + 4 * PAIR, REST + 3 * PAIR)


def test_text_stays_out_of_reprs():
    history = History("Be kind to kumquats.", (said(1, "kumquat"), said(2)), "kumquat?")

    assert "kumquat" not in repr(history) + repr(plan_context(Full(), history, PLENTY, WORDS))
