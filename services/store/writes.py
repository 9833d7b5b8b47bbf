"""Frozen dataclasses for the writes that have several fields; a field's type or annotation gives its `FieldKind`.

The Supabase store derives the arguments of its functions from these fields (services/store/supabase/arguments.py). The
arguments have the order and names of the fields, without the suffix `_id`; a nested dataclass is replaced by its fields.
"""

from dataclasses import dataclass, field
from typing import Annotated
from uuid import UUID

from services.domain import AttachmentId, ConversationId, FactId, MessageId, SpaceId, TurnId
from services.domain.rows import (
    DocumentKind,
    DocumentRow,
    FieldKind,
    Sealed,
    SealedConversation,
    SearchTextRow,
)
from services.domain.turns import Reservation, Settlement

# the id of the conversation that a turn belongs to; None: the turn has no conversation
TurnsConversation = Annotated[ConversationId, FieldKind.IMPLIED]


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedPrompt:
    """The prompt of a new turn, and the receipt of its context."""

    conversation_id: ConversationId
    expected_rev: int  # the conversation's revision before the prompt
    prompt_id: MessageId
    parent_id: MessageId | None = None
    # None: the prompt is stored already
    prompt_body: Sealed | None = field(default=None, repr=False)
    # the sealed list of the prompt's attachments
    prompt_attachments: Sealed | None = field(default=None, repr=False)
    new_head: Sealed | None = field(default=None, repr=False)
    new_start_seq: int
    receipt_body: Sealed | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class BeginTurn:
    """A turn to begin, with its reservation. Without a prompt, only the turn's cost is stored."""

    reservation: Reservation
    prompt: SealedPrompt | None = None
    # the new conversation, stored with its first prompt
    created: Annotated[SealedConversation, FieldKind.TEXT] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointTurn:
    """A heartbeat of a live turn, with its partial texts; a text that is None stays unchanged."""

    conversation_id: TurnsConversation | None = None
    turn_id: TurnId
    new_partial: Sealed | None = field(default=None, repr=False)
    new_thoughts: Sealed | None = field(default=None, repr=False)
    lease_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedReply:
    """The reply of a turn, and the conversation's head after the reply."""

    expected_rev: int  # the conversation's revision before the reply
    reply_id: MessageId
    # None: the turn ended without a reply
    reply_body: Sealed | None = field(default=None, repr=False)
    reply_thoughts: Sealed | None = field(default=None, repr=False)
    new_head: Sealed | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishTurn:
    """The end of a turn: its reply, and the settlement of its cost."""

    conversation_id: TurnsConversation | None = None
    settlement: Settlement
    reply: SealedReply | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PutPiece:
    """A piece of an attachment, stored before the message whose list of attachments names it."""

    conversation_id: ConversationId
    message_id: MessageId
    attachment_id: AttachmentId
    number: int  # the piece's number, from 1 to 1,000
    piece_body: Sealed = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PutSearchText:
    """A search text to store in place of those of the same conversation and kind with the numbers *replaced*."""

    row: SearchTextRow
    replaced: Annotated[tuple[int, ...], FieldKind.TEXT]
    cuts: int  # `Conversation.cuts` when the messages were read


@dataclass(frozen=True, slots=True, kw_only=True)
class EditReply:
    """Another version of a reply, written by the user and stored without a turn."""

    conversation_id: ConversationId
    expected_rev: int
    original_id: MessageId
    reply_id: MessageId
    reply_body: Sealed = field(repr=False)
    new_head: Sealed = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscardMessages:
    """Messages and facts to delete, and the head without these messages.

    The summary is deleted unless it equals *kept_summary*.
    """

    conversation_id: ConversationId
    expected_rev: int
    message_ids: Annotated[tuple[MessageId, ...], FieldKind.TEXT]
    fact_ids: Annotated[tuple[FactId, ...], FieldKind.TEXT]
    kept_summary: Sealed | None = field(repr=False)
    new_head: Sealed = field(repr=False)
    for_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreMessages:
    """Deleted messages to restore, and the head that includes them."""

    conversation_id: ConversationId
    expected_rev: int
    message_ids: Annotated[tuple[MessageId, ...], FieldKind.TEXT]
    new_head: Sealed = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PutDocument:
    """A document to store in place of the revision *seen_rev* (0: the document is new)."""

    new_kind: DocumentKind
    document_id: UUID
    conversation_id: ConversationId | None
    space_id: SpaceId | None
    seen_rev: int
    new_rev: int
    new_body: Sealed | None = field(repr=False)
    # the conversation that a fact was extracted from
    source_id: ConversationId | None = None
    cuts: int | None = None  # `Conversation.cuts` of the source or summarized conversation

    @classmethod
    def of(
        cls,
        row: DocumentRow,
        seen_rev: int,
        source_id: ConversationId | None = None,
        cuts: int | None = None,
    ) -> "PutDocument":
        return cls(
            new_kind=row.kind,
            document_id=row.id,
            conversation_id=row.conversation_id,
            space_id=row.space_id,
            seen_rev=seen_rev,
            new_rev=row.rev,
            new_body=row.body,
            source_id=source_id,
            cuts=cuts,
        )

    @property
    def needs_room(self) -> bool:
        """True if the write is refused when the account is full: a new document that the user wrote, not the model.

        Preferences need no room, because they are one document of bounded size.
        """
        others = DocumentKind.SUMMARY, DocumentKind.PREFERENCES
        return self.seen_rev == 0 and self.source_id is None and self.new_kind not in others

    @property
    def row(self) -> DocumentRow:
        return DocumentRow(
            kind=self.new_kind,
            id=self.document_id,
            rev=self.new_rev,
            body=self.new_body,
            conversation_id=self.conversation_id,
            space_id=self.space_id,
        )
