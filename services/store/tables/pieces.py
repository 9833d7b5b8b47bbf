"""Pieces of attachments over tables."""

from collections.abc import Mapping
from dataclasses import replace

from services.domain import AttachmentId, ConversationId, MessageId
from services.rules import ACCOUNT_FULL, NOT_FOUND, STALE, Refusal
from services.store.rows import PieceRow
from services.store.tables.content import TablesContent, counts_of
from services.store.tables.protocol import Block, Range
from services.store.tables.schema import CONVERSATIONS, COUNTS, PIECES, Counts
from services.store.writes import PutPiece

_SLICE = 60  # rows that a block destroys


class TablesPieces(TablesContent):
    """The pieces of one user."""

    def put_piece(self, write: PutPiece) -> None:
        def put(block: Block) -> Refusal | None:
            row = self._found(block, write.conversation_id)
            known = block.get(PIECES, PIECES.key(write))
            if row is None or row.destroy_at:
                return NOT_FOUND
            if known == write:
                return None
            if self.budget(block).is_full(self.most_bytes):
                return ACCOUNT_FULL
            if known:
                return STALE
            counts = counts_of(block)
            block.put(PIECES, write)
            return self._put(block, row, row, counts, len(write.piece_body))

        self._run("put_piece", put)

    def pieces(
        self,
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
        found = self.tables.run(lambda block: block.select(PIECES, where, within=within))
        return [PieceRow(one.number, one.piece_body) for one in found]

    def _destroy_pieces(self, block: Block, counts: Counts, *chosen: Mapping[str, object]) -> bool:
        """Destroy a slice of the pieces that one of *chosen* selects; return True if there were any."""
        for where in chosen:
            if pieces := block.select(PIECES, where, limit=_SLICE):
                row = block.get(CONVERSATIONS, pieces[0].conversation_id)
                for piece in pieces:
                    block.delete(PIECES, PIECES.key(piece))
                freed = sum(len(piece.piece_body) for piece in pieces)
                block.put(COUNTS, counts.with_content(-freed))
                if row:
                    block.put(CONVERSATIONS, replace(row, bytes=row.bytes - freed))
                return True
        return False
