"""The pieces of attachments in a store that keeps tables."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from services.domain import AttachmentId, ConversationId, MessageId
from services.domain.rows import SearchTextRow
from services.rules import ACCOUNT_FULL, NOT_FOUND, STALE, Refusal
from services.store.rows import PieceRow
from services.store.tables import schema
from services.store.tables.blocks import accepted, atomic, delete_all
from services.store.tables.content import TablesContent, counts_of, text_bytes
from services.store.tables.protocol import Block, Range, Table
from services.store.tables.schema import Counts
from services.store.writes import PutPiece

Content = TypeVar("Content", PutPiece, SearchTextRow)

SLICE = 20  # maximum pieces or search texts that one block destroys: Firestore commits at most 10 MiB at once


class TablesPieces(TablesContent):
    """The pieces of one user's attachments."""

    def put_piece(self, write: PutPiece) -> None:
        self._open_minute()
        accepted("put_piece", self.tables.run(lambda block: self._put_piece(block, write)))

    def _put_piece(self, block: Block, write: PutPiece) -> Refusal | None:
        row, counts = self._found(block, write.conversation_id), counts_of(block)
        known = block.get(schema.PIECES, schema.PIECES.key(write))
        if row is None or row.destroy_at:
            return NOT_FOUND
        if known == write:
            return None
        if self.budget(block).is_full(self.most_bytes):
            return ACCOUNT_FULL
        if known:
            return STALE
        block.put(schema.PIECES, write)
        return self._put(block, row, row, counts, text_bytes(write))

    @atomic
    def pieces(
        self,
        block: Block,
        conversation_id: ConversationId,
        message_id: MessageId,
        attachment_id: AttachmentId,
        numbers: range,
    ) -> list[PieceRow]:
        where = {
            "conversation_id": conversation_id,
            "message_id": message_id,
            "attachment_id": attachment_id,
        }
        within = Range("number", above=numbers.start - 1, up_to=numbers.stop - 1)
        return [
            PieceRow(one.number, one.piece_body)
            for one in block.select(schema.PIECES, where, within)
        ]

    def _destroy_slice(
        self, block: Block, counts: Counts, table: Table[Content], *chosen: Mapping[str, object]
    ) -> bool:
        """Destroy at most `SLICE` rows of *table*, pieces or search texts, that match one of the selections *chosen*.

        All rows of a selection belong to one conversation. Return True if there were any.
        """
        for where in chosen:
            if rows := block.select(table, where, limit=SLICE):
                self._destroy_content(block, counts, table, rows)
                return True
        return False

    def _destroy_content(
        self, block: Block, counts: Counts, table: Table[Content], rows: Sequence[Content]
    ) -> None:
        """Destroy *rows* of *table*, which belong to one conversation, and free their bytes."""
        chat = block.get(schema.CONVERSATIONS, rows[0].conversation_id)
        delete_all(block, table, rows)
        freed = text_bytes(*rows)
        block.put(schema.COUNTS, counts.with_content(-freed))
        if chat:
            block.put(schema.CONVERSATIONS, replace(chat, bytes=chat.bytes - freed))
