"""What rows look like as the API sends them; they become domain types where they were fetched."""

from datetime import datetime
from enum import StrEnum
from typing import assert_never
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from services.domain import (
    Full,
    MemoryPolicy,
    Outcome,
    Retrieval,
    Role,
    RunningSummary,
    Summary,
    Window,
)
from services.store.gateway import Moment


class ConversationState(StrEnum):
    """Where a conversation is kept; spelt as in SQL."""

    ACTIVE = "active"
    ARCHIVED = "archived"


class ConversationRow(BaseModel):
    """public.conversations; texts are sealed."""

    id: UUID
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
    created_at: Moment
    updated_at: Moment
    model: str | None
    space_id: UUID | None
    instructions: str | None = None
    summary: str | None = None


class SummaryDocument(BaseModel):
    """What is sealed in `ConversationRow.summary`."""

    model_config = ConfigDict(extra="allow", hide_input_in_errors=True)

    text: str = Field(repr=False)
    from_seq: int
    up_to_seq: int
    made_at: datetime
    is_edited: bool = False

    @classmethod
    def of(cls, summary: RunningSummary) -> "SummaryDocument":
        return cls(
            text=summary.text,
            from_seq=summary.from_seq,
            up_to_seq=summary.up_to_seq,
            made_at=summary.made_at,
            is_edited=summary.is_edited,
        )

    def summary(self) -> RunningSummary:
        return RunningSummary(
            text=self.text,
            from_seq=self.from_seq,
            up_to_seq=self.up_to_seq,
            made_at=self.made_at,
            is_edited=self.is_edited,
        )


class MessageRow(BaseModel):
    """public.messages; the body is sealed."""

    id: UUID
    seq: int
    parent_id: UUID | None
    turn_id: UUID | None
    role: Role
    outcome: Outcome
    body: str
    created_at: Moment


class TurnState(StrEnum):
    """Where a turn stands; spelt as in SQL."""

    RESERVED = "reserved"
    STREAMING = "streaming"
    COMPLETE = "complete"
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
    """public.turns, as far as somebody else has to know of it."""

    id: UUID
    state: TurnState
    prompt_id: UUID | None
    partial: str | None
    lease_until: Moment


class CostRow(BaseModel):
    """public.turns, as its books have it."""

    id: UUID
    state: TurnState
    model: str
    tokens_in: int
    tokens_out: int
    tokens_cached: int
    charged_micro: int


class NameRow(BaseModel):
    """public.turns, by the app's own name for it."""

    client_turn_id: UUID


class ReceiptRow(BaseModel):
    """public.receipts, each with its turn; the body is sealed."""

    turn_id: UUID
    body: str
    turns: NameRow


CONVERSATION_ROWS = TypeAdapter(list[ConversationRow])
MESSAGE_ROWS = TypeAdapter(list[MessageRow])
TURN_ROWS = TypeAdapter(list[TurnRow])
COST_ROWS = TypeAdapter(list[CostRow])
RECEIPT_ROWS = TypeAdapter(list[ReceiptRow])
# what to select for each of them
CONVERSATION_COLUMNS = ",".join(ConversationRow.model_fields)
# many at once, without what may be long
_LONG = {"instructions", "summary"}
LISTED_COLUMNS = ",".join(name for name in ConversationRow.model_fields if name not in _LONG)
MESSAGE_COLUMNS = ",".join(MessageRow.model_fields)
TURN_COLUMNS = ",".join(TurnRow.model_fields)
COST_COLUMNS = ",".join(CostRow.model_fields)
RECEIPT_COLUMNS = "turn_id,body,turns(client_turn_id)"


def policy_of(row: ConversationRow) -> MemoryPolicy:
    return policy_named(row.policy, row.policy_size)


def policy_named(name: str, size: int | None) -> MemoryPolicy:
    match name:
        case "full":
            return Full()
        case "summary":
            return Summary()
        case "retrieval":
            return Retrieval()
        case _:
            return Window(size) if size else Window()


def policy_columns(policy: MemoryPolicy) -> tuple[str, int | None]:
    match policy:
        case Full():
            return "full", None
        case Window(messages):
            return "window", messages
        case Summary():
            return "summary", None
        case Retrieval():
            return "retrieval", None
        case _:
            assert_never(policy)
