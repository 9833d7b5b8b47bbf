"""Sealed rows in the memory of this process, for temporary chats and tests."""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from services.domain import (
    ConversationId,
    FactId,
    MessageId,
    Outcome,
    Purpose,
    Role,
    SpaceId,
    TurnId,
    Usage,
    UserId,
)
from services.errors import Busy, NotFound, SpaceGone, Stale, StoreUnavailable
from services.store.port import Begun, ClientTurnId, Lease, TurnState
from services.store.rows import (
    ConversationChanges,
    ConversationRow,
    ConversationState,
    CostRow,
    DocumentKind,
    DocumentRow,
    Ledger,
    MessageRow,
    PositionRow,
    ReceiptRow,
    Reservation,
    SealedConversation,
    SealedPrompt,
    SealedReply,
    Settlement,
    ThoughtsRow,
    TurnRow,
)

_UNFINISHED = (Outcome.CUT, Outcome.STOPPED, Outcome.INTERRUPTED)  # a reply that can be continued


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


class InMemoryRows:
    """The `Rows` of one user in memory. *ledger* reserves and settles their turns."""

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

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    def close(self) -> None:
        """Forget all text for good. Turns that are streaming can still be settled."""
        with self._lock:
            self._is_closed = True
            turns = self._tables.turns
            self._tables = Tables(turns=turns)
            for turn in turns.values():
                turn.conversation_id = turn.partial = turn.thoughts = None

    # --- reading ---------------------------------------------------------------------------------

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

    def newest_turn(self, conversation_id: ConversationId) -> TurnRow | None:
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

    # --- writing: conversations and documents ----------------------------------------------------

    def create_conversation(self, new: SealedConversation) -> None:
        now = self._now()
        with self._lock:
            self._check_creation(new)
            row = ConversationRow(
                id=new.id,
                title=new.title,
                titled_by="words",
                wrapped_key=new.wrapped_key,
                key_version=1,
                user_key_version=new.user_key_version,
                head=new.head,
                rev=0,
                policy=new.policy,
                policy_size=new.policy_size,
                reset_seq=0,
                start_seq=0,
                last_seq=0,
                read_seq=0,
                state=ConversationState.ACTIVE,
                pinned_at=None,
                destroy_at=None,
                undo_until=None,
                created_at=now,
                updated_at=now,
                model=new.model,
                space_id=new.space_id,
                instructions=new.instructions,
            )
            self._tables.conversations.setdefault(new.id, row)

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

    def delete_conversation(self, conversation_id: ConversationId) -> None:
        with self._lock:
            self.conversation(conversation_id)
            self._destroy([row.id for row in self._all_messages(conversation_id)])
            for turn in self._tables.turns.values():
                if turn.conversation_id == conversation_id:
                    self._tables.receipts.pop(turn.id, None)
                    turn.conversation_id = turn.partial = turn.thoughts = None
            for key, row in list(self._tables.documents.items()):
                if row.conversation_id == conversation_id:
                    del self._tables.documents[key]
            del self._tables.conversations[conversation_id]

    def put_document(
        self,
        document: DocumentRow,
        *,
        seen_rev: int,
        source: ConversationId | None = None,
        cuts: int | None = None,
    ) -> None:
        with self._lock:
            row = document.conversation_id and self.conversation(document.conversation_id)
            of_source = source and self.conversation(source)
            is_cut = of_source and of_source.rev - of_source.last_seq != cuts
            if is_cut or not self._has_space(document.space_id):
                raise NotFound
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

    # --- writing: turns and messages -------------------------------------------------------------

    def begin_turn(
        self,
        reservation: Reservation,
        prompt: SealedPrompt | None = None,
        created: SealedConversation | None = None,
    ) -> Begun:
        with self._lock:
            if known := self._named(reservation.client_turn_id):
                return Begun(known.id, known.reserved_micro)
            if created:
                self._check_creation(created)
            elif prompt:
                self._check_beginning(reservation, prompt)
            begun = self._ledger.begin_turn(reservation)
            if created:
                self.create_conversation(created)
            now = self._now()
            self._tables.turns[begun.turn_id] = TurnRecord(
                id=begun.turn_id,
                conversation_id=prompt and prompt.conversation_id,
                reservation=reservation,
                reserved_micro=begun.reserved_micro,
                prompt_id=prompt and prompt.message_id,
                begun_at=now,
                lease_until=now + timedelta(seconds=reservation.lease_seconds),
            )
            if prompt and reservation.purpose is Purpose.REPLY:
                self._store_prompt(prompt, begun.turn_id)
            if prompt and prompt.receipt:
                self._tables.receipts[begun.turn_id] = ReceiptRow(
                    begun.turn_id, reservation.client_turn_id, prompt.receipt
                )
            return begun

    def checkpoint_turn(
        self,
        turn_id: TurnId,
        lease_seconds: int,
        partial: str | None = None,
        thoughts: str | None = None,
    ) -> Lease:
        lease = self._ledger.checkpoint_turn(turn_id, lease_seconds)
        with self._lock:
            turn = self._tables.turns.get(turn_id)
            if self._is_closed:
                return Lease.STOP_REQUESTED
            if not lease or turn is None or not turn.state.is_open:
                return Lease.LAPSED
            turn.state = TurnState.STREAMING
            turn.lease_until = self._now() + timedelta(seconds=lease_seconds)
            if turn.conversation_id:
                turn.partial, turn.thoughts = partial or turn.partial, thoughts or turn.thoughts
            return Lease.STOP_REQUESTED if turn.is_stop_requested else lease

    def finish_turn(self, settlement: Settlement, reply: SealedReply | None = None) -> None:
        with self._lock:
            turn = self._tables.turns.get(settlement.turn_id)
            if turn is None:
                raise NotFound
            if turn.state.is_final:
                return
            is_recovery = settlement.outcome is Outcome.INTERRUPTED
            if is_recovery and turn.state is not TurnState.LAPSED:
                raise Busy
            row = (
                self._tables.conversations.get(turn.conversation_id)
                if turn.conversation_id
                else None
            )
            prompt = self._tables.messages.get(turn.prompt_id) if turn.prompt_id else None
            is_stored = (
                row is not None
                and turn.reservation.purpose is Purpose.REPLY
                and reply is not None
                and reply.body is not None
                and prompt is not None
                and prompt.destroy_at is None
            )
            if row and reply and is_stored and row.rev != reply.rev:
                raise Stale
            if not is_recovery:
                self._ledger.finish_turn(settlement)
                turn.usage, turn.cost_micro = settlement.usage, settlement.cost_micro
            turn.state = TurnState(settlement.outcome.value)
            turn.partial = turn.thoughts = None
            if row and reply and is_stored:
                self._append(
                    row, reply, turn.prompt_id, Role.ASSISTANT, settlement.outcome, turn.id
                )

    def stop_turn(self, turn_id: TurnId) -> None:
        if turn := self._tables.turns.get(turn_id):
            turn.is_stop_requested = True

    def lapse_turns(self) -> list[TurnRecord]:
        """Mark the turns whose lease ran out as lapsed, charged with the reserved cost if the model was called."""
        with self._lock:
            lapsed = [
                turn
                for turn in self._tables.turns.values()
                if turn.state.is_open and turn.lease_until < self._now()
            ]
            for turn in lapsed:
                turn.cost_micro = turn.reserved_micro if turn.state is TurnState.STREAMING else 0
                turn.state = TurnState.LAPSED
            return lapsed

    def edit_reply(
        self, conversation_id: ConversationId, original: MessageId, reply: SealedReply
    ) -> None:
        with self._lock:
            row = self.conversation(conversation_id)
            if reply.message_id in self._tables.messages:
                return
            if self._is_streaming(conversation_id):
                raise Busy
            if row.rev != reply.rev:
                raise Stale
            edited = self._tables.messages.get(original)
            if edited is None or edited.role is not Role.ASSISTANT or edited.destroy_at:
                raise NotFound
            if edited.conversation_id != conversation_id:
                raise NotFound
            row = self._append(row, reply, edited.parent_id, Role.ASSISTANT, Outcome.EDITED)
            self._update(conversation_id, read_seq=row.last_seq)

    def discard_messages(
        self,
        conversation_id: ConversationId,
        rev: int,
        doomed: Sequence[MessageId],
        facts: Iterable[FactId],
        *,
        kept_summary: str | None,
        head: str,
        seconds: int,
    ) -> None:
        with self._lock:
            row = self.conversation(conversation_id)
            rows = self.messages_by_id(doomed)
            if all(one.destroy_at for one in rows):
                return
            if self._is_streaming(conversation_id, *doomed):
                raise Busy
            if row.rev != rev:
                raise Stale
            rest = self.messages(conversation_id, 0, row.last_seq)
            if any(one.parent_id in doomed and one.id not in doomed for one in rest):
                raise StoreUnavailable("a message stays that follows one that goes")
            is_kept = row.summary is not None and row.summary == kept_summary
            due = self._now() + timedelta(seconds=seconds)
            for one in rows:
                self._tables.messages[one.id] = replace(one, destroy_at=due)
            self._update(
                conversation_id,
                rev=rev + 1,
                head=head,
                undo_until=due,
                summary=row.summary if is_kept else None,
                summary_rev=row.summary_rev + (not is_kept),
            )
            for turn in self._tables.turns.values():
                if turn.prompt_id in doomed:
                    turn.partial = turn.thoughts = None
            for fact_id in facts:
                self._tables.documents.pop((DocumentKind.FACT, fact_id), None)
        self._destroy_in(seconds)

    def restore_messages(
        self, conversation_id: ConversationId, rev: int, restored: Sequence[MessageId], head: str
    ) -> None:
        with self._lock:
            row = self.conversation(conversation_id)
            if row.rev != rev:
                raise Stale
            rows = self.discarded_messages(conversation_id)
            if [one.id for one in rows] != list(restored) or not rows:
                raise NotFound
            for one in rows:
                self._tables.messages[one.id] = replace(one, destroy_at=None)
            self._update(conversation_id, rev=rev + 1, head=head, undo_until=None)

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
                    self.delete_conversation(row.id)

    # --- inside ----------------------------------------------------------------------------------

    def _destroy_in(self, seconds: int) -> None:
        timer = threading.Timer(seconds, self.destroy_due)
        timer.daemon = True
        timer.start()

    def _check_creation(self, new: SealedConversation) -> None:
        if self._is_closed:
            raise NotFound
        if not self._has_space(new.space_id):
            raise SpaceGone

    def _has_space(self, space_id: SpaceId | None) -> bool:
        return space_id is None or (DocumentKind.SPACE, space_id) in self._tables.documents

    def _named(self, client_turn_id: ClientTurnId) -> TurnRecord | None:
        turns = self._tables.turns.values()
        return next(
            (one for one in turns if one.reservation.client_turn_id == client_turn_id), None
        )

    def _all_messages(self, *ids: ConversationId) -> list[MessageRow]:
        with self._lock:
            rows = [row for row in self._tables.messages.values() if row.conversation_id in ids]
        return sorted(rows, key=lambda row: row.seq)

    def _is_streaming(self, conversation_id: ConversationId, *prompts: MessageId) -> bool:
        """Return True while a reply, to one of *prompts* if given, is streaming."""
        return any(
            turn.conversation_id == conversation_id
            and turn.reservation.purpose is Purpose.REPLY
            and turn.state.is_open
            and turn.lease_until > self._now()
            and (not prompts or turn.prompt_id in prompts)
            for turn in self._tables.turns.values()
        )

    def _check_beginning(self, reservation: Reservation, prompt: SealedPrompt) -> None:
        row = self.conversation(prompt.conversation_id)
        if row.destroy_at:
            raise NotFound
        if reservation.purpose is not Purpose.REPLY:
            return
        if self._is_streaming(row.id):
            raise Busy
        if row.rev != prompt.rev or not row.reset_seq <= prompt.start_seq <= row.last_seq:
            raise Stale
        if prompt.body is None:
            asked = self._tables.messages.get(prompt.message_id)
            if asked is None or asked.conversation_id != row.id or asked.destroy_at:
                raise NotFound
            if asked.role is not Role.USER and asked.outcome not in _UNFINISHED:
                raise NotFound

    def _store_prompt(self, prompt: SealedPrompt, turn_id: TurnId) -> None:
        row = self.conversation(prompt.conversation_id)
        if prompt.body is not None:
            message = SealedReply(
                rev=prompt.rev,
                message_id=prompt.message_id,
                body=prompt.body,
                thoughts=None,
                key_version=prompt.key_version,
                head=prompt.head,
            )
            row = self._append(row, message, prompt.parent_id, Role.USER, Outcome.COMPLETE, turn_id)
            self._update(row.id, read_seq=row.last_seq)
        self._update(row.id, start_seq=max(row.start_seq, prompt.start_seq))

    def _append(
        self,
        row: ConversationRow,
        message: SealedReply,
        parent_id: MessageId | None,
        role: Role,
        outcome: Outcome,
        turn_id: TurnId | None = None,
    ) -> ConversationRow:
        now, seq = self._now(), row.last_seq + 1
        self._tables.messages[message.message_id] = MessageRow(
            id=message.message_id,
            conversation_id=row.id,
            seq=seq,
            parent_id=parent_id,
            turn_id=turn_id,
            role=role,
            outcome=outcome,
            body=message.body or "",
            has_thoughts=message.thoughts is not None,
            created_at=now,
            destroy_at=None,
        )
        if message.thoughts is not None:
            self._tables.thoughts[message.message_id] = message.thoughts
        head = message.head or row.head
        return self._update(row.id, rev=row.rev + 1, last_seq=seq, head=head, updated_at=now)

    def _update(self, conversation_id: ConversationId, **columns: object) -> ConversationRow:
        with self._lock:
            row = replace(self.conversation(conversation_id), **columns)
            self._tables.conversations[conversation_id] = row
            return row

    def _destroy(self, ids: Iterable[MessageId]) -> None:
        for its in ids:
            self._tables.messages.pop(its, None)
            self._tables.thoughts.pop(its, None)
            for turn in self._tables.turns.values():
                if turn.prompt_id == its:
                    self._tables.receipts.pop(turn.id, None)
