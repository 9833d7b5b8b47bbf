"""The places that sealed texts are bound to (services/crypto/keyring.py has the table)."""

from uuid import UUID

from services.crypto import Place
from services.domain import ConversationId, MessageId, Role, TurnId, UserId
from services.store.rows import DocumentKind, DocumentRow, MessageRow


def conversation_place(
    user_id: UserId, conversation_id: ConversationId, column: str, rev: int = 0
) -> Place:
    """The place of a text in the row of a conversation."""
    return Place(
        table="conversations",
        column=column,
        row_id=conversation_id,
        user_id=user_id,
        conversation_id=conversation_id,
        seq=rev,
    )


def message_place(
    user_id: UserId,
    conversation_id: ConversationId,
    message_id: MessageId,
    seq: int,
    parent_id: MessageId | None,
    role: Role,
    column: str = "body",
) -> Place:
    """The place of a text of a message."""
    return Place(
        table="messages",
        column=column,
        row_id=message_id,
        user_id=user_id,
        conversation_id=conversation_id,
        seq=seq,
        parent_id=parent_id,
        role=role,
    )


def row_place(user_id: UserId, row: MessageRow) -> Place:
    """The place of the body of a stored message."""
    return message_place(user_id, row.conversation_id, row.id, row.seq, row.parent_id, row.role)


def receipt_place(user_id: UserId, conversation_id: ConversationId, client_turn_id: UUID) -> Place:
    """The place of a receipt: sealed before the database has given the turn its id."""
    return Place(
        table="receipts",
        column="body",
        row_id=client_turn_id,
        user_id=user_id,
        conversation_id=conversation_id,
    )


def partial_place(
    user_id: UserId, conversation_id: ConversationId, turn_id: TurnId, column: str
) -> Place:
    """The place of a partial text of a turn."""
    return Place(
        table="turns",
        column=column,
        row_id=turn_id,
        user_id=user_id,
        conversation_id=conversation_id,
        role=Role.ASSISTANT,
    )


def document_place(user_id: UserId, row: DocumentRow) -> Place:
    """The place of a document at its revision."""
    if row.kind in (DocumentKind.INSTRUCTIONS, DocumentKind.SUMMARY):
        return conversation_place(user_id, ConversationId(row.id), row.kind, row.rev)
    return Place(
        table="documents",
        column=row.kind,
        row_id=row.id,
        user_id=user_id,
        conversation_id=row.conversation_id,
        seq=row.rev,
        parent_id=row.space_id,
    )
