"""Planning of the messages to send to the model.

A policy chooses messages of the past and the planner packs them, so all policies share these guarantees:

* The order is instructions, facts, summary, verbatim messages, recalled messages, prompt. The instructions and the
  prompt are always there; verbatim messages stay in their order.
* The past is sent in complete pairs of a prompt and its reply. A prompt without a reply is left out, because many chat
  templates refuse two user messages in a row. Empty replies, and pairs with a message that could not be verified, are
  left out, too. All of these count as omitted.
* The plan fits: the prompt and the longest reply together stay within the context window. The prompt leaves part of the
  window free. The reply may be as long as the window allows after a prompt of the largest likely size, up to the
  model's limit.
* Providers cache a prompt by its prefix. So the verbatim messages begin at a stored position, and their number only grows
  until the budget overflows; then they are trimmed to two thirds of the budget. The policy Window also trims them to
  its number of messages, once there are one and a half times as many. The start moves back to earlier messages if the
  messages use less than two fifths of the budget (one fifth under Retrieval). This happens when the context window has
  become larger, or when a summary or the newest messages were deleted. The caller stores `ContextPlan.start_seq` and
  `prefix_seq` and passes them to the next plan, so the same rows give the same bytes in any process.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

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
from services.domain.context import ContextBudget, ContextPlan, History
from services.errors import ChatFull, NewerVersion, PromptTooLong
from services.memory import blocks
from services.memory.layout import (
    Layout,
    Pair,
    complete_pairs,
    count_fitting,
    facts_tokens,
    message_ids,
    summary_tokens,
)
from services.memory.prompt_cache import extend_prefix, rebuild_prefix
from services.memory.tokens import TokenCounter

# per cent of the prompt's room that a trim leaves in use; if trims were deeper, less than four fifths of the
# context would be in use on average
_TRIM_TO_PERCENT = 67
# per cent of the prompt's room; if less is in use, the start moves back to earlier messages. The value is
# far below `_TRIM_TO_PERCENT`, because a move back would undo a trim
_RETURN_PERCENT = 40
# like `_RETURN_PERCENT`, for Retrieval, which may trim the verbatim messages to a quarter of the room
_RETURN_RELATED_PERCENT = 20
_FACTS_PERCENT = 10  # the share of the prompt's tokens that facts may take, in per cent
# the tokens of ordinary text are at most this percentage of the estimate (tokens.py)
_UNDERCOUNT_PERCENT = 120


@dataclass(frozen=True, slots=True)
class Selection:
    """The messages that a policy chose."""

    layout: Layout
    # all pairs that the policy may send; the layout has the newest of these, as many as fit
    pairs: Sequence[Pair]
    # the sequence number after which the policy chooses messages; `plan_context` adjusts it to the pairs that are sent
    start_seq: int
    prefix_seq: int
    refusal: type[PromptTooLong] = PromptTooLong  # the error to raise if the layout overflows


def plan_context(
    policy: MemoryPolicy, history: History, budget: ContextBudget, counter: TokenCounter
) -> ContextPlan:
    """Plan the messages to send to the model within *budget*.

    Raise PromptTooLong if the instructions and the prompt overflow the budget; ChatFull if, under the policy Full, the
    earlier messages overflow the budget; NewerVersion if this version of the app does not know the policy.
    """
    select = SELECTIONS.get(policy.name)
    if select is None:
        raise NewerVersion
    base = _base(history, budget.prompt_tokens, counter)
    chosen = select(policy, base, history)
    layout, pairs, start_seq = chosen.layout, chosen.pairs, chosen.start_seq
    if dropped := len(pairs) - len(layout.pairs):
        start_seq = pairs[dropped - 1].reply.seq
    elif pairs:
        start_seq = min(start_seq, pairs[0].prompt.seq - 1)
    plan = _describe(_without_redundant_facts(layout), history, budget)
    if plan.prompt_tokens > base.room:
        raise chosen.refusal(plan.prompt_tokens, base.room)
    return replace(plan, start_seq=start_seq, prefix_seq=chosen.prefix_seq)


def _select_all(_: MemoryPolicy, base: Layout, history: History) -> Selection:
    pairs = complete_pairs(history.past, after=history.reset_seq)
    refusal = ChatFull if base.left >= 0 else PromptTooLong
    layout = replace(base, pairs=pairs)
    return Selection(layout, pairs, history.reset_seq, history.prefix_seq, refusal)


def _select_window(policy: MemoryPolicy, base: Layout, history: History) -> Selection:
    pairs, layout = _since_start(policy, base, history, history.reset_seq)
    return Selection(layout, pairs, _start_seq(history), history.prefix_seq)


def _select_with_summary(policy: MemoryPolicy, base: Layout, history: History) -> Selection:
    base, covered_seq = _with_summary(base, history)
    pairs, layout = _since_start(policy, base, history, covered_seq)
    return Selection(layout, pairs, max(_start_seq(history), covered_seq), history.prefix_seq)


def _select_related(_: MemoryPolicy, base: Layout, history: History) -> Selection:
    start_seq, prefix_seq = _start_seq(history), history.prefix_seq
    pairs = complete_pairs(history.past, after=start_seq)
    layout = extend_prefix(base, history, pairs)
    last_seq = history.past[-1].seq if history.past else 0
    if layout is None:
        layout, prefix_seq = rebuild_prefix(base, history, pairs), last_seq
    every = complete_pairs(history.past, after=history.reset_seq)
    if len(pairs) < len(every) and _is_free(layout, _RETURN_RELATED_PERCENT):
        anew = rebuild_prefix(base, history, every)
        if len(anew.pairs) > len(layout.pairs):
            return Selection(anew, every, start_seq, last_seq)
    return Selection(layout, pairs, start_seq, prefix_seq)


SELECTIONS: dict[str, Callable[[MemoryPolicy, Layout, History], Selection]] = {
    Full.name: _select_all,
    Window.name: _select_window,
    Summary.name: _select_with_summary,
    Retrieval.name: _select_related,
}


def summary_layout(history: History, room: int, counter: TokenCounter) -> Layout:
    """Return the layout of a summarised conversation's next prompt before trimming: its messages may overflow *room*."""
    base, covered_seq = _with_summary(_base(history, room, counter), history)
    after = max(_start_seq(history), covered_seq)
    layout = replace(base, pairs=complete_pairs(history.past, after=after))
    return _without_redundant_facts(layout)


