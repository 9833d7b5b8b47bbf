"""Conversations over tables, and their messages as readers see them."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import TypeVar

from services.domain import ConversationId, Listed, MessageId, SpaceId, TurnId, UserId
from services.domain.accounts import Limits
from services.rules import NO_SPACE, NOT_FOUND, Refusal
from services.rules.budget import Budget
from services.rules.messages import can_restore, changed, hidden
from services.store.refusals import error_of
from services.store.rows import (
    ConversationChanges,
    ConversationRow,
    ConversationState,
    DocumentKind,
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
    MESSAGES,
    RECEIPTS,
    THOUGHTS,
    Counts,
    StoredConversation,
)

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
    """The conversations of one user."""

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
        """Add up the stored bytes of the account, in the first call of a minute that they may refuse."""
        minute = self.now().replace(second=0, microsecond=0)
        if self.most_bytes is None or minute == self._minute:
            return

        def open_windows(block: Block) -> None:
            block.put(BUDGETS, self.budget(block))

        self.tables.run(open_windows)
        self._minute = minute

    # --- conversations

    def _found(self, block: Block, conversation_id: ConversationId) -> StoredConversation | None:
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
        row: StoredConversation,
        new: StoredConversation,
        counts: Counts,
        added: int = 0,
    ) -> None:
        """Store *new* in the place of *row*; *added*: bytes of its messages, pieces and receipts."""
        block.put(CONVERSATIONS, replace(new, bytes=new.bytes + added))
        if (changed := own_bytes(new) - own_bytes(row)) or added:
            counts = replace(counts, bytes=counts.bytes + changed)
            block.put(COUNTS, counts.with_content(added))

    def discard_conversation(self, conversation_id: ConversationId, seconds: int) -> None:
        def discard(block: Block) -> Refusal | None:
            row, counts = block.get(CONVERSATIONS, conversation_id), counts_of(block)
            if row is None:
                return NOT_FOUND
            if row.destroy_at is None:
                block.put(COUNTS, replace(counts, discarded=counts.discarded + 1))
            return block.put(CONVERSATIONS, hidden(row, seconds, self.now()))

        self._run("discard_conversation", discard)

    def restore_conversation(self, conversation_id: ConversationId) -> None:
        def restore(block: Block) -> Refusal | None:
            row, counts = block.get(CONVERSATIONS, conversation_id), counts_of(block)
            if row is None or not can_restore(row.destroy_at, self.now()):
                return NOT_FOUND
            block.put(COUNTS, replace(counts, discarded=counts.discarded - 1))
            return block.put(CONVERSATIONS, replace(row, destroy_at=None))

        self._run("restore_conversation", restore)

    # --- messages

    def _hidden(self, block: Block, conversation_id: ConversationId) -> dict[MessageId, datetime]:
        """Return the times at which the deleted messages of a conversation are destroyed."""
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

    def messages_by_id(
        self, ids: Mapping[ConversationId, Collection[MessageId]]
    ) -> list[MessageRow]:
        def read(block: Block) -> list[MessageRow]:
            found = [
                (where, block.get(MESSAGES, one)) for where, wanted in ids.items() for one in wanted
            ]
            rows = [row for where, row in found if row and row.conversation_id == where]
            return self._marked(block, rows)

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
