"""The sweep over tables: the rows of one user that were deleted are destroyed in slices."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from uuid import UUID

from services.domain import ConversationId
from services.rules.messages import is_due
from services.rules.turns import Turn
from services.store.rows import DocumentKind, MessageRow
from services.store.tables.content import counts_of, own_bytes, text_bytes
from services.store.tables.documents import TablesDocuments
from services.store.tables.protocol import Block, Range
from services.store.tables.schema import (
    CONVERSATIONS,
    COUNTS,
    DISCARDS,
    DOCUMENTS,
    ERASURES,
    MESSAGES,
    RECEIPTS,
    THOUGHTS,
    TURNS,
    Counts,
    Erasure,
    StoredConversation,
)

_SLICE = 60  # rows that a block destroys, each with a few related ones
# receipts destroyed beside them: a prompt may have been answered any number of times
_MOST_RECEIPTS = 200


class TablesSweep(TablesDocuments):
    """Destroys what one user deleted."""

    def destroy_due(self) -> None:
        """Destroy hidden rows whose time for Undo is over, in slices."""
        due = Range("destroy_at", up_to=self.now())

        def find(block: Block) -> list[Callable[[Block], bool]]:
            erasures, discards = block.select(ERASURES), block.select(DISCARDS, within=due)
            rows = block.select(CONVERSATIONS, within=due)
            return [
                *(lambda block, one=one: self._erase(block, one) for one in erasures),
                *(lambda block, one=one: self._destroy_discard(block, one.id) for one in discards),
                *(lambda block, one=one: self._destroy_conversation(block, one.id) for one in rows),
            ]

        for destroy in self.tables.run(find):
            while self.tables.run(destroy):
                pass

    def _erase(self, block: Block, erasure: Erasure) -> bool:
        """Destroy a slice of the rows that an erasure hides; return True if there may be more."""
        counts, chats = counts_of(block), list[StoredConversation]()
        if erasure.space_id:
            where: dict[str, object] = {"space_id": erasure.space_id}
            facts = block.select(DOCUMENTS, where, limit=_SLICE)
            chats = block.select(CONVERSATIONS, where, limit=_SLICE)
        elif erasure.fact_ids:
            facts = [one for key in erasure.fact_ids if (one := block.get(DOCUMENTS, key))][:_SLICE]
        else:
            epochs = Range("epoch", up_to=erasure.fact_epoch)
            where = {"kind": DocumentKind.FACT}
            facts = block.select(DOCUMENTS, where, within=epochs, limit=_SLICE)
        for fact in facts:
            block.delete(DOCUMENTS, fact.id)
        for chat in chats:
            block.put(CONVERSATIONS, replace(chat, space_id=None))
        if not facts and not chats:
            block.delete(ERASURES, erasure.id)
            return False
        freed = text_bytes(*(fact.body for fact in facts))
        block.put(COUNTS, replace(counts, bytes=counts.bytes - freed))
        return True

    def _destroy_discard(self, block: Block, discard_id: UUID) -> bool:
        discard, now = block.get(DISCARDS, discard_id), self.now()
        if discard is None or not is_due(discard.destroy_at, now):
            return False
        chat = block.get(CONVERSATIONS, discard.conversation_id)
        if chat and is_due(chat.destroy_at, now) and self._has_open_turn(block, chat.id):
            return False
        ids, rest = discard.message_ids[-_SLICE:], discard.message_ids[:-_SLICE]
        rows, counts = [row for one in ids if (row := block.get(MESSAGES, one))], counts_of(block)
        listed = [row for row in rows if row.attachments]
        where = [{"conversation_id": row.conversation_id, "message_id": row.id} for row in listed]
        if chat and is_due(chat.undo_until, now):
            chat = replace(chat, undo_until=None)
        if self._destroy_pieces(block, counts, *where):
            return True
        if not self._destroy(block, rows, counts, chat):
            return True
        if rest:
            block.put(DISCARDS, replace(discard, message_ids=rest))
        else:
            block.delete(DISCARDS, discard_id)
        return bool(rest)

    def _destroy(
        self,
        block: Block,
        rows: Sequence[MessageRow],
        counts: Counts,
        chat: StoredConversation | None,
    ) -> bool:
        """Destroy messages of *chat* with their thoughts, and the receipts of their turns.

        If there are too many receipts for one block, destroy only some of them and return False.
        """
        turn_ids = {row.turn_id for row in rows if row.turn_id}
        for row in rows:
            turn_ids |= {turn.id for turn in block.select(TURNS, {"prompt_id": row.id})}
        thoughts = [one for row in rows if (one := block.get(THOUGHTS, row.id))]
        receipts = [one for turn_id in turn_ids if (one := block.get(RECEIPTS, turn_id))]
        if is_slice := len(receipts) > _MOST_RECEIPTS:
            rows, thoughts, receipts = rows[:0], thoughts[:0], receipts[:_MOST_RECEIPTS]
        for row in rows:
            block.delete(MESSAGES, row.id)
            block.delete(THOUGHTS, row.id)
        for receipt in receipts:
            block.delete(RECEIPTS, receipt.turn_id)
        bodies = (one.body for one in (*rows, *receipts))
        lists = (row.attachments for row in rows)
        freed = text_bytes(*bodies, *lists, *(one.thoughts for one in thoughts))
        block.put(COUNTS, counts.with_content(-freed))
        if chat:
            block.put(CONVERSATIONS, replace(chat, bytes=chat.bytes - freed))
        return not is_slice

    def _has_open_turn(self, block: Block, conversation_id: ConversationId) -> bool:
        where = {"conversation_id": conversation_id, "finished_at": None}
        return bool(block.select(TURNS, where, limit=1))

    def _destroy_conversation(self, block: Block, conversation_id: ConversationId) -> bool:
        """Destroy a slice of a conversation; at last its row."""
        row, counts = block.get(CONVERSATIONS, conversation_id), counts_of(block)
        if row is None or not is_due(row.destroy_at, self.now()):
            return False
        if self._has_open_turn(block, conversation_id):
            return False
        where = {"conversation_id": conversation_id}
        if self._destroy_pieces(block, counts, where):
            return True
        messages = block.select(MESSAGES, where, order=("-seq",), limit=_SLICE)
        if messages:
            self._destroy(block, messages, counts, row)
            return True
        turns = block.select(TURNS, where, limit=_SLICE)
        receipts = [one for turn in turns if (one := block.get(RECEIPTS, turn.id))]
        facts = block.select(DOCUMENTS, where, limit=_SLICE)
        discards = block.select(DISCARDS, where, limit=_SLICE)
        shown = [
            one for one in facts if one.kind is DocumentKind.FACT and one.epoch >= counts.fact_epoch
        ]
        counts = counts.with_content(-text_bytes(*(one.body for one in receipts)))
        freed = text_bytes(*(one.body for one in facts))
        for turn in turns:
            block.put(TURNS, forgotten(turn))
            block.delete(RECEIPTS, turn.id)
        for fact in facts:
            block.delete(DOCUMENTS, fact.id)
        for discard in discards:
            block.delete(DISCARDS, discard.id)
        is_left = bool(turns or facts or discards)
        if not is_left:
            block.delete(CONVERSATIONS, conversation_id)
            freed += own_bytes(row)
        counts = replace(
            counts,
            facts=counts.facts - len(shown),
            conversations=counts.conversations - (not is_left),
            discarded=counts.discarded - (not is_left),
            bytes=counts.bytes - freed,
        )
        block.put(COUNTS, counts)
        return is_left


def forgotten(turn: Turn) -> Turn:
    """A turn without its conversation and its texts; its cost stays."""
    return replace(turn, conversation_id=None, partial=None, partial_thoughts=None)
