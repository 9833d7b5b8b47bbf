"""Search texts in a store over tables: sealed copies of messages, each of a range of seqs of one conversation."""

from collections.abc import Collection, Iterable
from functools import partial

from services.domain import ConversationId
from services.domain.rows import SEARCH_TEXT, SearchTextRow
from services.rules import ACCOUNT_FULL, NOT_FOUND, STALE, Refusal
from services.rules.documents import is_of_other_messages
from services.store.tables import schema
from services.store.tables.blocks import accepted, atomic, delete_all, found
from services.store.tables.content import counts_of, text_bytes
from services.store.tables.pieces import TablesPieces
from services.store.tables.protocol import Block, Range
from services.store.writes import PutSearchText


class TablesSearchTexts(TablesPieces):
    """The search texts of one user."""

    @atomic
    def search_texts(self, block: Block, ids: Iterable[ConversationId]) -> list[SearchTextRow]:
        return [
            row
            for conversation_id in {*ids}
            for row in block.select(schema.SEARCH_TEXTS, {"conversation_id": conversation_id})
            if row.kind == SEARCH_TEXT
        ]

    def put_search_text(self, write: PutSearchText) -> None:
        self._open_minute()
        answer = self.tables.run(lambda block: self._put_search_text(block, write))
        accepted("put_search_text", answer)

    def _put_search_text(self, block: Block, write: PutSearchText) -> Refusal | None:
        new, counts = write.row, counts_of(block)
        chat = block.get(schema.CONVERSATIONS, new.conversation_id)
        stored = [
            row
            for row in self._ending_from(block, new.conversation_id, new.number)
            if row.kind == new.kind and row.number <= new.last_seq
        ]
        keys = (schema.search_text_key(new, number) for number in write.replaced)
        replaced = found(block, schema.SEARCH_TEXTS, keys)
        if chat is None or chat.destroy_at:
            return NOT_FOUND
        if is_of_other_messages(chat.rev, chat.last_seq, write.cuts):
            return STALE
        for row in stored:
            is_same = (row.number, row.last_seq) == (new.number, new.last_seq)
            if is_same and (row.body == new.body or row not in replaced):
                return None
        if self.budget(block).is_full(self.most_bytes):
            return ACCOUNT_FULL
        if any(row not in replaced for row in stored):
            return STALE
        gone = [row for row in replaced if row.number != new.number]
        delete_all(block, schema.SEARCH_TEXTS, gone)
        block.put(schema.SEARCH_TEXTS, new)
        return self._put(block, chat, chat, counts, text_bytes(new) - text_bytes(*replaced))

    def delete_search_texts(self) -> None:
        # chat by chat, because a store in files would open the files of all chats for each slice
        for chat in self.tables.run(lambda block: block.select(schema.CONVERSATIONS)):
            while self.tables.run(partial(self._destroy_texts_of, chat.id)):
                pass

    def _destroy_texts_of(self, conversation_id: ConversationId, block: Block) -> bool:
        where = {"conversation_id": conversation_id}
        return self._destroy_slice(block, counts_of(block), schema.SEARCH_TEXTS, where)

    def _ending_from(
        self, block: Block, conversation_id: ConversationId, seq: int
    ) -> list[SearchTextRow]:
        """Return the conversation's search texts, of all kinds, whose last seq is *seq* or later."""
        where, within = {"conversation_id": conversation_id}, Range("last_seq", above=seq - 1)
        return block.select(schema.SEARCH_TEXTS, where, within)

    def _search_texts_with(
        self, block: Block, conversation_id: ConversationId, seqs: Collection[int]
    ) -> list[SearchTextRow]:
        """Return the conversation's search texts whose range contains one of *seqs*."""
        return [
            row
            for row in self._ending_from(block, conversation_id, min(seqs, default=0))
            if any(row.number <= seq <= row.last_seq for seq in seqs)
        ]
