"""Attachments: sealed pieces, which are stored before their message, and verified against its list of attachments."""

from collections.abc import Iterator

from services.domain import Attachment, AttachmentId, ConversationId, Message, MessageId
from services.store.rows import Rows
from services.store.sealed.answers import ask_twice
from services.store.sealed.opened import OpenedConversations
from services.store.writes import PutPiece

_AT_ONCE = 8  # the number of pieces that one call reads (3 MB)


class SealedAttachments:
    """Implements `Attachments` for one user, over sealed rows. Any thread may call any method."""

    def __init__(self, rows: Rows, opened: OpenedConversations) -> None:
        self._rows, self._opened = rows, opened

    def put_piece(
        self,
        conversation_id: ConversationId,
        message_id: MessageId,
        attachment_id: AttachmentId,
        number: int,
        octets: bytes,
    ) -> str:
        seals = self._opened.seals(conversation_id)
        body, mac = seals.piece(message_id, attachment_id, number, octets)
        write = PutPiece(
            conversation_id=conversation_id,
            message_id=message_id,
            attachment_id=attachment_id,
            number=number,
            piece_body=body,
        )
        ask_twice(lambda: self._rows.put_piece(write))
        return mac

    def read(
        self, conversation_id: ConversationId, message: Message, attachment: Attachment
    ) -> Iterator[bytes]:
        seals, end = self._opened.seals(conversation_id), len(attachment.macs) + 1
        for start in range(1, end, _AT_ONCE):
            numbers = range(start, min(start + _AT_ONCE, end))
            rows = self._rows.pieces(conversation_id, message.id, attachment.id, numbers)
            bodies = {row.number: row.body for row in rows}
            for number in numbers:
                yield seals.open_piece(message.id, attachment, number, bodies.get(number, ""))
