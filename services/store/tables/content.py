"""Conversations and documents over tables: what readers see, and the sweep of what was deleted."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import TypeVar
from uuid import UUID, uuid4

from services.domain import ConversationId, Listed, MessageId, SpaceId, TurnId, UserId
from services.domain.accounts import Limits
from services.rules import ACCOUNT_FULL, NO_SPACE, NOT_FOUND, STALE, Refusal
from services.rules.budget import Budget
from services.rules.documents import (
    is_of_other_messages,
    is_stored,
    put_refusal,
    text_refusal,
)
from services.rules.messages import can_restore, changed, hidden, is_due
from services.rules.turns import Turn
from services.store.refusals import error_of
from services.store.rows import (
    ConversationChanges,
    ConversationRow,
    ConversationState,
    DocumentKind,
    DocumentRow,
    MessageRow,
    ReceiptRow,
    ThoughtsRow,
)
from services.store.tables.protocol import Block, Range, Tables
from services.store.tables.schema import (
    BUDGETS,
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
    Document,
    Erasure,
)
from services.store.writes import PutDocument

_SLICE = 60  # rows that a block of the sweep destroys, each with a few beside it
_IN_ROW = (DocumentKind.INSTRUCTIONS, DocumentKind.SUMMARY)
Answer = TypeVar("Answer")


def text_bytes(*texts: str | None) -> int:
    """The length of sealed texts."""
    return sum(len(text) for text in texts if text)


def own_bytes(row: ConversationRow) -> int:
    """The length of the texts in a conversation's row, without keys and heads."""
    return text_bytes(row.title, row.summary, row.instructions)


def counts_of(block: Block) -> Counts:
    return block.get(COUNTS, "counts") or Counts()


