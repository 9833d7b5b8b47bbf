"""The sweep over tables, which destroys one user's deleted rows in slices."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from uuid import UUID

from services.domain import ConversationId
from services.domain.rows import DocumentKind, MessageRow
from services.errors import FileDamaged
from services.rules.messages import is_due
from services.rules.turns import Turn
from services.store.rows import ReceiptRow, ThoughtsRow
from services.store.tables import schema
from services.store.tables.blocks import delete_all, found
from services.store.tables.content import counts_of, first_slice, text_bytes
from services.store.tables.documents import TablesDocuments
from services.store.tables.protocol import Block, Range, StoredWrite
from services.store.tables.schema import Counts, StoredConversation

# maximum rows of one table that one block (transaction) destroys, each together with a few related rows
_SLICE = 60


class TablesSweep(TablesDocuments):
    """Destroys the rows that one user has deleted."""

    def destroy_due(self) -> bool:
        """Destroy deleted rows that can no longer be restored, in slices; return True if there were any such rows.

        While a turn of a deleted chat is open, the chat's rows are kept, and do not make the result True. If a file is
        damaged, the other rows are destroyed, and then FileDamaged is raised. Raise RuntimeError if two blocks in sequence
        destroy the same rows: the store keeps them, and the sweep would never end.
        """
        due = Range("destroy_at", up_to=self.now())

        def find(block: Block) -> list[Callable[[Block], bool]]:
            erasures = block.select(schema.ERASURES)
            discards = block.select(schema.DISCARDS, within=due)
            rows = block.select(schema.CONVERSATIONS, within=due)
            return [
                *(lambda block, one=one: self._erase(block, one.id) for one in erasures),
                *(lambda block, one=one: self._destroy_discard(block, one.id) for one in discards),
                *(lambda block, one=one: self._destroy_conversation(block, one.id) for one in rows),
            ]

        is_any, damaged = False, None
        for destroy in self.tables.run(find):
            last = None
            try:
                while (writes := self.tables.run(partial(_writes, destroy))) is not None:
                    if writes and writes == last:
                        raise RuntimeError("the store keeps rows that a block has deleted")
                    is_any, last = True, writes
            except FileDamaged as error:
                damaged = error
        if damaged:
            raise damaged
        return is_any

    def _erase(self, block: Block, erasure_id: UUID) -> bool:
        """Destroy a slice of the rows that an erasure hides; if there are none left, destroy the erasure itself.

        Return False if the erasure did not exist.
        """
        erasure = block.get(schema.ERASURES, erasure_id)
        # an earlier call destroyed the erasure, or its facts have been restored
        if erasure is None:
            return False
        counts, chats = counts_of(block), list[StoredConversation]()
        if erasure.space_id:
            where: dict[str, object] = {"space_id": erasure.space_id}
            facts = block.select(schema.DOCUMENTS, where, limit=_SLICE)
            chats = block.select(schema.CONVERSATIONS, where, limit=_SLICE)
        elif erasure.fact_ids:
            facts = found(block, schema.DOCUMENTS, erasure.fact_ids)[:_SLICE]
        else:
            epochs = Range("epoch", up_to=erasure.fact_epoch)
            where = {"kind": DocumentKind.FACT}
            facts = block.select(schema.DOCUMENTS, where, within=epochs, limit=_SLICE)
        facts, chats = first_slice(facts), first_slice(chats)
        delete_all(block, schema.DOCUMENTS, facts)
        for chat in chats:
            block.put(schema.CONVERSATIONS, replace(chat, space_id=None))
        if not facts and not chats:
            block.delete(schema.ERASURES, erasure.id)
            return True
        block.put(schema.COUNTS, counts.plus(bytes=-text_bytes(*facts)))
        return True

    def _destroy_discard(self, block: Block, discard_id: UUID) -> bool:
        """Destroy a slice of messages that were deleted together.

        Return False if the messages are not due yet, or if their chat is deleted and has an open turn.
        """
        discard, now = block.get(schema.DISCARDS, discard_id), self.now()
        if discard is None or not is_due(discard.destroy_at, now):
            return False
        chat = block.get(schema.CONVERSATIONS, discard.conversation_id)
        if chat and is_due(chat.destroy_at, now) and self._has_open_turn(block, chat.id):
            return False
        ids, rest = discard.message_ids[-_SLICE:], discard.message_ids[:-_SLICE]
        discarded = frozenset(discard.message_ids)
        # a message is destroyed together with its replies, even if those were deleted later and could still be restored
        replies = [
            row.id for one in ids for row in block.select(schema.MESSAGES, {"parent_id": one})
        ]
        if others := tuple(one for one in replies if one not in discarded):
            message_ids = (*discard.message_ids, *others)
            block.put(schema.DISCARDS, replace(discard, message_ids=message_ids))
            return True
        # replies come before their prompts, because one block may destroy only some of these messages
        rows, counts = found(block, schema.MESSAGES, reversed(ids)), counts_of(block)
        listed = [row for row in rows if row.attachments]
        where = [{"conversation_id": row.conversation_id, "message_id": row.id} for row in listed]
        if chat and is_due(chat.undo_until, now):
            chat = replace(chat, undo_until=None)
        if self._destroy_slice(block, counts, schema.PIECES, *where):
            return True
        # an interrupted version and a whole one can be replies of one turn, whose receipt goes with its own reply alone
        turns = found(block, schema.TURNS, {row.turn_id for row in rows if row.turn_id})
        turn_ids = {turn.id for turn in turns if turn.reply_id in ids}
        for row in rows:
            # the query also names the conversation, because SQLite has no index on the prompt alone
            where = {"conversation_id": row.conversation_id, "prompt_id": row.id}
            turn_ids |= {turn.id for turn in block.select(schema.TURNS, where)}
        receipts = found(block, schema.RECEIPTS, turn_ids)
        if not self._destroy(block, rows, receipts, counts, chat):
            return True
        if rest:
            block.put(schema.DISCARDS, replace(discard, message_ids=rest))
        else:
            block.delete(schema.DISCARDS, discard_id)
        return True

    def _destroy(
        self,
        block: Block,
        rows: Sequence[MessageRow],
        receipts: Sequence[ReceiptRow],
        counts: Counts,
        chat: StoredConversation | None,
    ) -> bool:
        """Destroy messages of *chat* with their thoughts, and *receipts*.

        If these rows are too many or too large for one block, destroy some of them, messages last, and return False.
        """
        thoughts = found(block, schema.THOUGHTS, [row.id for row in rows])
        every = [*receipts, *thoughts, *rows]
        some = first_slice(every)
        messages = [row for row in some if isinstance(row, MessageRow)]
        delete_all(block, schema.MESSAGES, messages)
        delete_all(block, schema.THOUGHTS, [row for row in some if isinstance(row, ThoughtsRow)])
        delete_all(block, schema.RECEIPTS, [row for row in some if isinstance(row, ReceiptRow)])
        freed = text_bytes(*some)
        block.put(schema.COUNTS, counts.with_content(-freed))
        if chat:
            destroyed = chat.destroyed + len(messages)
            chat = replace(chat, bytes=chat.bytes - freed, destroyed=destroyed)
            block.put(schema.CONVERSATIONS, chat)
        return len(some) == len(every)

    def _has_open_turn(self, block: Block, conversation_id: ConversationId) -> bool:
        where = {"conversation_id": conversation_id, "finished_at": None}
        return bool(block.select(schema.TURNS, where, limit=1))

    def _destroy_conversation(self, block: Block, conversation_id: ConversationId) -> bool:
        """Destroy a slice of a conversation, its own row last. Return False if it is missing, not due, or has an open turn."""
        row, counts = block.get(schema.CONVERSATIONS, conversation_id), counts_of(block)
        if row is None or not is_due(row.destroy_at, self.now()):
            return False
        if self._has_open_turn(block, conversation_id):
            return False
        where = {"conversation_id": conversation_id}
        if self._destroy_slice(block, counts, schema.PIECES, where):
            return True
        if self._destroy_slice(block, counts, schema.SEARCH_TEXTS, where):
            return True
        messages = block.select(schema.MESSAGES, where, order=("-seq",), limit=_SLICE)
        if messages:
            # the receipts are destroyed below, with the turns
            self._destroy(block, messages, [], counts, row)
            return True
        turns = block.select(schema.TURNS, where, limit=_SLICE)
        stored = found(block, schema.RECEIPTS, [turn.id for turn in turns])
        receipts = first_slice(stored)
        later = {receipt.turn_id for receipt in stored[len(receipts) :]}
        turns = [turn for turn in turns if turn.id not in later]
        facts = first_slice(block.select(schema.DOCUMENTS, where, limit=_SLICE))
        discards = block.select(schema.DISCARDS, where, limit=_SLICE)
        shown = [
            one for one in facts if one.kind is DocumentKind.FACT and one.epoch >= counts.fact_epoch
        ]
        counts, freed = counts.with_content(-text_bytes(*receipts)), text_bytes(*facts)
        for turn in turns:
            block.put(schema.TURNS, forgotten(turn))
        delete_all(block, schema.RECEIPTS, receipts)
        delete_all(block, schema.DOCUMENTS, facts)
        delete_all(block, schema.DISCARDS, discards)
        if not (turns or facts or discards):
            block.delete(schema.CONVERSATIONS, conversation_id)
            freed += text_bytes(row)
            counts = counts.plus(conversations=-1, discarded=-1)
        counts = counts.plus(facts=-len(shown), bytes=-freed)
        block.put(schema.COUNTS, counts)
        return True


def _writes(destroy: Callable[[Block], bool], block: Block) -> list[StoredWrite] | None:
    """Destroy rows; return the block's writes without those of sums, or None if there was nothing to destroy."""
    if not destroy(block):
        return None
    return [one for one in block.writes if one[0] not in (schema.COUNTS, schema.CONVERSATIONS)]


def forgotten(turn: Turn) -> Turn:
    """Return *turn* without its conversation and texts; its cost is kept."""
    return replace(turn, conversation_id=None, partial=None, partial_thoughts=None)
