"""The tables of one user in memory, and what is read of them."""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from uuid import UUID

from services.domain import ConversationId, MessageId, Purpose, SpaceId, TurnId, Usage, UserId
from services.errors import NotFound
from services.store.rows import (
    ConversationRead,
    ConversationRow,
    ConversationState,
    CostRow,
    DocumentKind,
    DocumentRow,
    Ledger,
    MessageRow,
    PositionRow,
    ReceiptRow,
    ThoughtsRow,
    TurnRow,
)
from services.store.turns import Reservation, TurnState


@dataclass(slots=True, kw_only=True)
class TurnRecord:
    """A turn with its reservation and its cost."""

    id: TurnId
    conversation_id: ConversationId | None
    reservation: Reservation
    reserved_micro: int
    prompt_id: MessageId | None
    begun_at: datetime
    lease_until: datetime
    state: TurnState = TurnState.RESERVED
    partial: str | None = None
    thoughts: str | None = None
    is_stop_requested: bool = False
    usage: Usage = field(default_factory=lambda: Usage(0, 0))
    cost_micro: int = 0


@dataclass(slots=True)
class Tables:
    """All rows of one user."""

    conversations: dict[ConversationId, ConversationRow] = field(
        default_factory=dict[ConversationId, ConversationRow]
    )
    messages: dict[MessageId, MessageRow] = field(default_factory=dict[MessageId, MessageRow])
    thoughts: dict[MessageId, str] = field(default_factory=dict[MessageId, str])
    turns: dict[TurnId, TurnRecord] = field(default_factory=dict[TurnId, TurnRecord])
    receipts: dict[TurnId, ReceiptRow] = field(default_factory=dict[TurnId, ReceiptRow])
    documents: dict[tuple[DocumentKind, UUID], DocumentRow] = field(
        default_factory=dict[tuple[DocumentKind, UUID], DocumentRow]
    )


class InMemoryReads:
    """The rows of one user as they are read. *ledger* reserves and settles their turns."""

    def __init__(
        self,
        ledger: Ledger,
        tables: Tables | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._ledger, self._tables, self._now = ledger, tables or Tables(), now
        self._lock = threading.RLock()
        self._is_closed = False

    @property
    def user_id(self) -> UserId:
        return self._ledger.user_id

    def keep_fresh(self, seconds: int) -> None:
        self._ledger.keep_fresh(seconds)

    def check_complete(self) -> None:
        """Do nothing: no answer is cut."""

    def conversation(self, conversation_id: ConversationId) -> ConversationRow:
        row = self._tables.conversations.get(conversation_id)
        if row is None:
            raise NotFound
        return row

    def read_conversation(
        self, conversation_id: ConversationId, after_seq: int
    ) -> ConversationRead:
        with self._lock:
            row = self.conversation(conversation_id)
            messages = self.messages(conversation_id, after_seq, row.last_seq)
            turn_ids = {message.turn_id for message in messages if message.turn_id}
            return ConversationRead(
                conversation=row,
                messages=messages,
                newest_turn=self._newest_turn(conversation_id),
                costs=self.costs(turn_ids),
                receipts=self.receipts(turn_ids),
            )

    def conversations(self, ids: Iterable[ConversationId]) -> list[ConversationRow]:
        return [self._tables.conversations[its] for its in ids if its in self._tables.conversations]

    def all_conversations(self) -> list[ConversationRow]:
        with self._lock:
            return [row for row in self._tables.conversations.values() if row.destroy_at is None]

    def positions(self) -> list[PositionRow]:
        return [
            PositionRow(id=row.id, rev=row.rev, last_seq=row.last_seq, space_id=row.space_id)
            for row in self.all_conversations()
        ]

    def recent_conversations(
        self, limit: int, *, is_archived: bool, space_id: SpaceId | None
    ) -> list[ConversationRow]:
        found = [
            row
            for row in self.all_conversations()
            if (row.state is ConversationState.ARCHIVED) is is_archived
            and space_id in (None, row.space_id)
        ]
        oldest = datetime.min.replace(tzinfo=UTC)
        found.sort(key=lambda row: (row.pinned_at or oldest, row.updated_at), reverse=True)
        return found[:limit]

    def messages(
        self, conversation_id: ConversationId, after_seq: int, last_seq: int
    ) -> list[MessageRow]:
        rows = self._all_messages(conversation_id)
        return [row for row in rows if row.seq > after_seq and row.destroy_at is None]

    def discarded_messages(self, conversation_id: ConversationId) -> list[MessageRow]:
        now = self._now()
        return [
            row
            for row in self._all_messages(conversation_id)
            if row.destroy_at and row.destroy_at > now
        ]

    def messages_by_id(self, ids: Iterable[MessageId]) -> list[MessageRow]:
        return [self._tables.messages[its] for its in ids if its in self._tables.messages]

    def messages_between(self, ids: Sequence[ConversationId], seqs: range) -> list[MessageRow]:
        return [row for row in self._all_messages(*ids) if row.seq in seqs]

    def thoughts(self, ids: Iterable[MessageId]) -> list[ThoughtsRow]:
        known = self._tables.thoughts
        return [ThoughtsRow(its, known[its]) for its in ids if its in known]

    def _newest_turn(self, conversation_id: ConversationId) -> TurnRow | None:
        with self._lock:
            turns = [
                turn
                for turn in self._tables.turns.values()
                if turn.conversation_id == conversation_id
                and turn.reservation.purpose is Purpose.REPLY
            ]
        if not turns:
            return None
        turn = turns[-1]
        return TurnRow(
            id=turn.id,
            state=turn.state,
            prompt_id=turn.prompt_id,
            partial=turn.partial,
            partial_thoughts=turn.thoughts,
            begun_at=turn.begun_at,
            lease_until=turn.lease_until,
        )

    def costs(self, turn_ids: Iterable[TurnId]) -> list[CostRow]:
        return [
            CostRow(
                id=turn.id,
                state=turn.state,
                model=turn.reservation.model,
                tokens_in=turn.usage.prompt,
                tokens_out=turn.usage.reply,
                tokens_cached=turn.usage.cached,
                charged_micro=turn.cost_micro,
            )
            for its in turn_ids
            if (turn := self._tables.turns.get(its))
        ]

    def receipts(self, turn_ids: Iterable[TurnId]) -> list[ReceiptRow]:
        return [self._tables.receipts[its] for its in turn_ids if its in self._tables.receipts]

    def documents(self, kind: DocumentKind) -> list[DocumentRow]:
        with self._lock:
            return [
                row for (its_kind, _), row in self._tables.documents.items() if its_kind is kind
            ]

    def _has_space(self, space_id: SpaceId | None) -> bool:
        return space_id is None or (DocumentKind.SPACE, space_id) in self._tables.documents

    def _all_messages(self, *ids: ConversationId) -> list[MessageRow]:
        with self._lock:
            rows = [row for row in self._tables.messages.values() if row.conversation_id in ids]
        return sorted(rows, key=lambda row: row.seq)

    def _update(self, conversation_id: ConversationId, **columns: object) -> ConversationRow:
        with self._lock:
            row = replace(self.conversation(conversation_id), **columns)
            self._tables.conversations[conversation_id] = row
            return row
