"""The receipt of a turn: a record of the messages that the model was sent, stored with the turn.

Messages never change, so a receipt lists them by id or sequence number; texts that may change (instructions, facts, the
summary) are copied into it. A receipt is stored as JSON, which the store encrypts.
"""

from dataclasses import dataclass, field

from pydantic import TypeAdapter, ValidationError

from services.domain import MemoryPolicy
from services.domain.context import ContextPlan, History, PartKind, ReceiptEntry, SentContext
from services.domain.json_texts import read_json
from services.memory.forecast import Calibration


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt(SentContext):
    """The record of the context that a turn sent, and the values that the conversation's next plan needs."""

    prefix_seq: int = 0
    # the token calibration at the start of this turn; the next turn's plan counts tokens with it
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
        """Return the record of *plan*, made from *history*, and of the *calibration* of *model*."""
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
                    conversation_id=recall.conversation_id,
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
            return read_json(_DOCUMENT, text)
        except ValidationError:  # not raised, because its message would repeat the user's text
            return None

    def to_json(self) -> str:
        return _DOCUMENT.dump_json(self, exclude_defaults=True).decode()


_DOCUMENT = TypeAdapter(Receipt)
