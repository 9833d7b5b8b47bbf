"""The receipt of a turn: a record of what the model was shown, stored with the turn.

Messages never change, so they are named by id or seq; texts that may change (instructions, facts, the summary) are
copied. A receipt is stored as JSON, which the store seals.
"""

from collections import Counter
from dataclasses import dataclass, field

from pydantic import TypeAdapter, ValidationError

from services.domain import ConversationId, FactId, MemoryPolicy, MessageId, RunningSummary
from services.memory.context import ContextPlan, History, PartKind
from services.memory.extracts import Extract
from services.memory.forecast import Calibration

_JUDGED_TOKENS = 1000  # of a prompt: with fewer, the difference may be chance
_ESTIMATED_HIGH = 1.2


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptEntry:
    """A recalled message, and the words of the prompt that it matched."""

    message_id: MessageId
    tokens: int
    matched: tuple[str, ...] = field(default=(), repr=False)  # empty: found beside a match
    recalled_for: MessageId | None = None  # an earlier prompt; None: the turn's own
    conversation_id: ConversationId | None = None  # None: its own, or an earlier prompt's
    extract: Extract | None = None  # the part of the body that was sent; None: all of the body


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
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
    reply_tokens: int  # that the prompt left free for the reply
    min_likely_tokens: int = 0  # a likely lower bound of the endpoint's count; 0: unknown
    prefix_seq: int = 0
    # at the start of the turn; the next turn counts by it
    calibration: Calibration = field(default_factory=Calibration)

    @classmethod
    def from_plan(
        cls,
        policy: MemoryPolicy,
        model: str,
        history: History,
        plan: ContextPlan,
        calibration: Calibration,
        min_likely_tokens: int = 0,
    ) -> "Receipt":
        """Record *plan*, made of *history*, and the *calibration* of *model*."""
        seqs = {message.id: message.seq for message in history.past}
        facts = {fact.id: fact.text for fact in history.facts}
        tokens = plan.tokens_by_kind()
        return cls(
            policy=policy.name,
            model=model,
            instructions=history.instructions,
            facts=tuple((fact_id, facts[fact_id]) for fact_id in plan.fact_ids),
            summary=history.summary if tokens[PartKind.SUMMARY] else None,
            tokens=tokens,
            verbatim=tuple(
                (seqs[part.message_id], part.tokens)
                for part in plan.parts
                if part.kind is PartKind.VERBATIM and part.message_id
            ),
            recalls=tuple(
                ReceiptEntry(
                    message_id=recall.message.id,
                    tokens=part.tokens,
                    matched=recall.matched,
                    recalled_for=part.recalled_for,
                    conversation_id=None if part.recalled_for else recall.conversation_id,
                    extract=recall.extract,
                )
                for part in plan.parts
                if (recall := part.recall)
            ),
            summarised_count=len(plan.summarised_ids),
            omitted_count=len(plan.omitted_ids),
            reply_tokens=plan.min_reply_tokens,
            min_likely_tokens=min_likely_tokens,
            prefix_seq=plan.prefix_seq,
            calibration=calibration.rounded(),
        )

    @classmethod
    def from_json(cls, text: str) -> "Receipt | None":
        """Return the receipt that `to_json` wrote; None for a text that this version cannot read."""
        try:
            return _DOCUMENT.validate_json(text)
        except ValidationError:  # its message would repeat the user's text
            return None

    def to_json(self) -> str:
        return _DOCUMENT.dump_json(self, exclude_defaults=True).decode()

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


_DOCUMENT = TypeAdapter(Receipt)