class TablesContent:
    """The conversations and documents of one user."""

    def __init__(
        self,
        user_id: UserId,
        tables: Tables,
        limits: Limits,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        most_bytes: int | None = None,
    ) -> None:
        """*limits*: those of an account that has no budget yet; *most_bytes* that it may store (None: no limit)."""
        self.user_id, self.tables, self.now = user_id, tables, now
        self._limits, self.most_bytes = limits, most_bytes
        self._minute: datetime | None = None  # that this process opened last

    def _run(self, verb: str, work: Callable[[Block], Answer | Refusal]) -> Answer:
        """Run *work* and raise the error of its refusal; its writes are stored all the same."""
        answer = self.tables.run(work)
        if isinstance(answer, Refusal):
            raise error_of(verb, answer)
        return answer

    def budget(self, block: Block) -> Budget:
        """The budget with the windows of now."""
        budget = block.get(BUDGETS, "budget") or Budget(**asdict(self._limits))
        return budget.opened(self.now(), counts_of(block).bytes)

    def _open_minute(self) -> None:
        """Add up what the account stores, in the first call of a minute that may be refused for it."""
        minute = self.now().replace(second=0, microsecond=0)
        if self.most_bytes is None or minute == self._minute:
            return

        def open_windows(block: Block) -> None:
            block.put(BUDGETS, self.budget(block))

        self.tables.run(open_windows)
        self._minute = minute

    # --- conversations

    def _found(self, block: Block, conversation_id: ConversationId) -> ConversationRow | None:
        row = block.get(CONVERSATIONS, conversation_id)
        if row is None or row.space_id is None:
            return row
        return row if block.get(DOCUMENTS, row.space_id) else replace(row, space_id=None)

    def _has_space(self, block: Block, space_id: SpaceId | None) -> bool:
        if space_id is None:
            return True
        space = block.get(DOCUMENTS, space_id)
        return space is not None and space.kind is DocumentKind.SPACE

    def conversation(self, conversation_id: ConversationId) -> ConversationRow:
        return self._run(
            "conversation", lambda block: self._found(block, conversation_id) or NOT_FOUND
        )

    def conversations(self, ids: Iterable[ConversationId]) -> list[ConversationRow]:
        ids = list(ids)
        found = self.tables.run(lambda block: [self._found(block, one) for one in ids])
        return [row for row in found if row]

    def all_conversations(self) -> list[ConversationRow]:
        return self.tables.run(lambda block: self._listed(block, {"destroy_at": None}))

    def _listed(
        self,
        block: Block,
        where: Mapping[str, object],
        order: tuple[str, ...] = (),
        limit: int | None = None,
    ) -> list[ConversationRow]:
        rows = block.select(CONVERSATIONS, where, order=order, limit=limit)
        spaces = {one.id for one in block.select(DOCUMENTS, {"kind": DocumentKind.SPACE})}
        return [
            row if row.space_id in {None, *spaces} else replace(row, space_id=None) for row in rows
        ]

    def positions(self) -> list[Listed]:
        return [
            Listed(id=row.id, rev=row.rev, last_seq=row.last_seq, space_id=row.space_id)
            for row in self.all_conversations()
        ]

    def recent_conversations(
        self, limit: int, *, is_archived: bool, space_id: SpaceId | None
    ) -> list[ConversationRow]:
        return self.tables.run(
            lambda block: self._recent(block, limit, is_archived=is_archived, space_id=space_id)
        )

    def _recent(
        self, block: Block, limit: int, *, is_archived: bool, space_id: SpaceId | None
    ) -> list[ConversationRow]:
        if not self._has_space(block, space_id):
            return []
        state = ConversationState.ARCHIVED if is_archived else ConversationState.ACTIVE
        where: dict[str, object] = {"state": state, "destroy_at": None}
        if space_id:
            where["space_id"] = space_id
        return self._listed(block, where, ("-pinned_at", "-updated_at"), limit)

    def change_conversation(
        self, conversation_id: ConversationId, changes: ConversationChanges
    ) -> bool:
        def change(block: Block) -> bool | Refusal:
            row = self._found(block, conversation_id)
            if row is None:
                return NOT_FOUND
            if not self._has_space(block, changes.get("space_id")):
                return NO_SPACE
            new = changed(row, changes, self.now())
            if new is None:
                return False
            counts = counts_of(block)
            self._put(block, row, new, counts)
            return True

        return self._run("change_conversation", change)

    def _put(
        self,
        block: Block,
        row: ConversationRow,
        new: ConversationRow,
        counts: Counts,
        added: int = 0,
    ) -> None:
        """Store *new* in the place of *row*; *added*: bytes of its messages."""
        block.put(CONVERSATIONS, new)
        if added := added + own_bytes(new) - own_bytes(row):
            block.put(COUNTS, replace(counts, bytes=counts.bytes + added))

    def discard_conversation(self, conversation_id: ConversationId, seconds: int) -> None:
        def discard(block: Block) -> Refusal | None:
            row = block.get(CONVERSATIONS, conversation_id)
            if row is None:
                return NOT_FOUND
            return block.put(CONVERSATIONS, hidden(row, seconds, self.now()))

        self._run("discard_conversation", discard)

    def restore_conversation(self, conversation_id: ConversationId) -> None:
        def restore(block: Block) -> Refusal | None:
            row = block.get(CONVERSATIONS, conversation_id)
            if row is None or not can_restore(row.destroy_at, self.now()):
                return NOT_FOUND
            return block.put(CONVERSATIONS, replace(row, destroy_at=None))

        self._run("restore_conversation", restore)

    # --- messages

    def _hidden(self, block: Block, conversation_id: ConversationId) -> dict[MessageId, datetime]:
        """When each deleted message of a conversation is destroyed."""
        rows = block.select(DISCARDS, {"conversation_id": conversation_id})
        return {one: row.destroy_at for row in rows for one in row.message_ids}

    def _messages(
        self, block: Block, conversation_id: ConversationId, within: Range | None = None
    ) -> list[MessageRow]:
        where = {"conversation_id": conversation_id}
        rows = block.select(MESSAGES, where, within=within, order=("seq",))
        return self._marked(block, rows)

    def _marked(self, block: Block, rows: list[MessageRow]) -> list[MessageRow]:
        """The messages with the times at which deleted ones are destroyed."""
        due: dict[MessageId, datetime] = {}
        for conversation_id in {row.conversation_id for row in rows}:
            due |= self._hidden(block, conversation_id)
        return [replace(row, destroy_at=due[row.id]) if row.id in due else row for row in rows]

    def _message(
        self, block: Block, conversation_id: ConversationId | None, message_id: MessageId | None
    ) -> MessageRow | None:
        """A message of one conversation."""
        found = block.get(MESSAGES, message_id) if message_id else None
        if found is None or found.conversation_id != conversation_id:
            return None
        return self._marked(block, [found])[0]

    def discarded_messages(self, conversation_id: ConversationId) -> list[MessageRow]:
        now = self.now()
        rows = self.tables.run(lambda block: self._messages(block, conversation_id))
        return [row for row in rows if can_restore(row.destroy_at, now)]

    def messages_by_id(self, ids: Iterable[MessageId]) -> list[MessageRow]:
        ids = list(ids)

        def read(block: Block) -> list[MessageRow]:
            found = [block.get(MESSAGES, one) for one in ids]
            return self._marked(block, [row for row in found if row])

        return self.tables.run(read)

    def messages_between(self, ids: Sequence[ConversationId], seqs: range) -> list[MessageRow]:
        within = Range("seq", above=seqs.start - 1, up_to=seqs.stop - 1)

        def read(block: Block) -> list[MessageRow]:
            return [row for one in ids for row in self._messages(block, one, within)]

        return sorted(self.tables.run(read), key=lambda row: row.seq)

    def thoughts(
        self, conversation_id: ConversationId, ids: Iterable[MessageId]
    ) -> list[ThoughtsRow]:
        ids = list(ids)
        found = self.tables.run(lambda block: [block.get(THOUGHTS, one) for one in ids])
        return [row for row in found if row]

    def receipts(
        self, conversation_id: ConversationId, turn_ids: Iterable[TurnId]
    ) -> list[ReceiptRow]:
        ids = list(turn_ids)
        found = self.tables.run(lambda block: [block.get(RECEIPTS, one) for one in ids])
        return [row for row in found if row]

    # --- documents

    def documents(self, kind: DocumentKind) -> list[DocumentRow]:
        return self.tables.run(lambda block: [*self._documents(block, kind)])

    def _documents(self, block: Block, kind: DocumentKind) -> list[Document]:
        rows = block.select(DOCUMENTS, {"kind": kind})
        if kind is not DocumentKind.FACT:
            return rows
        epoch = counts_of(block).fact_epoch
        spaces = {one.id for one in block.select(DOCUMENTS, {"kind": DocumentKind.SPACE})}
        return [row for row in rows if row.epoch >= epoch and row.space_id in {None, *spaces}]

    def _document(self, block: Block, document_id: UUID) -> Document | None:
        row = block.get(DOCUMENTS, document_id)
        if row is None or row.kind is not DocumentKind.FACT:
            return row
        is_hidden = row.epoch < counts_of(block).fact_epoch
        return None if is_hidden or not self._has_space(block, row.space_id) else row

    def put_document(self, write: PutDocument) -> None:
        if write.seen_rev == 0 and write.is_users:
            self._open_minute()
        self._run(f"put_{write.new_kind}", lambda block: self._put_document(block, write))

    def _put_document(self, block: Block, write: PutDocument) -> Refusal | None:
        new, source_id = write.row, write.source_id
        row = new.conversation_id and self._found(block, new.conversation_id)
        source = source_id and self._found(block, source_id)
        is_of_others = source_id and (
            not source or is_of_other_messages(source.rev, source.last_seq, write.cuts)
        )
        if (new.conversation_id and not row) or is_of_others:
            return NOT_FOUND
        if not self._has_space(block, new.space_id):
            return NOT_FOUND
        if write.seen_rev == 0 and write.is_users and self.budget(block).is_full(self.most_bytes):
            return ACCOUNT_FULL
        counts = counts_of(block)
        if row and new.kind in _IN_ROW:
            is_summary = new.kind is DocumentKind.SUMMARY
            if is_summary and is_of_other_messages(row.rev, row.last_seq, write.cuts):
                return STALE
            if refusal := text_refusal(row.text(new.kind), new, write.seen_rev):
                return refusal
            columns = {str(new.kind): new.body, f"{new.kind}_rev": new.rev}
            return self._put(block, row, replace(row, **columns), counts)
        stored = self._document(block, new.id)
        if is_stored(stored, new):
            return None
        stored_of_kind = {DocumentKind.FACT: counts.facts, DocumentKind.SPACE: counts.spaces}
        count = stored_of_kind.get(new.kind, 0)
        if refusal := put_refusal(stored, new, write.seen_rev, count):
            return refusal
        created_at = stored.created_at if stored else self.now()
        document = replace(new, created_at=created_at)
        block.put(DOCUMENTS, Document(**asdict(document), epoch=counts.fact_epoch))
        added = text_bytes(new.body) - text_bytes(stored.body if stored else None)
        counts = replace(counts, bytes=counts.bytes + added)
        if stored is None and new.kind is DocumentKind.FACT:
            counts = replace(counts, facts=counts.facts + 1)
        elif stored is None and new.kind is DocumentKind.SPACE:
            counts = replace(counts, spaces=counts.spaces + 1)
        return block.put(COUNTS, counts)

    def delete_document(self, document_id: UUID) -> None:
        """A space is one row; the sweep destroys its facts, which no reader finds without it."""

        def delete(block: Block) -> Refusal | None:
            row, counts = self._document(block, document_id), counts_of(block)
            if row is None or row.kind is DocumentKind.PREFERENCES:
                return NOT_FOUND
            counts = replace(counts, bytes=counts.bytes - text_bytes(row.body))
            if row.kind is DocumentKind.FACT:
                block.put(COUNTS, replace(counts, facts=counts.facts - 1))
            else:
                facts = self._documents(block, DocumentKind.FACT)
                gone = sum(one.space_id == row.id for one in facts)
                counts = replace(counts, spaces=counts.spaces - 1, facts=counts.facts - gone)
                block.put(COUNTS, counts)
                block.put(ERASURES, Erasure(id=uuid4(), space_id=row.id))
            return block.delete(DOCUMENTS, document_id)

        self._run("delete_document", delete)

    def delete_facts(self) -> None:
        def delete(block: Block) -> None:
            counts = counts_of(block)
            block.put(ERASURES, Erasure(id=uuid4(), space_id=None, fact_epoch=counts.fact_epoch))
            block.put(COUNTS, replace(counts, facts=0, fact_epoch=counts.fact_epoch + 1))

        self.tables.run(delete)

    # --- the sweep

    def destroy_due(self) -> None:
        """Destroy what is hidden and whose time for Undo is over, in slices."""
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
        """Destroy a slice of what an erasure hides; return True if there may be more."""
        counts, chats = counts_of(block), list[ConversationRow]()
        if erasure.space_id:
            where: dict[str, object] = {"space_id": erasure.space_id}
            facts = block.select(DOCUMENTS, where, limit=_SLICE)
            chats = block.select(CONVERSATIONS, where, limit=_SLICE)
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
        rows = [row for one in ids if (row := block.get(MESSAGES, one))]
        self._destroy(block, rows, counts_of(block))
        if rest:
            block.put(DISCARDS, replace(discard, message_ids=rest))
        else:
            block.delete(DISCARDS, discard_id)
            if chat and is_due(chat.undo_until, now):
                block.put(CONVERSATIONS, replace(chat, undo_until=None))
        return bool(rest)

    def _destroy(self, block: Block, rows: Sequence[MessageRow], counts: Counts) -> None:
        """Destroy messages with their thoughts, and the receipts of their turns."""
        turn_ids = {row.turn_id for row in rows if row.turn_id}
        for row in rows:
            turn_ids |= {turn.id for turn in block.select(TURNS, {"prompt_id": row.id})}
        thoughts = [one for row in rows if (one := block.get(THOUGHTS, row.id))]
        receipts = [one for turn_id in turn_ids if (one := block.get(RECEIPTS, turn_id))]
        for row in rows:
            block.delete(MESSAGES, row.id)
            block.delete(THOUGHTS, row.id)
        for receipt in receipts:
            block.delete(RECEIPTS, receipt.turn_id)
        bodies = (one.body for one in (*rows, *receipts))
        freed = text_bytes(*bodies, *(one.thoughts for one in thoughts))
        block.put(COUNTS, replace(counts, bytes=counts.bytes - freed))

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
        messages = block.select(MESSAGES, where, order=("-seq",), limit=_SLICE)
        if messages:
            self._destroy(block, messages, counts)
            return True
        turns = block.select(TURNS, where, limit=_SLICE)
        receipts = [one for turn in turns if (one := block.get(RECEIPTS, turn.id))]
        facts = block.select(DOCUMENTS, where, limit=_SLICE)
        discards = block.select(DISCARDS, where, limit=_SLICE)
        shown = [one for one in facts if one.epoch >= counts.fact_epoch]
        freed = text_bytes(*(one.body for one in (*receipts, *facts)))
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
            bytes=counts.bytes - freed,
        )
        block.put(COUNTS, counts)
        return is_left


def forgotten(turn: Turn) -> Turn:
    """A turn without its conversation and its texts; its cost stays."""
    return replace(turn, conversation_id=None, partial=None, partial_thoughts=None)