def usable_summary(history: History) -> RunningSummary | None:
    """Return the summary; None if it is blank, belongs to another branch, covers messages before the context reset, or
    misses messages after this reset, because the summary was made while a later reset hid the messages."""
    summary = history.summary
    is_usable = (
        summary is not None
        and bool(summary.text.strip())
        and history.reset_seq < summary.from_seq <= summary.up_to_seq
        # a branch that has the last summarised message has all earlier ones, too, so the summary applies to it
        and any(message.seq == summary.up_to_seq for message in history.past)
        and not complete_pairs(
            [message for message in history.past if message.seq < summary.from_seq],
            history.reset_seq,
        )
    )
    return summary if is_usable else None


def _start_seq(history: History) -> int:
    return max(history.start_seq, history.reset_seq)


def _base(history: History, room: int, counter: TokenCounter) -> Layout:
    """Return the layout of a prompt without past messages; facts are left out if they would make the prompt too long."""
    bare = Layout(room, counter, history.instructions, prompt=history.prompt)
    # count facts without the calibration: it changes with each reply, so the facts that fit, and with them the
    # beginning of the prompt, would change as well
    plain = counter.uncalibrated
    left = room * _FACTS_PERCENT // 100 - facts_tokens((), plain)
    base = replace(bare, facts=newest_facts(history.facts, left, plain))
    return base if base.left >= 0 else bare


def newest_facts(facts: Sequence[Fact], left: int, counter: TokenCounter) -> tuple[Fact, ...]:
    """Return the newest *facts* that fit in the *left* tokens, oldest first.

    A new fact already invalidates the cached prefix from the first fact on, so dropping the oldest fact to make room
    costs nothing more.
    """
    newest: list[Fact] = []
    for fact in sorted(facts, key=lambda fact: (fact.since, fact.id), reverse=True):
        tokens = blocks.line_tokens(blocks.fact_line(fact), counter)
        if tokens <= left and fact.text.strip():
            left -= tokens
            newest.append(fact)
    return tuple(reversed(newest))


