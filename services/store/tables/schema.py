"""The tables of one user, and the rows that no port has."""

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from services.domain import ConversationId, MessageId
from services.rules.budget import Budget
from services.rules.turns import Entry, Turn
from services.store.rows import ConversationRow, DocumentRow, MessageRow, ReceiptRow, ThoughtsRow
from services.store.tables.protocol import Table
from services.store.writes import PutPiece


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """The figures that limits compare, counted as rows are written."""

    conversations: int = 0  # discarded ones too
    facts: int = 0
    spaces: int = 0
    bytes: int = 0  # of all sealed texts, without keys and heads
    fact_epoch: int = 0  # facts of earlier ones are deleted


@dataclass(frozen=True, slots=True, kw_only=True)
class Document(DocumentRow):
    """A stored document."""

    epoch: int = 0  # of a fact: `Counts.fact_epoch` when it was stored


@dataclass(frozen=True, slots=True, kw_only=True)
class Discard:
    """Messages that were deleted together: hidden by this one row, and destroyed after it is due."""

    id: UUID
    conversation_id: ConversationId
    message_ids: tuple[MessageId, ...]
    destroy_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """A deleted space, or all facts up to an epoch: the sweep destroys what it hides in slices."""

    id: UUID
    space_id: UUID | None
    fact_epoch: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRow(Entry):
    """An entry of the ledger; ids are in the order of time."""

    id: str = field(repr=False)


BUDGETS = Table("budgets", Budget, lambda _: "budget")
COUNTS = Table("counts", Counts, lambda _: "counts")
CONVERSATIONS = Table(
    "conversations",
    ConversationRow,
    lambda row: row.id,
    frozenset({"state", "space_id", "destroy_at", "pinned_at", "updated_at"}),
)
MESSAGES = Table(
    "messages", MessageRow, lambda row: row.id, frozenset({"conversation_id", "seq", "parent_id"})
)
THOUGHTS = Table("thoughts", ThoughtsRow, lambda row: row.id)
PIECES = Table(
    "pieces",
    PutPiece,
    lambda row: f"{row.message_id} {row.attachment_id} {row.number}",
    frozenset({"conversation_id", "message_id", "attachment_id", "number"}),
)
DISCARDS = Table(
    "discards", Discard, lambda row: row.id, frozenset({"conversation_id", "destroy_at"})
)
TURNS = Table(
    "turns",
    Turn,
    lambda row: row.id,
    frozenset(
        {
            "client_turn_id",
            "conversation_id",
            "purpose",
            "prompt_id",
            "state",
            "begun_at",
            "finished_at",
        }
    ),
)
RECEIPTS = Table("receipts", ReceiptRow, lambda row: row.turn_id)
DOCUMENTS = Table(
    "documents",
    Document,
    lambda row: row.id,
    frozenset({"kind", "conversation_id", "space_id", "epoch"}),
)
ERASURES = Table("erasures", Erasure, lambda row: row.id)
LEDGER = Table("ledger", LedgerRow, lambda row: row.id, frozenset({"id", "day"}))
