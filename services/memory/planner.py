"""Which messages the model sees.

A policy chooses from the past and the planner packs it, so all policies share these promises:

* The order is instructions, facts, summary, verbatim history, what is recalled, prompt; the
  instructions and the prompt are always there, and what is kept stays in the order in which it was
  said.
* The past is planned in whole pairs. A prompt without a reply is not planned, because many chat
  templates refuse two user messages in a row; nor is a reply that is empty, nor anything of a pair
  of which one half could not be verified. All of it is counted as omitted.
* The plan fits: its count and the reply's tokens together stay within the context window.
* Providers cache a prompt by its beginning, so the view of a conversation begins at a stored place
  and only grows, until the budget overflows; then it is trimmed to 67 % of it. The caller stores
  `ContextPlan.start_seq` and hands it back: the same rows then give the same bytes on any process.

Recall changes with each prompt, and would break that if it moved: so what was recalled for a prompt
stays at its head while the epoch lasts, and a later turn adds a little that is not in view yet. At an
overflow a new epoch begins, with a quarter of the budget for the latest messages and fresh recall.
Where no cache is at stake, for nothing was recalled before or the last turn is long ago, recall
fills all that is left. (docs/decisions/recall-that-lasts.md has the figures.)
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import assert_never

from services.domain import Full, MemoryPolicy, Message, MessageId, Retrieval, Summary, Window
from services.errors import PromptTooLong
from services.memory import blocks
from services.memory.context import (
    ContextBudget,
    ContextPlan,
    Fact,
    History,
    Recalled,
    RunningSummary,
)
from services.memory.layout import (
    Layout,
    Pair,
    bound_tokens,
    day_tokens,
    fact_tokens,
    facts_tokens,
    frame_tokens,
    said_tokens,
    says_something,
    whole_pairs,
)
from services.memory.tokens import TokenCounter

TRIM_TO_PERCENT = 67
_FACTS_PERCENT = 10  # of the prompt's tokens, at most
_LATEST_PERCENT = 25  # with recall: for the latest messages
_EPOCH_PERCENT = 20  # with recall: what an epoch begins with, where a cache is at stake
_TURN_PERCENT = 4  # and what each turn after it may add
_EPOCH_TRIM_PERCENT = 50  # the latest messages fill what recall leaves of it


def plan_context(
    policy: MemoryPolicy, history: History, budget: ContextBudget, counter: TokenCounter
) -> ContextPlan:
    """Choose what the model sees within *budget*.

    Raise PromptTooLong if the instructions and the prompt overflow it, or with Full the whole.
    """
    room = budget.prompt_tokens
    start_seq = max(history.start_seq, history.reset_seq)
    epoch_seq = history.epoch_seq
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
            chosen = _with_recall(history, fixed, pairs, room, counter)
            if chosen is None:
                chosen = _new_epoch(history, fixed, pairs, room, counter)
                epoch_seq = history.past[-1].seq if history.past else 0
        case _:
            assert_never(policy)

    dropped = len(pairs) - len(chosen.pairs)
    if dropped:
        start_seq = pairs[dropped - 1].reply.seq
    return _plan(history, _without_facts_in_view(chosen), budget, counter, start_seq, epoch_seq)


def _fixed(history: History, room: int, counter: TokenCounter) -> Layout:
    """What there is beside the past."""
    return Layout(
        instructions=history.instructions,
        facts=_capped(history.facts, room, counter),
        prompt=history.prompt,
    )


def _plan(
    history: History,
    chosen: Layout,
    budget: ContextBudget,
    counter: TokenCounter,
    start_seq: int,
    epoch_seq: int,
) -> ContextPlan:
    """*chosen* as a plan. Raise PromptTooLong."""
    parts = chosen.parts(counter)
    tokens = sum(part.tokens for part in parts)
    if tokens > budget.prompt_tokens:
        raise PromptTooLong(tokens, budget.prompt_tokens)
    messages = chosen.messages()
    shown = tuple(half.id for pair in chosen.pairs for half in (pair.prompt, pair.reply))
    summarised = _summarised(history, chosen.summary)
    earlier = tuple(each.id for block in chosen.recalled_before.values() for each in block)
    seen = {*shown, *summarised, *earlier, *(each.message.id for each in chosen.recalled)}
    return ContextPlan(
        messages=messages,
        parts=parts,
        prompt_tokens=tokens,
        bound_tokens=bound_tokens(messages, counter),
        reply_tokens=budget.reply_tokens,
        shown=shown,
        summarised=summarised,
        recalled=tuple(chosen.recalled),
        recalled_earlier=earlier,
        facts=tuple(fact.id for fact in chosen.facts),
        omitted=tuple(
            message.id
            for message in history.past
            if message.seq > history.reset_seq and message.id not in seen
        ),
        start_seq=start_seq,
        epoch_seq=epoch_seq,
    )


# -- the window -------------------------------------------------------------------------------


def _trimmed(
    pairs: Sequence[Pair], fixed: Layout, room: int, counter: TokenCounter
) -> Sequence[Pair]:
    """The newest *pairs* that fit: all, or else what fits in 67 %, so that a trim lasts."""
    taken = fixed.tokens(counter)
    fitting = how_many_fit(pairs, room - taken, counter)
    if fitting < len(pairs):
        lasting = how_many_fit(pairs, room * TRIM_TO_PERCENT // 100 - taken, counter)
        # the last pair stays while it fits at all: the prompt may be about it
        fitting = max(lasting, min(fitting, 1))
    return pairs[len(pairs) - fitting :]


def how_many_fit(pairs: Sequence[Pair], room: int, counter: TokenCounter) -> int:
    for newer, pair in enumerate(reversed(pairs)):
        room -= pair.tokens(counter)
        if room < 0:
            return newer
    return len(pairs)


# -- facts ------------------------------------------------------------------------------------


def _capped(facts: Sequence[Fact], room: int, counter: TokenCounter) -> tuple[Fact, ...]:
    """The newest of *facts* that fit in their share of *room*, the oldest first.

    One more fact changes the prompt after the facts in any case, so what it costs that the oldest
    goes is no more than the facts themselves.
    """
    left = room * _FACTS_PERCENT // 100
    left -= facts_tokens((), counter)
    kept: list[Fact] = []
    for fact in sorted(facts, key=lambda fact: (fact.since, fact.id), reverse=True):
        tokens = fact_tokens(fact, counter)
        if tokens <= left and fact.text.strip():
            left -= tokens
            kept.append(fact)
    return tuple(reversed(kept))


def _without_facts_in_view(chosen: Layout) -> Layout:
    """*chosen* without the facts whose source it shows: they would only break the prefix. They enter
    when their source leaves, which breaks it anyway."""
    shown = {half.id for pair in chosen.pairs for half in (pair.prompt, pair.reply)}
    return replace(
        chosen, facts=tuple(fact for fact in chosen.facts if fact.source_id not in shown)
    )


# -- the summary ------------------------------------------------------------------------------


def stored_view(history: History, room: int, counter: TokenCounter) -> Layout:
    """What the last turn of a summarised conversation saw, and its reply."""
    fixed, start_seq = _with_summary(history, _fixed(history, room, counter), room, counter)
    view = replace(fixed, pairs=whole_pairs(history.past, after=start_seq))
    return _without_facts_in_view(view)


def _with_summary(
    history: History, fixed: Layout, room: int, counter: TokenCounter
) -> tuple[Layout, int]:
    """*fixed* with the summary, if it is one of this branch since the reset and fits; and after
    which message the view begins."""
    start_seq = max(history.start_seq, history.reset_seq)
    summary = history.summary
    if (
        summary is None
        or not summary.text.strip()
        or summary.from_seq <= history.reset_seq
        or all(message.seq != summary.up_to_seq for message in history.past)
    ):
        return fixed, start_seq
    summarised = replace(fixed, summary=summary)
    if summarised.tokens(counter) > room:
        return fixed, start_seq
    return summarised, max(start_seq, summary.up_to_seq)


def _summarised(history: History, summary: RunningSummary | None) -> tuple[MessageId, ...]:
    if summary is None:
        return ()
    return tuple(
        half.id
        for pair in whole_pairs(history.past, after=history.reset_seq)
        for half in (pair.prompt, pair.reply)
        if summary.from_seq <= half.seq <= summary.up_to_seq
    )


# -- recall -----------------------------------------------------------------------------------


def _with_recall(
    history: History, fixed: Layout, pairs: Sequence[Pair], room: int, counter: TokenCounter
) -> Layout | None:
    """The view as it was, and a little more recalled; None where it has to begin anew."""
    in_view = {half.id for pair in pairs for half in (pair.prompt, pair.reply)}
    before: dict[MessageId, tuple[Message, ...]] = {}
    for pair in pairs:
        if pair.prompt.seq > history.epoch_seq:
            block = _in_order(
                each
                for each in history.recalled_before.get(pair.prompt.id, ())
                if each.id not in in_view and _may_be_recalled(each, history)
            )
            if block:
                before[pair.prompt.id] = block
                in_view.update(each.id for each in block)
    view = replace(fixed, pairs=pairs, recalled_before=before)
    left = room - view.tokens(counter)
    hidden = _hidden(history, in_view)
    if left < 0 or (hidden and _is_first(history)):
        return None
    return replace(view, recalled=_packed(hidden, min(left, room * _TURN_PERCENT // 100), counter))


def _new_epoch(
    history: History, fixed: Layout, pairs: Sequence[Pair], room: int, counter: TokenCounter
) -> Layout:
    """The latest messages within their share, then what is recalled, then latest messages again."""
    taken = fixed.tokens(counter)
    kept = how_many_fit(pairs, min(room - taken, room * _LATEST_PERCENT // 100), counter)
    if not kept:
        # the last pair stays while it fits at all: the prompt may be about it
        kept = min(1, how_many_fit(pairs, room - taken, counter))
    latest = pairs[len(pairs) - kept :]
    taken += sum(pair.tokens(counter) for pair in latest)
    in_view = {half.id for pair in latest for half in (pair.prompt, pair.reply)}
    share = room if _is_first(history) else room * _EPOCH_PERCENT // 100
    recalled = _packed(_hidden(history, in_view), min(room - taken, share), counter)
    chosen = replace(fixed, pairs=latest, recalled=recalled)

    lasting = _EPOCH_TRIM_PERCENT if recalled else TRIM_TO_PERCENT
    left = room * lasting // 100 - chosen.tokens(counter)
    for pair in reversed(pairs[: len(pairs) - kept]):
        halves = {pair.prompt.id, pair.reply.id}
        again = [each for each in chosen.recalled if each.message.id in halves]
        left -= pair.tokens(counter) - sum(said_tokens(each.message, counter) for each in again)
        if left < 0:
            break
        chosen = replace(
            chosen,
            pairs=[pair, *chosen.pairs],
            recalled=[each for each in chosen.recalled if each not in again],
        )
    return chosen


def _is_first(history: History) -> bool:
    """Whether no cache is lost by a new epoch."""
    return history.is_cold or not any(each.id in history.recalled_before for each in history.past)


def _hidden(history: History, in_view: set[MessageId]) -> list[Recalled]:
    """What is ranked and not in view, the best first, each once."""
    hidden: dict[MessageId, Recalled] = {}
    for each in history.ranked:
        if each.message.id not in in_view and _may_be_recalled(each.message, history):
            hidden.setdefault(each.message.id, each)
    return list(hidden.values())


def _may_be_recalled(message: Message, history: History) -> bool:
    """Not from before the reset. A message that is not of the past is of another conversation."""
    is_gone = message.seq <= history.reset_seq and any(m.id == message.id for m in history.past)
    return says_something(message) and not is_gone


def _packed(hidden: Iterable[Recalled], room: int, counter: TokenCounter) -> tuple[Recalled, ...]:
    """What fits in *room*, the best first; then in the order in which it was said."""
    room -= frame_tokens((), counter)
    days: set[str] = set()
    packed: list[Recalled] = []
    for each in hidden:
        tokens = said_tokens(each.message, counter)
        day = blocks.day(each.message.created_at)
        if day not in days:
            tokens += day_tokens(day, counter)
        if tokens <= room:
            room -= tokens
            days.add(day)
            packed.append(each)
    return tuple(sorted(packed, key=lambda each: _said_at(each.message)))


def _in_order(messages: Iterable[Message]) -> tuple[Message, ...]:
    once = {message.id: message for message in messages}
    return tuple(sorted(once.values(), key=_said_at))


def _said_at(message: Message) -> tuple[datetime, int, MessageId]:
    return message.created_at, message.seq, message.id
