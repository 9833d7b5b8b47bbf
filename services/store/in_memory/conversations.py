"""Conversations and documents in memory, and the tables of all rows."""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import chain
from uuid import UUID

from services.domain import ConversationId, Listed, MessageId, SpaceId, TurnId, Usage
from services.domain.turns import Reservation, TurnState
from services.errors import AccountFull, NotFound, SpaceGone, Stale
from services.store.rows import (
    ConversationChanges,
    ConversationRow,
    ConversationState,
    DocumentKind,
    DocumentRow,
    Ledger,
    MessageRow,
    ReceiptRow,
    ThoughtsRow,
)
from services.store.writes import PutDocument


@dataclass(slots=True, kw_only=True)
class TurnRecord:
    """A turn with its reservation and its cost."""

    id: TurnId
    conversation_id: ConversationId | None
    reservation: Reservation
    reserved_micro: int
    reserved_tokens: int
    prompt_id: MessageId | None
    begun_at: datetime
    lease_until: datetime
    state: TurnState = TurnState.RESERVED
    partial: str | None = None
    thoughts: str | None = None
    is_stop_requested: bool = False
    usage: Usage = field(default_factory=lambda: Usage(0, 0))
    cost_micro: int = 0


class Tables:
    """All rows of one user."""

    def __init__(self) -> None:
        self.conversations: dict[ConversationId, ConversationRow] = {}
        self.messages: dict[MessageId, MessageRow] = {}
        self.thoughts: dict[MessageId, str] = {}
        self.turns: dict[TurnId, TurnRecord] = {}
        self.receipts: dict[TurnId, ReceiptRow] = {}
        self.documents: dict[tuple[DocumentKind, UUID], DocumentRow] = {}

    @property
    def bytes(self) -> int:
        """The length of all sealed texts, without keys and heads."""
        bodies = (*self.messages.values(), *self.receipts.values(), *self.documents.values())
        own = ((row.title, row.summary, row.instructions) for row in self.conversations.values())
        texts = (*(row.body for row in bodies), *self.thoughts.values(), *chain.from_iterable(own))
        return sum(len(text) for text in texts if text)


