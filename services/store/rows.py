"""What rows look like as the API sends them; they become domain types where they were fetched."""

from enum import StrEnum
from typing import NewType
from uuid import UUID

from pydantic import BaseModel

from services.domain import (
    ConversationId,
    Full,
    MemoryPolicy,
    MessageId,
    Outcome,
    Retrieval,
    Role,
    SpaceId,
    Summary,
    TurnId,
    Window,
)
from services.store.supabase.api import IdentifiedRow, Moment, Table

ClientTurnId = NewType("ClientTurnId", UUID)  # the app's own name for a turn


class ConversationState(StrEnum):
    """Where a conversation is kept; spelt as in SQL."""

    ACTIVE = "active"
    ARCHIVED = "archived"


class ConversationRow(IdentifiedRow, frozen=True):
    """public.conversations; texts are sealed."""

    id: ConversationId
    title: str | None
    titled_by: str
    wrapped_key: str
    key_version: int
    user_key_version: int
    head: str
    rev: int
    policy: str
    policy_size: int | None
    reset_seq: int
    start_seq: int
    last_seq: int
    read_seq: int
    state: ConversationState
    pinned_at: Moment | None
    destroy_at: Moment | None  # discarded: there for the turn that ends in it, and for no reader
    undo_until: Moment | None
    created_at: Moment
    updated_at: Moment
    model: str | None
    space_id: SpaceId | None
    instructions: str | None = None
    summary: str | None = None


class MessageRow(IdentifiedRow, frozen=True):
    """public.messages; the body is sealed."""

    id: MessageId
    seq: int
    parent_id: MessageId | None
    turn_id: TurnId | None
    role: Role
    outcome: Outcome
    body: str
    has_thoughts: bool
    created_at: Moment
    destroy_at: Moment | None  # deleted: for no reader


class ThoughtsRow(IdentifiedRow, frozen=True):
    """public.messages: the sealed thoughts of one that has some."""

    id: MessageId
    thoughts: str


class TurnState(StrEnum):
    """Where a turn stands; spelt as in SQL."""

    RESERVED = "reserved"
    STREAMING = "streaming"
    COMPLETE = "complete"
    CUT = "cut"
    STOPPED = "stopped"
    FAILED = "failed"
    LAPSED = "lapsed"
    INTERRUPTED = "interrupted"

    @property
    def is_open(self) -> bool:
        return self in (TurnState.RESERVED, TurnState.STREAMING)

    @property
    def is_final(self) -> bool:
        """Whether its cost changes no more: a lapsed turn may still be finished late."""
        return not self.is_open and self is not TurnState.LAPSED


class TurnRow(BaseModel):
    """public.turns, as far as another process has to know of it."""

    id: TurnId
    state: TurnState
    prompt_id: MessageId | None
    partial: str | None
    partial_thoughts: str | None
    begun_at: Moment
    lease_until: Moment


class CostRow(BaseModel):
    """public.turns: what one used and cost."""

    id: TurnId
    state: TurnState
    model: str
    tokens_in: int
    tokens_out: int
    tokens_cached: int
    charged_micro: int


class NameRow(BaseModel):
    """public.turns, by the app's own name for it."""

    client_turn_id: ClientTurnId


class ReceiptRow(BaseModel):
    """public.receipts, each with its turn; the body is sealed."""

    turn_id: TurnId
    body: str
    turns: NameRow


CONVERSATIONS = Table("conversations", ConversationRow)
# many at once, without what may be long
_LONG = {"instructions", "summary"}
LISTED_CONVERSATIONS = Table(
    "conversations",
    ConversationRow,
    ",".join(name for name in ConversationRow.model_fields if name not in _LONG),
)
MESSAGES = Table("messages", MessageRow)
THOUGHTS = Table("messages", ThoughtsRow)
TURNS = Table("turns", TurnRow)
COSTS = Table("turns", CostRow)
RECEIPTS = Table("receipts", ReceiptRow, "turn_id,body,turns(client_turn_id)")
_POLICIES: dict[str, MemoryPolicy] = {each.name: each for each in (Full(), Summary(), Retrieval())}


def policy_named(name: str, size: int | None) -> MemoryPolicy:
    return _POLICIES.get(name) or (Window(size) if size else Window())


def policy_columns(policy: MemoryPolicy) -> tuple[str, int | None]:
    return policy.name, policy.messages if isinstance(policy, Window) else None
