"""The context of a prompt: its history, plan, forecast and record. User text stays out of reprs."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple

from services.domain import ConversationId, Fact, FactId, Message, MessageId, Role, RunningSummary

_MIN_REPLY_TOKENS = 2048
# prompts of at most this many tokens never count as truncated: the endpoint's count and the estimate may differ by chance
_JUDGED_TOKENS = 1000
_ESTIMATED_HIGH = 1.2

Extract = tuple[int, int]  # the start and the end (exclusive) of a part of a text


@dataclass(frozen=True, slots=True)
class ContextBudget:
    """The context window that one call may use, and the maximum length of the reply.

    A prompt may take all of the window except the reply's minimum, which is at most a quarter of the window.
    """

    context_tokens: int
    reply_tokens: int

    @property
    def min_reply_tokens(self) -> int:
        """The tokens that every prompt leaves free for the reply."""
        return min(self.reply_tokens, _MIN_REPLY_TOKENS, self.context_tokens // 4)

    @property
    def prompt_tokens(self) -> int:
        return self.context_tokens - self.min_reply_tokens

    def within(self, prompt_tokens: int) -> "ContextBudget":
        """Return a budget, of at most this one's window, whose prompts have at most *prompt_tokens*."""
        # a third of the prompt's room is a quarter of the window
        reply = min(self.reply_tokens, _MIN_REPLY_TOKENS, prompt_tokens // 3)
        return replace(self, context_tokens=min(self.context_tokens, prompt_tokens + reply))

    def reply_after(self, prompt_tokens: int) -> int:
        """Return the maximum length, in tokens, of the reply to a prompt of at most *prompt_tokens*."""
        return max(
            self.min_reply_tokens, min(self.reply_tokens, self.context_tokens - prompt_tokens)
        )


@dataclass(frozen=True, slots=True)
class ContextMessage:
    """One message in the form in which it is sent to the model: a role and a text."""

    role: Role
    body: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class RecalledMessage:
    """A search result: a message, its score, and the words of the query that it matched."""

    message: Message
    score: float = 0.0
    matched: tuple[str, ...] = field(default=(), repr=False)
    conversation_id: ConversationId | None = None  # None: the conversation of the prompt
    extract: Extract | None = None  # the quoted part of the body; None: the whole body

    @property
    def text(self) -> str:
        """The quoted part of the body."""
        return self.message.body[slice(*self.extract)] if self.extract else self.message.body


@dataclass(frozen=True, slots=True)
class History:
    """The input of `plan_context`. If *prompt* is None, the plan is for a next turn whose prompt is not known yet."""

    instructions: str = field(repr=False)
    past: tuple[Message, ...] = field(repr=False)  # the current branch's messages, sorted by seq
    prompt: str | None = field(repr=False)
    start_seq: int = 0  # only messages after start_seq are sent in full
    # messages up to reset_seq are not sent, because the user cleared the context
    reset_seq: int = 0
    facts: tuple[Fact, ...] = ()
    summary: RunningSummary | None = None
    candidates: tuple[RecalledMessage, ...] = ()  # search results for this prompt, best first
    # maps each earlier prompt to the messages that were recalled for it, or to an empty tuple
    earlier_recalls: Mapping[MessageId, tuple[RecalledMessage, ...]] = field(
        default_factory=dict[MessageId, tuple[RecalledMessage, ...]], repr=False
    )
    # the prefix_seq of the last plan: under Retrieval, messages recalled for prompts up to this seq are not sent again
    prefix_seq: int = 0


class PartKind(StrEnum):
    """The kinds of parts of a prompt."""

    INSTRUCTIONS = "instructions"
    FACTS = "facts"
    SUMMARY = "summary"
    VERBATIM = "verbatim"  # an earlier message that is sent in full
    RECALLED = "recalled"
    PROMPT = "prompt"
    # the tokens that chat templates add to messages, and the header, footer and headings around recalled messages
    FRAME = "frame"


class Part(NamedTuple):
    """A part of a prompt, and its tokens; the tokens of all parts add up to those of the plan."""

    kind: PartKind
    tokens: int
    message_id: MessageId | None = None
    recall: RecalledMessage | None = None
    recalled_for: MessageId | None = None  # id of an earlier prompt; None: the plan's own prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextPlan:
    """The messages to send to the model, and their tokens. Messages before a context reset do not count as omitted."""

    messages: tuple[ContextMessage, ...]
    parts: tuple[Part, ...] = ()
    # a deliberate overestimate, used by the context meter and to decide which messages fit
    prompt_tokens: int
    bound_tokens: int  # an upper bound on the prompt's tokens, used to reserve its cost
    # the maximum length of the reply
    reply_tokens: int
    min_reply_tokens: int = 0  # the reply tokens that every prompt leaves free
    verbatim_ids: tuple[MessageId, ...] = ()
    summarised_ids: tuple[MessageId, ...] = ()  # messages that the summary covers
    # messages recalled for this prompt, in chronological order; stored with the turn
    recalls: tuple[RecalledMessage, ...] = ()
    # messages recalled for earlier prompts and sent again
    earlier_recall_ids: tuple[MessageId, ...] = ()
    fact_ids: tuple[FactId, ...] = ()
    omitted_ids: tuple[MessageId, ...] = ()  # earlier messages that are not sent in any form
    # start_seq and prefix_seq are stored, and become fields of the next `History`
    start_seq: int = 0
    prefix_seq: int = 0

    def tokens_by_kind(self) -> Counter[PartKind]:
        """Return the tokens per kind of part; they add up to *prompt_tokens*."""
        tokens = Counter[PartKind]()
        for part in self.parts:
            tokens[part.kind] += part.tokens
        return tokens


@dataclass(frozen=True, slots=True)
class Forecast:
    """The expected tokens of a prompt. *is_anchored*: the endpoint has counted most of these tokens, in an earlier prompt."""

    tokens: int
    is_anchored: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptEntry:
    """A recalled message, and the words of the prompt that it matched."""

    message_id: MessageId
    tokens: int
    # empty if the message was recalled because it is next to a message that matched
    matched: tuple[str, ...] = field(default=(), repr=False)
    recalled_for: MessageId | None = None  # id of an earlier prompt; None: the turn's own prompt
    conversation_id: ConversationId | None = None  # None: the turn's own conversation
    extract: Extract | None = None  # the part of the body that was sent; None: the whole body


@dataclass(frozen=True, slots=True, kw_only=True)
class SentContext:
    """A record of the prompt that was sent to the model, with the estimated tokens of each kind of part."""

    policy: str  # the name of the policy
    model: str
    instructions: str = field(repr=False)
    facts: tuple[tuple[FactId, str], ...] = field(default=(), repr=False)
    summary: RunningSummary | None = None
    tokens: Counter[PartKind]
    verbatim: tuple[tuple[int, int], ...] = ()  # seq and tokens of each message sent in full
    recalls: tuple[ReceiptEntry, ...] = ()
    summarised_count: int = 0  # messages that the summary covers
    omitted_count: int = 0  # messages not sent in any form
    reply_tokens: int  # the tokens that the prompt left free for the reply
    min_likely_tokens: int = 0  # a likely lower bound on the endpoint's count; 0: unknown

    @property
    def prompt_tokens(self) -> int:
        return self.tokens.total()

    def is_truncated(self, counted_tokens: int) -> bool:
        """Return True if an endpoint that counted only *counted_tokens* has probably cut off the start of the prompt.

        Some endpoints truncate prompts silently. Others count only uncached tokens (those of the last reply and of the
        messages after it); such a low count does not mean that the prompt was truncated.
        """
        if self.prompt_tokens <= _JUDGED_TOKENS or counted_tokens >= self.min_likely_tokens:
            return False
        last = self.verbatim[-1][1] if self.verbatim else self.prompt_tokens
        new = last + self.tokens[PartKind.PROMPT] + self.tokens[PartKind.RECALLED]
        least_new = self.min_likely_tokens * min(1.0, new / self.prompt_tokens)
        return not least_new <= counted_tokens <= new * _ESTIMATED_HIGH
