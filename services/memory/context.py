"""The values that a plan is made from, and what it says. Text that people wrote stays out of reprs."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from services.domain import ConversationId, Fact, FactId, Message, MessageId, Role, RunningSummary
from services.memory.extracts import Extract

_MIN_REPLY_TOKENS = 2048


@dataclass(frozen=True, slots=True)
class ContextBudget:
    """The context window that one call may use, and the longest reply.

    A prompt may take all of the window but what is kept free for a reply, at most a quarter.
    """

    context_tokens: int
    reply_tokens: int

    @property
    def min_reply_tokens(self) -> int:
        """The tokens that every prompt leaves for the reply."""
        return min(self.reply_tokens, _MIN_REPLY_TOKENS, self.context_tokens // 4)

    @property
    def prompt_tokens(self) -> int:
        return self.context_tokens - self.min_reply_tokens

    def reply_after(self, prompt_tokens: int) -> int:
        """The longest reply to a prompt of at most *prompt_tokens*."""
        return max(
            self.min_reply_tokens, min(self.reply_tokens, self.context_tokens - prompt_tokens)
        )


@dataclass(frozen=True, slots=True)
class ContextMessage:
    """One message as the model gets it."""

    role: Role
    body: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class RecalledMessage:
    """A message that a search brought back, how well it matched, and by which words."""

    message: Message
    score: float = 0.0
    matched: tuple[str, ...] = field(default=(), repr=False)
    conversation_id: ConversationId | None = None  # None: it is of the one that is planned
    extract: Extract | None = None  # of its body, which alone is shown; None: all of it

    @property
    def text(self) -> str:
        """The part of the body that is shown."""
        return self.message.body[slice(*self.extract)] if self.extract else self.message.body


@dataclass(frozen=True, slots=True)
class History:
    """What a plan is made from. Without a *prompt*, it is what the next turn would see."""

    instructions: str = field(repr=False)
    past: tuple[Message, ...] = field(repr=False)  # the branch the reader sees, by seq
    prompt: str | None = field(repr=False)
    start_seq: int = 0  # the view begins after this message
    reset_seq: int = 0  # nothing up to this message is ever planned
    facts: tuple[Fact, ...] = ()
    summary: RunningSummary | None = None
    candidates: tuple[RecalledMessage, ...] = ()  # for this prompt, the best first
    # What was recalled for each earlier prompt that was planned with recall, nothing included.
    earlier_recalls: Mapping[MessageId, tuple[RecalledMessage, ...]] = field(
        default_factory=dict[MessageId, tuple[RecalledMessage, ...]], repr=False
    )
    prefix_seq: int = 0  # of that, only what was recalled for prompts after this one is shown


class PartKind(StrEnum):
    """What a part of a prompt is."""

    INSTRUCTIONS = "instructions"
    FACTS = "facts"
    SUMMARY = "summary"
    VERBATIM = "verbatim"  # a message of the past, word for word
    RECALLED = "recalled"
    PROMPT = "prompt"
    FRAME = "frame"  # what chat templates put around messages, and the marks of our blocks


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a prompt and its tokens; they add up to the plan's."""

    kind: PartKind
    tokens: int
    message_id: MessageId | None = None  # the message that it is
    recalled_for: MessageId | None = None  # the earlier prompt; None: this one
    matched: tuple[str, ...] = field(default=(), repr=False)
    extract: Extract | None = None  # of the message, where not all of it is shown


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextPlan:
    """What the model sees, and what that takes. Nothing before the reset counts as omitted."""

    messages: tuple[ContextMessage, ...]
    parts: tuple[Part, ...] = ()
    prompt_tokens: int  # leaning high: for the meter, and what fitted
    bound_tokens: int  # never too few: for reservations
    reply_tokens: int  # the longest reply
    min_reply_tokens: int = 0  # of them, what every prompt leaves free
    verbatim_ids: tuple[MessageId, ...]  # of the past, verbatim
    summarised_ids: tuple[MessageId, ...] = ()  # the summary that is shown stands for them
    recalls: tuple[RecalledMessage, ...] = ()  # for this prompt, by time: to be kept with the turn
    earlier_recall_ids: tuple[MessageId, ...] = ()  # and still shown at the earlier prompts
    fact_ids: tuple[FactId, ...] = ()
    omitted_ids: tuple[MessageId, ...]  # of the past, seen in no form
    start_seq: int  # to be handed back at the next turn, as is the next
    prefix_seq: int = 0

    def tokens_by_kind(self) -> Counter[PartKind]:
        """The tokens of each kind of part; they add up to *prompt_tokens*."""
        tokens = Counter[PartKind]()
        for part in self.parts:
            tokens[part.kind] += part.tokens
        return tokens
