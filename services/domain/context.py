"""The context of a prompt: the history, the plan, its forecast, and the record of it. User text stays out of reprs."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from services.domain import ConversationId, Fact, FactId, Message, MessageId, Role, RunningSummary

_MIN_REPLY_TOKENS = 2048
_JUDGED_TOKENS = 1000  # the length of a prompt: with fewer tokens, the difference may be chance
_ESTIMATED_HIGH = 1.2

Extract = tuple[int, int]  # a part of a text: from which character, up to which


@dataclass(frozen=True, slots=True)
class ContextBudget:
    """The context window that one call may use, and the longest reply.

    A prompt may take all of the window except the reply's minimum, which is at most a quarter of the window.
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
    """One message in the form in which the model receives it."""

    role: Role
    body: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class RecalledMessage:
    """A search result: a message, its score, and the words of the query that it matched."""

    message: Message
    score: float = 0.0
    matched: tuple[str, ...] = field(default=(), repr=False)
    conversation_id: ConversationId | None = None  # None: the conversation that is planned
    extract: Extract | None = None  # the part of the body that is quoted; None: all of the body

    @property
    def text(self) -> str:
        """The part of the body that is quoted."""
        return self.message.body[slice(*self.extract)] if self.extract else self.message.body


@dataclass(frozen=True, slots=True)
class History:
    """The input of a context plan. Without a *prompt* the plan shows the context of the next turn."""

    instructions: str = field(repr=False)
    past: tuple[Message, ...] = field(repr=False)  # the current branch, by seq
    prompt: str | None = field(repr=False)
    start_seq: int = 0  # verbatim messages begin after this one
    reset_seq: int = 0  # messages up to this one are never planned
    facts: tuple[Fact, ...] = ()
    summary: RunningSummary | None = None
    candidates: tuple[RecalledMessage, ...] = ()  # search results for this prompt, the best first
    # the messages recalled for each earlier prompt; an empty tuple if there were none
    earlier_recalls: Mapping[MessageId, tuple[RecalledMessage, ...]] = field(
        default_factory=dict[MessageId, tuple[RecalledMessage, ...]], repr=False
    )
    prefix_seq: int = 0  # recalls of prompts up to this message are not shown


class PartKind(StrEnum):
    """Kinds of the parts of a prompt."""

    INSTRUCTIONS = "instructions"
    FACTS = "facts"
    SUMMARY = "summary"
    VERBATIM = "verbatim"  # an earlier message in full
    RECALLED = "recalled"
    PROMPT = "prompt"
    # the tokens that chat templates add to messages, and the marks of quoted blocks
    FRAME = "frame"


class Part(NamedTuple):
    """A part of a prompt and its tokens; all parts add up to the plan's tokens."""

    kind: PartKind
    tokens: int
    message_id: MessageId | None = None
    recall: RecalledMessage | None = None
    recalled_for: MessageId | None = None  # an earlier prompt; None: the plan's own


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextPlan:
    """The messages that the model sees, and their tokens. Messages before the reset do not count as omitted."""

    messages: tuple[ContextMessage, ...]
    parts: tuple[Part, ...] = ()
    prompt_tokens: int  # an estimate that is rather too high: for the meter and for packing
    bound_tokens: int  # an upper bound: for reservations
    reply_tokens: int  # the longest reply
    min_reply_tokens: int = 0  # the reply tokens that every prompt leaves free
    verbatim_ids: tuple[MessageId, ...] = ()
    summarised_ids: tuple[MessageId, ...] = ()  # messages that the summary covers
    # recalled for this prompt, by time; stored with the turn
    recalls: tuple[RecalledMessage, ...] = ()
    earlier_recall_ids: tuple[MessageId, ...] = ()  # recalled for earlier prompts, and still sent
    fact_ids: tuple[FactId, ...] = ()
    omitted_ids: tuple[MessageId, ...] = ()  # earlier messages that are shown in no form
    start_seq: int = 0  # input of the next turn's History, like prefix_seq
    prefix_seq: int = 0

    def tokens_by_kind(self) -> Counter[PartKind]:
        """The tokens of each kind of part; they add up to *prompt_tokens*."""
        tokens = Counter[PartKind]()
        for part in self.parts:
            tokens[part.kind] += part.tokens
        return tokens


@dataclass(frozen=True, slots=True)
class Forecast:
    """The expected tokens of a prompt. Anchored: the endpoint counted most of them."""

    tokens: int
    is_anchored: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptEntry:
    """A recalled message, and the words of the prompt that it matched."""

    message_id: MessageId
    tokens: int
    # empty: found next to a matching message
    matched: tuple[str, ...] = field(default=(), repr=False)
    recalled_for: MessageId | None = None  # an earlier prompt; None: the turn's own
    conversation_id: ConversationId | None = None  # None: its own
    extract: Extract | None = None  # the part of the body that was sent; None: all of the body


@dataclass(frozen=True, slots=True, kw_only=True)
class SentContext:
    """The contents of a prompt, and the estimated tokens of each kind of part."""

    policy: str  # a policy's name
    model: str
    instructions: str = field(repr=False)
    facts: tuple[tuple[FactId, str], ...] = field(default=(), repr=False)
    summary: RunningSummary | None = None
    tokens: Counter[PartKind]
    verbatim: tuple[tuple[int, int], ...] = ()  # seq and tokens of each message sent in full
    recalls: tuple[ReceiptEntry, ...] = ()
    summarised_count: int = 0  # messages that the summary covers
    omitted_count: int = 0  # messages sent in no form
    reply_tokens: int  # the tokens that the prompt left free for the reply
    min_likely_tokens: int = 0  # a likely lower bound of the endpoint's count; 0: unknown

    @property
    def prompt_tokens(self) -> int:
        return self.tokens.total()

    def is_truncated(self, counted_tokens: int) -> bool:
        """Return True if an endpoint that counted so few tokens is likely to have cut the start of the prompt.

        Some endpoints do so silently. Others leave out of their count the tokens that their cache held, which are all
        but the last reply and what followed it.
        """
        if self.prompt_tokens <= _JUDGED_TOKENS or counted_tokens >= self.min_likely_tokens:
            return False
        last = self.verbatim[-1][1] if self.verbatim else self.prompt_tokens
        new = last + self.tokens[PartKind.PROMPT] + self.tokens[PartKind.RECALLED]
        least_new = self.min_likely_tokens * min(1.0, new / self.prompt_tokens)
        return not least_new <= counted_tokens <= new * _ESTIMATED_HIGH
