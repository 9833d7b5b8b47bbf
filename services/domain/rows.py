"""The stored rows of conversations, messages, search texts and documents, with plain columns and encrypted texts."""

import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, StrEnum, auto
from typing import Annotated
from uuid import UUID

from services.domain import ConversationId, MessageId, Outcome, Role, SpaceId, TurnId


class FieldKind(Enum):
    """The kinds of fields in the dataclasses that describe writes to a store.

    A field's annotation can state its kind. Without one, the kind follows from the field's type: ID, NUMBER, NAME for an
    enum member, or TEXT for a plain string.
    """

    ID = auto()
    NUMBER = auto()
    NAME = auto()  # a name from the code: an enum member, or a string that is not a user's text
    SEALED = auto()
    TEXT = auto()  # any other string: free text, JSON, or ids separated by commas
    # needed only by a store with one file per conversation, to find the file; other stores ignore the field
    IMPLIED = auto()


Name = Annotated[str, FieldKind.NAME]
Sealed = Annotated[str, FieldKind.SEALED]
SEARCH_TEXT = "text"  # the kind of search texts that contain messages; spelt as in SQL


class DocumentKind(StrEnum):
    """The kinds of sealed documents; spelt as in SQL."""

    PREFERENCES = "preferences"
    SPACE = "space"
    FACT = "fact"
    INSTRUCTIONS = "instructions"  # the instructions of a conversation are stored in its row
    SUMMARY = "summary"  # the summary of a conversation is stored in its row


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentRow:
    """An encrypted document. The id of preferences is the user's; that of instructions and summaries is the conversation's."""

    kind: DocumentKind
    id: UUID
    rev: int = 0  # 0: not stored yet
    body: str | None = field(default=None, repr=False)
    created_at: datetime | None = None
    # the conversation that the document belongs to; for a fact, the only conversation in which it applies
    conversation_id: ConversationId | None = None
    space_id: SpaceId | None = None  # for a fact, the only space in which it applies


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedConversation:
    """A new conversation to store, with encrypted texts."""

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
    """A stored conversation. The defaults are the values of a new conversation."""

    titled_by: str = "words"
    rev: int = 0
    reset_seq: int = 0
    start_seq: int = 0
    last_seq: int = 0
    read_seq: int = 0
    facts_seq: int = 0
    state: ConversationState = ConversationState.ACTIVE
    pinned_at: datetime | None = None
    # the time until which a deleted conversation is hidden and can be restored; None: it is not deleted
    destroy_at: datetime | None = None
    undo_until: datetime | None = None
    created_at: datetime
    updated_at: datetime
    instructions: str | None = field(default=None, repr=False)
    instructions_rev: int = 0
    summary: str | None = field(default=None, repr=False)
    summary_rev: int = 0

    @property
    def title_hash(self) -> str:
        return hashlib.sha256(self.title.encode()).hexdigest()

    @property
    def is_unread(self) -> bool:
        return self.last_seq > self.read_seq

    @property
    def choices(self) -> str:
        """The columns that, besides the messages, affect the next turn; formatted as by the SQL function `private.poll`."""
        texts = self.instructions_rev, self.summary_rev, self.reset_seq
        chosen = self.policy, self.policy_size, self.model, self.space_id
        return " ".join(str(one) for one in (*texts, *chosen) if one is not None)

    def text(self, kind: DocumentKind) -> DocumentRow:
        """Return the conversation's instructions or summary, according to *kind*."""
        is_summary = kind is DocumentKind.SUMMARY
        rev = self.summary_rev if is_summary else self.instructions_rev
        body = self.summary if is_summary else self.instructions
        return DocumentRow(kind=kind, id=self.id, rev=rev, body=body, conversation_id=self.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRow:
    """A stored message. Its body and its list of attachments are encrypted."""

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
    # the time until which a deleted message is hidden and can be restored; None: it is not deleted
    destroy_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchTextRow:
    """An encrypted search text: a copy of the messages from the seq *number* to *last_seq*."""

    conversation_id: ConversationId
    kind: Name = SEARCH_TEXT
    number: int
    last_seq: int
    body: Sealed = field(repr=False)
