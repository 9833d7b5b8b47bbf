"""The rows of conversations, messages and documents: plain columns, and texts that are sealed."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, StrEnum, auto
from typing import Annotated
from uuid import UUID

from services.domain import ConversationId, MessageId, Outcome, Role, SpaceId, TurnId


class FieldKind(Enum):
    """The kinds of fields. Types show an id, a number and the member of an enum; other text is free text."""

    ID = auto()
    NUMBER = auto()
    NAME = auto()  # a name from the code: an enum, or a string that no user wrote
    SEALED = auto()
    TEXT = auto()  # free text; a value as JSON, or ids with commas between
    IMPLIED = (
        auto()
    )  # a database does not need it; a store of one file a conversation finds the file by it


Name = Annotated[str, FieldKind.NAME]
Sealed = Annotated[str, FieldKind.SEALED]


class DocumentKind(StrEnum):
    """The kinds of sealed documents; spelt as in SQL."""

    PREFERENCES = "preferences"
    SPACE = "space"
    FACT = "fact"
    INSTRUCTIONS = "instructions"  # of a conversation, stored in its row
    SUMMARY = "summary"  # of a conversation, stored in its row
    SEARCH_TEXT = "search_text"  # of a conversation, with the conversation's id


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentRow:
    """A sealed document. The id of preferences is the user's; that of instructions and of a summary, the conversation's."""

    kind: DocumentKind
    id: UUID
    rev: int = 0  # 0: not stored yet
    body: str | None = field(default=None, repr=False)
    created_at: datetime | None = None
    # the scope of a fact, or the conversation of a text
    conversation_id: ConversationId | None = None
    space_id: SpaceId | None = None  # the scope of a fact


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedConversation:
    """A new conversation; texts are sealed."""

    id: ConversationId
    title: Sealed = field(repr=False)
    wrapped_key: Sealed = field(repr=False)
    key_version: int
    user_key_version: int
    head: Sealed = field(repr=False)
    policy: Name
    policy_size: int | None
    model: str | None
    instructions: Sealed | None = field(repr=False)
    space_id: SpaceId | None


class ConversationState(StrEnum):
    """The state of a conversation; spelt as in SQL."""

    ACTIVE = "active"
    ARCHIVED = "archived"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationRow(SealedConversation):
    """A stored conversation; the defaults are those of a new one."""

    titled_by: str = "words"
    rev: int = 0
    reset_seq: int = 0
    start_seq: int = 0
    last_seq: int = 0
    read_seq: int = 0
    facts_seq: int = 0
    state: ConversationState = ConversationState.ACTIVE
    pinned_at: datetime | None = None
    # discarded: hidden from readers, but kept for a turn that ends in it
    destroy_at: datetime | None = None
    undo_until: datetime | None = None
    created_at: datetime
    updated_at: datetime
    instructions: str | None = field(default=None, repr=False)
    instructions_rev: int = 0
    summary: str | None = field(default=None, repr=False)
    summary_rev: int = 0

    def text(self, kind: DocumentKind) -> DocumentRow:
        """Return its instructions or its summary."""
        is_summary = kind is DocumentKind.SUMMARY
        rev = self.summary_rev if is_summary else self.instructions_rev
        body = self.summary if is_summary else self.instructions
        return DocumentRow(kind=kind, id=self.id, rev=rev, body=body, conversation_id=self.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRow:
    """A message; the body and the list of attachments are sealed."""

    id: MessageId
    conversation_id: ConversationId
    seq: int
    parent_id: MessageId | None
    turn_id: TurnId | None
    role: Role
    outcome: Outcome
    body: str = field(repr=False)
    attachments: str | None = field(default=None, repr=False)
    has_thoughts: bool
    created_at: datetime
    destroy_at: datetime | None  # deleted: hidden from readers
