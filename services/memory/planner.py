"""Which messages the model sees.

A policy chooses from the past and the planner packs it, so all policies share these promises:

* The order is instructions, facts, summary, verbatim history, what is recalled, prompt; the
  instructions and the prompt are always there, and what is kept stays in the order in which it was
  said.
* The past is planned in whole pairs. A prompt without a reply is not planned, because many chat
  templates refuse two user messages in a row; nor is a reply that is empty, nor anything of a pair
  of which one half could not be verified. All of it is counted as omitted.
* The plan fits: its count and the longest reply together stay within the context window. The prompt leaves
  some of it free, and the reply may have all that the prompt's upper bound leaves, up to the model's limit.
* Providers cache a prompt by its beginning, so the view of a conversation begins at a stored place
  and only grows, until the budget overflows; then it is trimmed to two thirds of it. The caller
  stores `ContextPlan.start_seq` and `prefix_seq` and hands them back: the same rows then give the same
  bytes on any process.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import assert_never

from services.domain import (
    Fact,
    Full,
    MemoryPolicy,
    MessageId,
    Retrieval,
    RunningSummary,
    Summary,
    Window,
)
from services.errors import ChatFull, PromptTooLong
from services.memory.context import ContextBudget, ContextPlan, History
from services.memory.epochs import continue_epoch, new_epoch
from services.memory.layout import (
    Layout,
    Pair,
    bound_tokens,
    fact_tokens,
    facts_tokens,
    how_many_fit,
    summary_tokens,
    whole_pairs,
)
from services.memory.tokens import TokenCounter

_TRIM_TO_PERCENT = 67  # the deepest at which the mean context stays above four fifths
_FACTS_PERCENT = 10  # of the prompt's tokens, at most
_UNDERCOUNT_PERCENT = 120  # of a count, that ordinary text does not exceed (tokens.py)


def plan_context(
    policy: MemoryPolicy, history: History, budget: ContextBudget, counter: TokenCounter
) -> ContextPlan:
    """Choose what the model sees within *budget*.

    Raise PromptTooLong if the instructions and the prompt overflow it, ChatFull if with Full the whole does.
    """
    room = budget.prompt_tokens
    start_seq = _start_seq(history)
    prefix_seq = history.prefix_seq
    fixed = _fixed(history, room, counter)
    match policy:
        case Full():
            start_seq = history.reset_seq
            pairs = whole_pairs(history.past, after=start_seq)
            chosen = replace(fixed, pairs=pairs)
        case Window(messages=limit):
            pairs = whole_pairs(history.past, after=start_seq)
            newest = pairs[max(0, len(pairs) - limit // 2) :]
            chosen = replace(fixed, pairs=_trimmed(newest, fixed, room, counter))
        case Summary():
            fixed, start_seq = _with_summary(history, fixed, room, counter)
            pairs = whole_pairs(history.past, after=start_seq)
            chosen = replace(fixed, pairs=_trimmed(pairs, fixed, room, counter))
        case Retrieval():
            pairs = whole_pairs(history.past, after=start_seq)
            chosen = continue_epoch(history, fixed, pairs, room, counter)
            if chosen is None:
                chosen = new_epoch(history, fixed, pairs, room, counter)
                prefix_seq = history.past[-1].seq if history.past else 0
        case _:
            assert_never(policy)

    dropped = len(pairs) - len(chosen.pairs)
    if dropped:
        start_seq = pairs[dropped - 1].reply.seq
    chosen = _without_facts_in_view(chosen)
    parts = chosen.parts(counter)
    tokens = sum(part.tokens for part in parts)
    if tokens > room:
        is_full = isinstance(policy, Full) and fixed.tokens(counter) <= room
        raise (ChatFull if is_full else PromptTooLong)(tokens, room)
    messages = chosen.messages()
    bound = bound_tokens(messages, counter)
    shown = _halves(chosen.pairs)
    summarised = _summarised(history, chosen.summary)
    earlier = tuple(each.message.id for block in chosen.earlier_recalls.values() for each in block)
    seen = {*shown, *summarised, *earlier, *(each.message.id for each in chosen.recalled)}
    return ContextPlan(
        messages=messages,
        parts=parts,
        prompt_tokens=tokens,
        bound_tokens=bound,
        reply_tokens=budget.reply_after(min(bound, -(-tokens * _UNDERCOUNT_PERCENT // 100))),
        min_reply_tokens=budget.min_reply_tokens,
        verbatim_ids=shown,
        summarised_ids=summarised,
        recalls=tuple(chosen.recalled),
        earlier_recall_ids=earlier,
        fact_ids=tuple(fact.id for fact in chosen.facts),
        omitted_ids=tuple(
            message.id
            for message in history.past
            if message.seq > history.reset_seq and message.id not in seen
        ),
        start_seq=start_seq,
        prefix_seq=prefix_seq,
    )


def stored_view(history: History, room: int, counter: TokenCounter) -> Layout:
    """What the last turn of a summarised conversation saw, and its reply."""
    fixed, start_seq = _with_summary(history, _fixed(history, room, counter), room, counter)
    view = replace(fixed, pairs=whole_pairs(history.past, after=start_seq))
    return _without_facts_in_view(view)


def usable_summary(history: History) -> RunningSummary | None:
    """The summary, if it says something, and of this branch, and of nothing from before the reset."""
    summary = history.summary
    is_usable = (
        summary is not None
        and bool(summary.text.strip())
        and history.reset_seq < summary.from_seq <= summary.up_to_seq
        # whatever follows a message follows all that came before it
        and any(message.seq == summary.up_to_seq for message in history.past)
    )
    return summary if is_usable else None


def _trimmed(
    pairs: Sequence[Pair], fixed: Layout, room: int, counter: TokenCounter
) -> Sequence[Pair]:
    """The newest *pairs* that fit: all, or else what fits in two thirds, so that a trim lasts."""
    taken = fixed.tokens(counter)
    fitting = how_many_fit(pairs, room - taken, counter)
    if fitting < len(pairs):
        lasting = how_many_fit(pairs, room * _TRIM_TO_PERCENT // 100 - taken, counter)
        # the last pair stays while it fits at all: the prompt may be about it
        fitting = max(lasting, min(fitting, 1))
    return pairs[len(pairs) - fitting :]


def _start_seq(history: History) -> int:
    return max(history.start_seq, history.reset_seq)


def _fixed(history: History, room: int, counter: TokenCounter) -> Layout:
    """What there is beside the past. Nobody's prompt is refused for the facts."""
    bare = Layout(history.instructions, prompt=history.prompt)
    whole = replace(bare, facts=_capped(history.facts, room, counter))
    return whole if whole.tokens(counter) <= room else bare