def _without_redundant_facts(layout: Layout) -> Layout:
    """Leave out facts whose source message is sent verbatim: such a fact repeats the message and changes the cached prefix.

    The fact is included again when its source message is dropped from the prompt, which changes the prefix anyway.
    """
    shown = set(message_ids(layout.pairs))
    return replace(
        layout, facts=tuple(fact for fact in layout.facts if fact.source_id not in shown)
    )


def _with_summary(base: Layout, history: History) -> tuple[Layout, int]:
    """Return *base*, with the summary if that fits, and the sequence number up to which no message is sent verbatim."""
    if summary := usable_summary(history):
        layout = replace(base, summary=summary)
        if summary_tokens(summary, base.counter) <= base.room // 2 and layout.left >= 0:
            return layout, summary.up_to_seq
    return base, history.reset_seq


def _since_start(
    policy: MemoryPolicy, base: Layout, history: History, after: int
) -> tuple[Sequence[Pair], Layout]:
    """Return the pairs from the stored start on, and *base* with the newest of these pairs that fit.

    If these pairs take less than `_RETURN_PERCENT` of the room, start at the first pair after the seq *after* instead.
    """
    every = complete_pairs(history.past, after=after)
    pairs = [pair for pair in every if pair.prompt.seq > history.start_seq]
    layout = _trimmed(base, _newest(policy, pairs))
    if len(pairs) == len(every):
        return pairs, layout
    anew = _trimmed(base, _newest(policy, every))
    is_free = _is_free(layout, _RETURN_PERCENT)
    return (every, anew) if is_free and len(anew.pairs) > len(layout.pairs) else (pairs, layout)


def _is_free(layout: Layout, percent: int) -> bool:
    """Return True if *layout* takes less than *percent* of its room."""
    # count without the calibration: if the endpoint refused the prompt as too long, the start must not move back,
    # even if the calibrated count is low
    taken = replace(layout, counter=layout.counter.uncalibrated).tokens
    return taken * 100 < layout.room * percent


def _newest(policy: MemoryPolicy, pairs: Sequence[Pair]) -> Sequence[Pair]:
    """Return the newest of *pairs*, as many as *policy* allows."""
    least, most = policy.messages, policy.most_messages
    if least is None or most is None or 2 * len(pairs) <= most:
        return pairs
    return pairs[len(pairs) - least // 2 :]


def _trimmed(base: Layout, pairs: Sequence[Pair]) -> Layout:
    """Add all *pairs* to *base* if they fit; else only the newest, up to two thirds of the room, so that trims are rare."""
    taken = base.tokens
    fitting = count_fitting(pairs, base.room - taken, base.counter)
    if fitting < len(pairs):
        lasting = base.room * _TRIM_TO_PERCENT // 100 - taken
        # the last pair is sent if it fits at all, because the prompt may be about it
        fitting = max(count_fitting(pairs, lasting, base.counter), min(fitting, 1))
    return replace(base, pairs=pairs[len(pairs) - fitting :])


def _describe(layout: Layout, history: History, budget: ContextBudget) -> ContextPlan:
    """Return the plan of *layout*, with lists of the past messages that are sent in each form or left out."""
    plan = layout.plan(budget.reply_tokens)
    likely_tokens = min(plan.bound_tokens, -(-plan.prompt_tokens * _UNDERCOUNT_PERCENT // 100))
    verbatim = message_ids(layout.pairs)
    summarised = _summarised(layout.summary, history)
    earlier = [each.message.id for block in layout.earlier_recalls.values() for each in block]
    recalled = [each.message.id for each in layout.recalls]
    seen = {*verbatim, *summarised, *earlier, *recalled}
    unreset = (message for message in history.past if message.seq > history.reset_seq)
    return replace(
        plan,
        reply_tokens=budget.reply_after(likely_tokens),
        min_reply_tokens=budget.min_reply_tokens,
        verbatim_ids=verbatim,
        summarised_ids=summarised,
        recalls=tuple(layout.recalls),
        earlier_recall_ids=tuple(earlier),
        fact_ids=tuple(fact.id for fact in layout.facts),
        omitted_ids=tuple(message.id for message in unreset if message.id not in seen),
    )


def _summarised(summary: RunningSummary | None, history: History) -> tuple[MessageId, ...]:
    if summary is None:
        return ()
    pairs = complete_pairs(history.past, after=summary.from_seq - 1)
    return message_ids(pair for pair in pairs if pair.reply.seq <= summary.up_to_seq)