class InMemoryConversations:
    """The conversations, messages and documents of one user. *ledger* reserves and settles their turns."""

    def __init__(
        self,
        ledger: Ledger,
        tables: Tables | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        most_bytes: int | None = None,
    ) -> None:
        """*most_bytes* that the account may store; None: no limit."""
        self._ledger, self._tables, self._now = ledger, tables or Tables(), now
        self.most_bytes, self._bytes = most_bytes, 0  # stored when `_minute` began
        self._minute = datetime.min.replace(tzinfo=UTC)
        self.user_id, self.usage = ledger.user_id, ledger.usage
        self._lock = threading.RLock()
        self.is_closed = False

    def conversation(self, conversation_id: ConversationId) -> ConversationRow:
        row = self._tables.conversations.get(conversation_id)
        if row is None:
            raise NotFound
        return row

    def conversations(self, ids: Iterable[ConversationId]) -> list[ConversationRow]:
        return [self._tables.conversations[its] for its in ids if its in self._tables.conversations]

    def all_conversations(self) -> list[ConversationRow]:
        with self._lock:
            return [row for row in self._tables.conversations.values() if row.destroy_at is None]

    def positions(self) -> list[Listed]:
        return [
            Listed(id=row.id, rev=row.rev, last_seq=row.last_seq, space_id=row.space_id)
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

    def _messages(self, conversation_id: ConversationId, after_seq: int = 0) -> list[MessageRow]:
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

    def thoughts(
        self, conversation_id: ConversationId, ids: Iterable[MessageId]
    ) -> list[ThoughtsRow]:
        known = self._tables.thoughts
        return [ThoughtsRow(its, known[its]) for its in ids if its in known]

    def documents(self, kind: DocumentKind) -> list[DocumentRow]:
        with self._lock:
            return [
                row for (its_kind, _), row in self._tables.documents.items() if its_kind is kind
            ]

    def _check_room(self) -> None:
        """Raise AccountFull if the account had stored as much as it may when this minute began."""
        minute = self._now().replace(second=0, microsecond=0)
        if minute > self._minute:
            self._minute, self._bytes = minute, self._tables.bytes
        if self.most_bytes is not None and self._bytes >= self.most_bytes:
            raise AccountFull

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

    def change_conversation(
        self, conversation_id: ConversationId, changes: ConversationChanges
    ) -> bool:
        with self._lock:
            row = self.conversation(conversation_id)
            if changes.get("titled_by") == "model" and row.titled_by != "words":
                return False
            space_id = changes.get("space_id", row.space_id)
            if not self._has_space(space_id):
                raise SpaceGone
            pinned_at = row.pinned_at
            if "pinned" in changes:
                pinned_at = (pinned_at or self._now()) if changes["pinned"] else None
            reset_seq = changes.get("reset_seq", row.reset_seq)
            moves_start = "policy" in changes or "reset_seq" in changes
            self._tables.conversations[conversation_id] = replace(
                row,
                title=changes.get("title", row.title),
                titled_by=changes.get("titled_by", row.titled_by),
                pinned_at=pinned_at,
                state=changes.get("state", row.state),
                policy=changes.get("policy", row.policy),
                policy_size=changes.get("policy_size", row.policy_size),
                reset_seq=reset_seq,
                start_seq=reset_seq if moves_start else row.start_seq,
                model=changes.get("model", row.model),
                space_id=space_id,
                read_seq=max(row.read_seq, min(changes.get("read_seq", 0), row.last_seq)),
                facts_seq=max(row.facts_seq, min(changes.get("facts_seq", 0), row.last_seq)),
            )
            return True

    def discard_conversation(self, conversation_id: ConversationId, seconds: int) -> None:
        due = self.conversation(conversation_id).destroy_at
        due = due or self._now() + timedelta(seconds=seconds)
        self._update(conversation_id, destroy_at=due)
        self._destroy_in(seconds)

    def restore_conversation(self, conversation_id: ConversationId) -> None:
        destroy_at = self.conversation(conversation_id).destroy_at
        if destroy_at is None or destroy_at <= self._now():
            raise NotFound
        self._update(conversation_id, destroy_at=None)

    def put_document(self, write: PutDocument) -> None:
        document, source, cuts = write.row, write.source_id, write.cuts
        seen_rev = write.seen_rev
        with self._lock:
            row = document.conversation_id and self.conversation(document.conversation_id)
            of_source = source and self.conversation(source)
            is_cut = of_source and of_source.rev - of_source.last_seq != cuts
            if is_cut or not self._has_space(document.space_id):
                raise NotFound
            if seen_rev == 0 and source is None and document.kind is not DocumentKind.SUMMARY:
                self._check_room()
            is_text = document.kind in (DocumentKind.INSTRUCTIONS, DocumentKind.SUMMARY)
            if row and is_text:
                now = row.text(document.kind)
            else:
                now = self._tables.documents.get((document.kind, document.id))
            if now and (now.rev, now.body) == (document.rev, document.body):
                return
            if (now.rev if now else 0) != seen_rev:
                raise Stale
            if row and is_text:
                if document.kind is DocumentKind.SUMMARY and row.rev - row.last_seq != cuts:
                    raise Stale
                columns = {document.kind: document.body, f"{document.kind}_rev": document.rev}
                self._update(row.id, **columns)
                return
            scope = document.conversation_id, document.space_id
            if now and scope != (now.conversation_id, now.space_id):
                raise Stale
            created_at = now.created_at if now else self._now()
            document = replace(document, created_at=created_at)
            self._tables.documents[document.kind, document.id] = document

    def delete_document(self, document_id: UUID) -> None:
        with self._lock:
            documents = self._tables.documents
            deleted = [
                (kind, its)
                for (kind, its), row in documents.items()
                if document_id in (its, row.space_id) and kind is not DocumentKind.PREFERENCES
            ]
            if not deleted:
                raise NotFound
            for key in deleted:
                del documents[key]
            for its, row in self._tables.conversations.items():
                if row.space_id == document_id:
                    self._tables.conversations[its] = replace(row, space_id=None)

    def delete_facts(self) -> None:
        with self._lock:
            for key in [key for key in self._tables.documents if key[0] is DocumentKind.FACT]:
                del self._tables.documents[key]

    def destroy_due(self) -> None:
        """Destroy deleted messages and discarded conversations whose time is over."""
        now = self._now()
        with self._lock:
            due = [
                one
                for one in self._tables.messages.values()
                if one.destroy_at and one.destroy_at <= now
            ]
            self._destroy([one.id for one in due])
            for row in list(self._tables.conversations.values()):
                if row.destroy_at and row.destroy_at <= now:
                    self._destroy_conversation(row.id)

    def _destroy_in(self, seconds: int) -> None:
        timer = threading.Timer(seconds, self.destroy_due)
        timer.daemon = True
        timer.start()

    def _destroy_conversation(self, conversation_id: ConversationId) -> None:
        self._destroy([row.id for row in self._all_messages(conversation_id)])
        for turn in self._tables.turns.values():
            if turn.conversation_id == conversation_id:
                self._tables.receipts.pop(turn.id, None)
                turn.conversation_id = turn.partial = turn.thoughts = None
        for key, row in list(self._tables.documents.items()):
            if row.conversation_id == conversation_id:
                del self._tables.documents[key]
        del self._tables.conversations[conversation_id]

    def _destroy(self, ids: Iterable[MessageId]) -> None:
        for its in ids:
            self._tables.messages.pop(its, None)
            self._tables.thoughts.pop(its, None)
            for turn in self._tables.turns.values():
                if turn.prompt_id == its:
                    self._tables.receipts.pop(turn.id, None)
