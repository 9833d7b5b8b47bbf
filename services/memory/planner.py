"""Which messages the model sees.

A policy chooses from the past and the planner packs it, so all policies share these promises:

* The order is instructions, verbatim history, prompt; the instructions and the prompt are always
  there, and what is kept stays in the order in which it was said.
* The past is planned in whole pairs. A prompt without a reply is not planned, because many chat
  templates refuse two user messages in a row; nor is a reply that is empty, nor anything of a pair
  of which one half could not be verified. All of it is counted as omitted.
* The plan fits: its count and the reply's tokens together stay within the context window.
* Providers cache a prompt by its beginning, so the view of a conversation begins at a stored place
  and only grows, until the budget overflows; then it is trimmed to 70 % of it. The caller stores
  `ContextPlan.start_seq` and hands it back: the same rows then give the same bytes on any process.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import assert_never

from services.domain import (
    Full,
    MemoryPolicy,
    Message,
    MessageId,
    Retrieval,
    Role,
    Summary,
    Window,
)
from services.errors import PromptTooLong
from services.memory.tokens import TokenCounter

_TRIM_TO_PERCENT = 70
# What a chat template puts around a message (ChatML: 5), and around the whole of a prompt. The
# bounds hold where role names are spelt out and the template brings a preamble of its own.
_MESSAGE_TOKENS, _MESSAGE_BOUND = 6, 16
_PROMPT_TOKENS, _PROMPT_BOUND = 4, 64


@dataclass(frozen=True, slots=True)
class ContextBudget:
    """The context window that one call may use, and how much of it is kept free for the reply."""

    context_tokens: int
    reply_tokens: int

    @property
    def prompt_tokens(self) -> int:
        return self.context_tokens - self.reply_tokens


@dataclass(frozen=True, slots=True)
class ContextMessage:
    """One message as the model gets it."""

    role: Role
    body: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class History:
    """What a plan is made from. Without a *prompt*, it is what the next turn would see."""

    instructions: str = field(repr=False)
    past: tuple[Message, ...] = field(repr=False)  # the branch the reader sees, by seq
    prompt: str | None = field(repr=False)
    start_seq: int = 0  # the view begins after this message
    reset_seq: int = 0  # nothing up to this message is ever planned
    # filled by nothing yet, and not planned
    summary: str | None = field(default=None, repr=False)
    recalled: tuple[Message, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextPlan:
    """What the model sees, and what that takes. Nothing before the reset counts as omitted."""

    messages: tuple[ContextMessage, ...]
    prompt_tokens: int  # leaning high: for the meter, and what fitted
    bound_tokens: int  # never too few: for reservations
    reply_tokens: int
    shown: tuple[MessageId, ...]  # of the past, verbatim
    summarised: tuple[MessageId, ...] = ()
    recalled: tuple[MessageId, ...] = ()
    omitted: tuple[MessageId, ...]
    start_seq: int


@dataclass(frozen=True, slots=True)
class _Pair:
    prompt: Message
    reply: Message


def plan_context(
    policy: MemoryPolicy, history: History, budget: ContextBudget, counter: TokenCounter
) -> ContextPlan:
    """Choose what the model sees within *budget*.

    Raise PromptTooLong if the instructions and the prompt overflow it, or with Full the whole.
    """
    room = budget.prompt_tokens
    start_seq = max(history.start_seq, history.reset_seq)
    match policy:
        case Full():
            start_seq = history.reset_seq
            pairs = kept = _pairs(history.past, after=start_seq)
        case Window(messages=limit):
            pairs = _pairs(history.past, after=start_seq)
            newest = pairs[max(0, len(pairs) - limit // 2) :]
            kept = _trimmed(newest, history, room, counter)
        case Summary() | Retrieval():
            # nothing summarises or recalls yet: as much of the past as fits
            pairs = _pairs(history.past, after=start_seq)
            kept = _trimmed(pairs, history, room, counter)
        case _:
            assert_never(policy)

    messages = _framed(history, kept)
    tokens = _count(messages, counter)
    if tokens > room:
        raise PromptTooLong(tokens, room)
    dropped = len(pairs) - len(kept)
    shown = tuple(half.id for pair in kept for half in (pair.prompt, pair.reply))
    seen = set(shown)
    return ContextPlan(
        messages=messages,
        prompt_tokens=tokens,
        bound_tokens=_bound(messages, counter),
        reply_tokens=budget.reply_tokens,
        shown=shown,
        omitted=tuple(
            message.id
            for message in history.past
            if message.seq > history.reset_seq and message.id not in seen
        ),
        start_seq=pairs[dropped - 1].reply.seq if dropped else start_seq,
    )


def _pairs(past: Sequence[Message], after: int) -> list[_Pair]:
    return [
        _Pair(prompt, reply)
        for prompt, reply in pairwise(past)
        if prompt.seq > after
        and (prompt.role, reply.role) == (Role.USER, Role.ASSISTANT)
        and _says_something(prompt)
        and _says_something(reply)
    ]


def _says_something(message: Message) -> bool:
    return message.is_verified and bool(message.body.strip())


def _trimmed(pairs: list[_Pair], history: History, room: int, counter: TokenCounter) -> list[_Pair]:
    """The newest *pairs* that fit: all, or else what fits in 70 %, so that a trim lasts."""
    fixed = _count(_framed(history, ()), counter)
    fitting = _how_many_fit(pairs, room - fixed, counter)
    if fitting < len(pairs):
        lasting = _how_many_fit(pairs, room * _TRIM_TO_PERCENT // 100 - fixed, counter)
        # the last pair stays while it fits at all: the prompt may be about it
        fitting = max(lasting, min(fitting, 1))
    return pairs[len(pairs) - fitting :]


def _how_many_fit(pairs: list[_Pair], room: int, counter: TokenCounter) -> int:
    for newer, pair in enumerate(reversed(pairs)):
        room -= sum(_MESSAGE_TOKENS + counter.count(m.body) for m in (pair.prompt, pair.reply))
        if room < 0:
            return newer
    return len(pairs)


def _framed(history: History, pairs: Iterable[_Pair]) -> tuple[ContextMessage, ...]:
    said = [(Role.SYSTEM, history.instructions)] if history.instructions else []
    for pair in pairs:
        said += [(Role.USER, pair.prompt.body), (Role.ASSISTANT, pair.reply.body)]
    if history.prompt is not None:
        said.append((Role.USER, history.prompt))
    return tuple(ContextMessage(role, body) for role, body in said)


def _count(messages: Iterable[ContextMessage], counter: TokenCounter) -> int:
    return _PROMPT_TOKENS + sum(_MESSAGE_TOKENS + counter.count(m.body) for m in messages)


def _bound(messages: Iterable[ContextMessage], counter: TokenCounter) -> int:
    return _PROMPT_BOUND + sum(_MESSAGE_BOUND + counter.bound(m.body) for m in messages)
