"""What the model was shown in one turn: kept with the turn, so that a reader can look it up later.

Messages never change, so they are named; what may change (instructions, facts, the summary) is kept word
for word. A receipt is stored as JSON, sealed by whoever stores it.
"""

from collections import Counter
from dataclasses import dataclass, field

from pydantic import TypeAdapter, ValidationError

from services.domain import ConversationId, FactId, MemoryPolicy, MessageId, RunningSummary
from services.memory.context import ContextPlan, History, PartKind
from services.memory.extracts import Extract
from services.memory.forecast import Calibration

_JUDGED_TOKENS = 1000  # of a prompt: of fewer, too much is chance
_ESTIMATED_HIGH = 1.2


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptEntry:
    """A message that was brought back, and by which words of the prompt."""

    message_id: MessageId
    tokens: int
    matched: tuple[str, ...] = field(default=(), repr=False)  # empty: it stood beside one
    recalled_for: MessageId | None = None  # an earlier prompt; None: the turn's own
    conversation_id: ConversationId | None = None  # None: its own, or an earlier prompt's
    extract: Extract | None = None  # of its body, where only that was sent


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What was sent, and the tokens of each kind of part, leaning high."""

    policy: str  # "full", "window", "summary", "retrieval"
    model: str
    instructions: str = field(repr=False)
    facts: tuple[tuple[FactId, str], ...] = field(default=(), repr=False)
    summary: RunningSummary | None = None
    tokens: Counter[PartKind]
    verbatim: tuple[
        tuple[int, int], ...
    ] = ()  # the seq of each message word for word, and its tokens
    recalls: tuple[ReceiptEntry, ...] = ()
    summarised_count: int = 0  # messages that the summary stands for
    omitted_count: int = 0  # messages seen in no form
    reply_tokens: int  # that were kept free for the reply
    min_likely_tokens: int = 0  # the fewest that the endpoint is likely to count; 0: not known
    prefix_seq: int = 0
    calibration: Calibration = field(
        default_factory=Calibration
    )  # as the turn began. The next turn counts by it

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
        """What *plan*, made of *history*, shows; and what is known of *model*."""
        seqs = {message.id: message.seq for message in history.past}
        facts = {fact.id: fact.text for fact in history.facts}
        tokens = plan.tokens_by_kind()
        said_in = {each.message.id: each.conversation_id for each in plan.recalls}
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
                    message_id=part.message_id,
                    tokens=part.tokens,
                    matched=part.matched,
                    recalled_for=part.recalled_for,
                    conversation_id=said_in.get(part.message_id),
                    extract=part.extract,
                )
                for part in plan.parts
                if part.kind is PartKind.RECALLED and part.message_id
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
        """The receipt that `to_json` wrote; None for one that this version cannot read."""
        try:
            return _DOCUMENT.validate_json(text)
        except ValidationError:  # its own text would repeat what people wrote
            return None

    def to_json(self) -> str:
        return _DOCUMENT.dump_json(self, exclude_defaults=True).decode()

    @property
    def prompt_tokens(self) -> int:
        return self.tokens.total()

    def is_truncated(self, counted_tokens: int) -> bool:
        """Return whether an endpoint that *counted* so few tokens is likely to have cut the start of the prompt.

        Some do so in silence. Others leave out of their count what their cache held, which is all but the last
        reply and what followed it.
        """
        if self.prompt_tokens <= _JUDGED_TOKENS or counted_tokens >= self.min_likely_tokens:
            return False
        last = self.verbatim[-1][1] if self.verbatim else self.prompt_tokens
        new = last + self.tokens[PartKind.PROMPT] + self.tokens[PartKind.RECALLED]
        least_new = self.min_likely_tokens * min(1.0, new / self.prompt_tokens)
        return not least_new <= counted_tokens <= new * _ESTIMATED_HIGH


_DOCUMENT = TypeAdapter(Receipt)
