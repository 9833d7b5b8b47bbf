"""What the model was shown in one turn: kept with the turn, so that a reader can look it up later.

Messages never change, so they are named; what may change (instructions, facts, the summary) is kept word
for word. A receipt is stored as JSON, sealed by whoever stores it.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from pydantic import TypeAdapter, ValidationError

from services.domain import ConversationId, Fact, FactId, MemoryPolicy, MessageId, RunningSummary
from services.memory.context import ContextPlan, History, Part, PartKind
from services.memory.forecast import Rate, Rates


@dataclass(frozen=True, slots=True, kw_only=True)
class RecalledNote:
    """A message that was brought back, and by which words of the prompt."""

    message_id: MessageId
    tokens: int
    matched: tuple[str, ...] = field(default=(), repr=False)  # empty: it stood beside one
    recalled_for: MessageId | None = None  # an earlier prompt; None: the turn's own
    conversation_id: ConversationId | None = (
        None  # another one; None: its own, or an earlier prompt's
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What was sent, and the tokens of each part, leaning high; they add up to *prompt_tokens*."""

    policy: str  # "full", "window", "summary", "retrieval"
    model: str
    instructions: str = field(repr=False)
    instructions_tokens: int
    facts: tuple[tuple[FactId, str], ...] = field(default=(), repr=False)
    facts_tokens: int = 0
    summary: RunningSummary | None = None
    summary_tokens: int = 0
    kept: tuple[tuple[int, int], ...] = ()  # the seq of each message word for word, and its tokens
    recalled: tuple[RecalledNote, ...] = ()
    asked_tokens: int = 0  # of the prompt itself
    frame_tokens: int = 0  # what stands around all of these
    summarised: int = 0  # messages that the summary stands for
    omitted: int = 0  # messages seen in no form
    prompt_tokens: int
    reply_tokens: int  # kept free for the reply, at most
    start_seq: int
    epoch_seq: int = 0
    # what was known of the model as the turn began: kind of text, ratio, seen. The next turn counts by it
    rates: tuple[tuple[str, float, float], ...] = ()
    has_thoughts: bool = False

    @classmethod
    def of(
        cls,
        policy: MemoryPolicy,
        model: str,
        history: History,
        plan: ContextPlan,
        rates: Rates | None = None,
    ) -> "Receipt":
        """What *plan*, made of *history*, shows; and what is known of *model*."""
        seqs = {message.id: message.seq for message in history.past}
        facts = {fact.id: fact for fact in history.facts}
        tokens = tokens_by_kind(plan.parts)
        said_in = {each.message.id: each.conversation_id for each in plan.recalled}
        has_summary = tokens[PartKind.SUMMARY] > 0
        return cls(
            policy=policy_name(policy),
            model=model,
            instructions=history.instructions,
            instructions_tokens=tokens[PartKind.INSTRUCTIONS],
            facts=tuple(_kept_fact(facts[fact_id]) for fact_id in plan.facts),
            facts_tokens=tokens[PartKind.FACTS],
            summary=history.summary if has_summary else None,
            summary_tokens=tokens[PartKind.SUMMARY],
            kept=tuple(
                (seqs[part.message_id], part.tokens)
                for part in plan.parts
                if part.kind is PartKind.KEPT and part.message_id
            ),
            recalled=tuple(
                RecalledNote(
                    message_id=part.message_id,
                    tokens=part.tokens,
                    matched=part.matched,
                    recalled_for=part.recalled_for,
                    conversation_id=said_in.get(part.message_id),
                )
                for part in plan.parts
                if part.kind is PartKind.RECALLED and part.message_id
            ),
            asked_tokens=tokens[PartKind.PROMPT],
            frame_tokens=tokens[PartKind.FRAME],
            summarised=len(plan.summarised),
            omitted=len(plan.omitted),
            prompt_tokens=plan.prompt_tokens,
            reply_tokens=plan.reply_tokens,
            start_seq=plan.start_seq,
            epoch_seq=plan.epoch_seq,
            rates=_written_rates(rates) if rates else (),
            has_thoughts=rates is not None and rates.has_thoughts,
        )

    @classmethod
    def read(cls, text: str) -> "Receipt | None":
        """The receipt that `written` wrote; None for one that this version cannot read."""
        try:
            return _DOCUMENT.validate_json(text)
        except ValidationError:  # its own text would repeat what people wrote
            return None

    def written(self) -> str:
        return _DOCUMENT.dump_json(self, exclude_defaults=True).decode()

    def known_rates(self) -> Rates:
        """What was known of the model, as near as it was kept."""
        by_kind = {kind: Rate(ratio, seen) for kind, ratio, seen in self.rates}
        return Rates(by_kind, self.has_thoughts)

    def tokens_by_kind(self) -> Counter[PartKind]:
        """What each kind of part takes."""
        return Counter(
            {
                PartKind.INSTRUCTIONS: self.instructions_tokens,
                PartKind.FACTS: self.facts_tokens,
                PartKind.SUMMARY: self.summary_tokens,
                PartKind.KEPT: sum(tokens for _, tokens in self.kept),
                PartKind.RECALLED: sum(note.tokens for note in self.recalled),
                PartKind.PROMPT: self.asked_tokens,
                PartKind.FRAME: self.frame_tokens,
            }
        )

    def recalled_here(self) -> tuple[MessageId, ...]:
        """What was recalled for the turn's own prompt."""
        return tuple(note.message_id for note in self.recalled if note.recalled_for is None)


def policy_name(policy: MemoryPolicy) -> str:
    """A policy as it is spelt in SQL."""
    return type(policy).__name__.lower()


def tokens_by_kind(parts: Iterable[Part]) -> Counter[PartKind]:
    """What each kind of part takes."""
    tokens = Counter[PartKind]()
    for part in parts:
        tokens[part.kind] += part.tokens
    return tokens


def _written_rates(rates: Rates) -> tuple[tuple[str, float, float], ...]:
    """In one order, and finer than they are known."""
    return tuple(
        (kind, round(rate.ratio, 4), round(rate.seen, 2))
        for kind, rate in sorted(rates.by_kind.items())
    )


def _kept_fact(fact: Fact) -> tuple[FactId, str]:
    return fact.id, fact.text


_DOCUMENT = TypeAdapter(Receipt)
