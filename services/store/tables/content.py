"""Conversations in a store over tables, and the reading of their messages."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import accumulate
from uuid import UUID

from services.domain import ConversationId, Listed, MessageId, SpaceId, TurnId, UserId
from services.domain.accounts import Limits
from services.domain.rows import ConversationRow, ConversationState, DocumentKind, MessageRow
from services.rules import NO_SPACE, NOT_FOUND, Refusal, part_of
from services.rules.accounts import Settings
from services.rules.budget import Budget
from services.rules.messages import can_restore, changed, hidden
from services.store.rows import ConversationChanges, ReceiptRow, ThoughtsRow
from services.store.tables import schema
from services.store.tables.blocks import atomic, found
from services.store.tables.protocol import MOST_WRITES, Block, Range, Row, Table, Tables
from services.store.tables.schema import Counts, Document, StoredConversation

_DEFAULTS = Settings()
# maximum rows of one slice, and maximum bytes of their texts. A Firestore commit is limited to 10 MiB, and the rows that
# it deletes count towards that limit.
_MOST_OF_SLICE, _MOST_BYTES = MOST_WRITES - 10, 4_000_000
_TEXTS = (
    *("title", "summary", "instructions", "body", "attachments", "thoughts", "piece_body"),
    *("prompt_body", "prompt_attachments", "receipt_body", "reply_body", "reply_thoughts"),
)


def text_bytes(*rows: object) -> int:
    """Return the number of bytes of the sealed texts in rows or writes, without keys and heads; None counts as 0."""
    return sum(len(getattr(row, name, None) or "") for row in rows for name in _TEXTS)


def first_slice(rows: Sequence[Row]) -> Sequence[Row]:
    """Return as many of the first *rows* as one block (transaction) can store or delete, with space for a few small rows."""
    sizes = accumulate(map(text_bytes, rows[:_MOST_OF_SLICE]))
    return rows[: max(1, sum(size <= _MOST_BYTES for size in sizes))]


def counts_of(block: Block) -> Counts:
    return block.get(schema.COUNTS, "counts") or Counts()


def _found_in(
    block: Block, chats: Iterable[ConversationId], table: Table[Row], ids: Iterable[UUID]
) -> list[Row]:
    """Return the rows of *table* with *ids*, which belong to *chats*.

    JSON files may lack the locations of rows, and then find them in the chats whose conversations the block has read. These
    are read only if a row is missing.
    """
    rows = found(block, table, ids := [*ids])
    if len(rows) == len(ids):
        return rows
    found(block, schema.CONVERSATIONS, {*chats})
    return found(block, table, ids)


def _in_spaces(
    rows: Iterable[ConversationRow], spaces: Iterable[Document]
) -> list[ConversationRow]:
    """Return *rows*, with `space_id` set to None in each row whose space is not in *spaces*."""
    ids = {None, *(one.id for one in spaces)}
    return [row if row.space_id in ids else replace(row, space_id=None) for row in rows]


class TablesContent:
    """The conversations of one user."""

    def __init__(
        self,
        user_id: UserId,
        tables: Tables,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        most_bytes: int | None = None,
        limits: Limits = _DEFAULTS,
    ) -> None:
        """*most_bytes*: the bytes that the user may store (None: no limit); *limits*: used if the user has no stored budget."""
        self.user_id, self.tables, self.now = user_id, tables, now
        self.most_bytes, self._limits = most_bytes, limits
        # the minute in which `_open_minute` last stored the budget
        self._minute: datetime | None = None

    def budget(self, block: Block) -> Budget:
        """Return the budget as it applies to the current day, month and minute."""
        budget = block.get(schema.BUDGETS, "budget") or part_of(Budget, self._limits)
        return budget.opened(self.now(), counts_of(block).bytes)

    def _open_minute(self) -> None:
        """If the account has a storage limit, store the budget with the number of bytes now stored, at most once a minute.

        `Budget.is_full` compares the limit with the bytes that were stored when the minute began.
        """
        minute = self.now().replace(second=0, microsecond=0)
        if self.most_bytes is None or minute == self._minute:
            return

        def open_windows(block: Block) -> None:
            block.put(schema.BUDGETS, self.budget(block))

        self.tables.run(open_windows)
        self._minute = minute

    # --- conversations

    def _found(self, block: Block, conversation_id: ConversationId) -> StoredConversation | None:
        row = block.get(schema.CONVERSATIONS, conversation_id)
        if row is None or row.space_id is None:
            return row
        return row if block.get(schema.DOCUMENTS, row.space_id) else replace(row, space_id=None)

    def _has_space(self, block: Block, space_id: SpaceId | None) -> bool:
        if space_id is None:
            return True
        space = block.get(schema.DOCUMENTS, space_id)
        return space is not None and space.kind is DocumentKind.SPACE

    @atomic
    def conversation(
        self, block: Block, conversation_id: ConversationId
    ) -> ConversationRow | Refusal:
        return self._found(block, conversation_id) or NOT_FOUND

    @atomic
    def conversations(self, block: Block, ids: Iterable[ConversationId]) -> list[ConversationRow]:
        rows = found(block, schema.CONVERSATIONS, ids)
        spaces = found(block, schema.DOCUMENTS, {row.space_id for row in rows if row.space_id})
        return _in_spaces(rows, spaces)

    def whole_conversations(self, ids: Iterable[ConversationId]) -> list[ConversationRow]:
        return self.conversations(ids)

    @atomic
    def all_conversations(self, block: Block) -> list[ConversationRow]:
        return self._listed(block, {"destroy_at": None})

    def _listed(
        self,
        block: Block,
        where: Mapping[str, object],
        order: tuple[str, ...] = (),
        limit: int | None = None,
    ) -> list[ConversationRow]:
        rows = block.select(schema.CONVERSATIONS, where, order=order, limit=limit)
        return _in_spaces(rows, block.select(schema.DOCUMENTS, {"kind": DocumentKind.SPACE}))

    def positions(self) -> list[Listed]:
        return [
            Listed(
                id=row.id,
                rev=row.rev,
                last_seq=row.last_seq,
                space_id=row.space_id,
                instructions_rev=row.instructions_rev,
                summary_rev=row.summary_rev,
            )
            for row in self.all_conversations()
        ]

    @atomic
    def recent_conversations(
        self, block: Block, limit: int, *, is_archived: bool, space_id: SpaceId | None
    ) -> list[ConversationRow]:
        return self._recent(block, limit, is_archived=is_archived, space_id=space_id)

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

    @atomic
    def change_conversation(
        self, block: Block, conversation_id: ConversationId, changes: ConversationChanges
    ) -> bool | Refusal:
        row, counts = self._found(block, conversation_id), counts_of(block)
        if row is None:
            return NOT_FOUND
        if not self._has_space(block, changes.get("space_id")):
            return NO_SPACE
        new = changed(row, changes, self.now())
        if new is not None:
            self._put(block, row, new, counts)
        return new is not None

    def _put(
        self,
        block: Block,
        row: StoredConversation | None,
        new: StoredConversation,
        counts: Counts,
        added: int = 0,
    ) -> None:
        """Store *new* in place of *row* (None: a new conversation); *added*: the bytes of new messages, pieces, search texts and receipts."""
        block.put(schema.CONVERSATIONS, replace(new, bytes=new.bytes + added))
        if (grown := text_bytes(new) - text_bytes(row)) or added:
            block.put(schema.COUNTS, counts.plus(bytes=grown).with_content(added))

    @atomic
    def discard_conversation(
        self, block: Block, conversation_id: ConversationId, seconds: int
    ) -> Refusal | None:
        row, counts = block.get(schema.CONVERSATIONS, conversation_id), counts_of(block)
        if row is None:
            return NOT_FOUND
        open_turns = {"conversation_id": conversation_id, "finished_at": None}
        for turn in block.select(schema.TURNS, open_turns):
            block.put(schema.TURNS, replace(turn, is_stop_requested=True))
        if row.destroy_at is None:
            block.put(schema.COUNTS, counts.plus(discarded=1))
        return block.put(schema.CONVERSATIONS, hidden(row, seconds, self.now()))

    @atomic
    def restore_conversation(self, block: Block, conversation_id: ConversationId) -> Refusal | None:
        row, counts = block.get(schema.CONVERSATIONS, conversation_id), counts_of(block)
        if row and row.destroy_at is None:
            return None
        if row is None or not can_restore(row.destroy_at, self.now()):
            return NOT_FOUND
        block.put(schema.COUNTS, counts.plus(discarded=-1))
        return block.put(schema.CONVERSATIONS, replace(row, destroy_at=None))

    # --- messages

    def _messages(
        self, block: Block, conversation_id: ConversationId, within: Range | None = None
    ) -> list[MessageRow]:
        where = {"conversation_id": conversation_id}
        rows = block.select(schema.MESSAGES, where, within=within, order=("seq",))
        return self._marked(block, rows)

    def _marked(self, block: Block, rows: list[MessageRow]) -> list[MessageRow]:
        """Return *rows*; in rows of deleted messages, set `destroy_at`, the time at which they are destroyed."""
        due: dict[MessageId, datetime] = {}
        for conversation_id in {row.conversation_id for row in rows}:
            for discard in block.select(schema.DISCARDS, {"conversation_id": conversation_id}):
                due |= dict.fromkeys(discard.message_ids, discard.destroy_at)
        return [replace(row, destroy_at=due[row.id]) if row.id in due else row for row in rows]

    def _message(
        self, block: Block, conversation_id: ConversationId | None, message_id: MessageId | None
    ) -> MessageRow | None:
        """Return the message if it exists in this conversation; else None."""
        row = block.get(schema.MESSAGES, message_id) if message_id else None
        if row is None or row.conversation_id != conversation_id:
            return None
        return self._marked(block, [row])[0]

    @atomic
    def discarded_messages(self, block: Block, conversation_id: ConversationId) -> list[MessageRow]:
        rows, now = self._messages(block, conversation_id), self.now()
        return [row for row in rows if can_restore(row.destroy_at, now)]

    @atomic
    def messages_by_id(
        self, block: Block, asked: Mapping[MessageId, ConversationId]
    ) -> list[MessageRow]:
        rows = _found_in(block, asked.values(), schema.MESSAGES, asked)
        return self._marked(block, [row for row in rows if row.conversation_id == asked[row.id]])

    @atomic
    def messages_between(
        self, block: Block, ids: Sequence[ConversationId], seqs: range
    ) -> list[MessageRow]:
        within = Range("seq", above=seqs.start - 1, up_to=seqs.stop - 1)
        rows = [row for one in ids for row in self._messages(block, one, within)]
        return sorted(rows, key=lambda row: row.seq)

    @atomic
    def thoughts(
        self, block: Block, conversation_id: ConversationId, ids: Iterable[MessageId]
    ) -> list[ThoughtsRow]:
        return _found_in(block, [conversation_id], schema.THOUGHTS, ids)

    @atomic
    def receipts(
        self, block: Block, conversation_id: ConversationId, turn_ids: Iterable[TurnId]
    ) -> list[ReceiptRow]:
        return _found_in(block, [conversation_id], schema.RECEIPTS, turn_ids)