def _capped(facts: Sequence[Fact], room: int, counter: TokenCounter) -> tuple[Fact, ...]:
    """The newest of *facts* that fit in their share of *room*, the oldest first.

    A new fact changes the prompt from the facts on in any case: that the oldest may go for it breaks
    no more of the prefix than the facts themselves.
    """
    left = room * _FACTS_PERCENT // 100 - facts_tokens((), counter)
    kept: list[Fact] = []
    for fact in sorted(facts, key=lambda fact: (fact.since, fact.id), reverse=True):
        tokens = fact_tokens(fact, counter)
        if tokens <= left and fact.text.strip():
            left -= tokens
            kept.append(fact)
    return tuple(reversed(kept))


def _without_facts_in_view(chosen: Layout) -> Layout:
    """*chosen* without the facts whose source it shows: they would break the prefix and say nothing
    new. They enter when their source leaves, which breaks it anyway."""
    shown = set(_halves(chosen.pairs))
    waiting = [fact for fact in chosen.facts if fact.source_id in shown]
    facts = tuple(fact for fact in chosen.facts if fact not in waiting)
    return replace(chosen, facts=facts) if waiting else chosen


def _with_summary(
    history: History, fixed: Layout, room: int, counter: TokenCounter
) -> tuple[Layout, int]:
    """*fixed* with the summary, if there is room for it; and after which message the view begins."""
    start_seq = _start_seq(history)
    summary = usable_summary(history)
    if summary is None or summary_tokens(summary.text, counter) > room // 2:
        return fixed, start_seq
    summarised = replace(fixed, summary=summary)
    if summarised.tokens(counter) > room:
        return fixed, start_seq
    return summarised, max(start_seq, summary.up_to_seq)


def _summarised(history: History, summary: RunningSummary | None) -> tuple[MessageId, ...]:
    """What *summary* stands for."""
    if summary is None:
        return ()
    pairs = whole_pairs(history.past, after=summary.from_seq - 1)
    return _halves([pair for pair in pairs if pair.reply.seq <= summary.up_to_seq])


def _halves(pairs: Sequence[Pair]) -> tuple[MessageId, ...]:
    return tuple(half.id for pair in pairs for half in pair)
