"""The rows of one user in memory: turns, and the messages that they store."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta

from services.crypto import sha
from services.domain import (
    ConversationId,
    MessageId,
    Outcome,
    Purpose,
    Role,
    SpaceId,
    TurnId,
)
from services.domain.revisions import LISTED, OpenPlace, Revisions, list_digest
from services.domain.turns import Begun, ClientTurnId, Lease, Reservation, TurnState
from services.errors import Busy, NotFound, SpaceGone, Stale, StoreUnavailable
from services.store.in_memory.conversations import InMemoryConversations, Tables, TurnRecord
from services.store.rows import (
    ConversationRead,
    ConversationRow,
    CostRow,
    DocumentKind,
    MessageRow,
    ReceiptRow,
    TurnRow,
)
from services.store.writes import (
    BeginTurn,
    CheckpointTurn,
    DiscardMessages,
    EditReply,
    FinishTurn,
    RestoreMessages,
    SealedPrompt,
    SealedReply,
)

_UNFINISHED = (
    Outcome.CUT,
    Outcome.STOPPED,
    Outcome.FAILED,
    Outcome.INTERRUPTED,
)  # a reply that can be continued


@dataclass(frozen=True, slots=True)
class _Listed:
    """A row as `list_digest` takes it."""

    id: ConversationId
    title_hash: str = field(repr=False)
    pinned_at: datetime | None
    space_id: SpaceId | None
    is_unread: bool

    @classmethod
    def of(cls, row: ConversationRow) -> "_Listed":
        is_unread = row.last_seq > row.read_seq
        return cls(row.id, sha(row.title), row.pinned_at, row.space_id, is_unread)


class InMemoryRows(InMemoryConversations):
    """The `Rows` of one user in memory."""

    def close(self) -> None:
        """Forget all text for good. Turns that are streaming can still be settled."""
        with self._lock:
            self.is_closed = True
            turns, self._tables = self._tables.turns, Tables()
            self._tables.turns = turns
            for turn in turns.values():
                turn.conversation_id = turn.partial = turn.thoughts = None

    def read_conversation(
        self, conversation_id: ConversationId, after_seq: int
    ) -> ConversationRead:
        with self._lock:
            row = self.conversation(conversation_id)
            messages = self._messages(conversation_id, after_seq)
            turn_ids = {message.turn_id for message in messages if message.turn_id}
            return ConversationRead(
                conversation=row,
                messages=messages,
                newest_turn=self._newest_turn(conversation_id),
                costs=self.costs(conversation_id, turn_ids),
                receipts=self.receipts(conversation_id, turn_ids),
            )

    def poll(self, place: OpenPlace) -> Revisions:
        with self._lock:
            found = self.recent_conversations(
                LISTED, is_archived=place.is_archive, space_id=place.space_id
            )
            opened = place.conversation_id and self._tables.conversations.get(place.conversation_id)
            preferences = self.documents(DocumentKind.PREFERENCES)
            return Revisions(
                chat=opened.rev if opened and opened.destroy_at is None else None,
                list=list_digest(map(_Listed.of, found), place.conversation_id),
                running=frozenset(
                    turn.conversation_id
                    for turn in self._tables.turns.values()
                    if turn.conversation_id
                    and turn.state.is_open
                    and turn.reservation.purpose is Purpose.REPLY
                    and turn.lease_until > self._now()
                ),
                preferences=max((row.rev for row in preferences), default=0),
                settings="",
                is_admin=False,
            )

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

    def costs(self, conversation_id: ConversationId, turn_ids: Iterable[TurnId]) -> list[CostRow]:
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

    def receipts(
        self, conversation_id: ConversationId, turn_ids: Iterable[TurnId]
    ) -> list[ReceiptRow]:
        return [self._tables.receipts[its] for its in turn_ids if its in self._tables.receipts]

    def begin_turn(self, write: BeginTurn) -> Begun:
        reservation, prompt, created = write.reservation, write.prompt, write.created
        with self._lock:
            if known := self._named(reservation.client_turn_id):
                return Begun(known.id, known.reserved_micro, known.reserved_tokens)
            if created and self.is_closed:
                raise NotFound
            if prompt and not created:
                self._check_beginning(reservation, prompt)
            if prompt:
                self._check_room()
            if created and not self._has_space(created.space_id):
                raise SpaceGone
            begun = self._ledger.begin_turn(BeginTurn(reservation=reservation))
            now = self._now()
            if created:
                self._tables.conversations[created.id] = ConversationRow(
                    **asdict(created), created_at=now, updated_at=now
                )
            self._tables.turns[begun.turn_id] = TurnRecord(
                id=begun.turn_id,
                conversation_id=prompt and prompt.conversation_id,
                reservation=reservation,
                reserved_micro=begun.reserved_micro,
                reserved_tokens=begun.reserved_tokens,
                prompt_id=prompt and prompt.prompt_id,
                begun_at=now,
                lease_until=now + timedelta(seconds=reservation.lease_seconds),
            )
            if prompt and reservation.purpose is Purpose.REPLY:
                self._store_prompt(prompt, begun.turn_id)
            if prompt and prompt.receipt_body:
                self._tables.receipts[begun.turn_id] = ReceiptRow(
                    begun.turn_id, reservation.client_turn_id, prompt.receipt_body
                )
            return begun

    def checkpoint_turn(self, write: CheckpointTurn) -> Lease:
        seconds = write.lease_seconds
        lease = self._ledger.checkpoint_turn(
            CheckpointTurn(turn_id=write.turn_id, lease_seconds=seconds)
        )
        with self._lock:
            turn = self._tables.turns.get(write.turn_id)
            if self.is_closed:
                return Lease.STOP_REQUESTED
            if not lease or turn is None or not turn.state.is_open:
                return Lease.LAPSED
            turn.state = TurnState.STREAMING
            turn.lease_until = self._now() + timedelta(seconds=seconds)
            if turn.conversation_id:
                turn.partial = write.new_partial or turn.partial
                turn.thoughts = write.new_thoughts or turn.thoughts
            return Lease.STOP_REQUESTED if turn.is_stop_requested else lease

    def finish_turn(self, write: FinishTurn) -> None:
        settlement, reply = write.settlement, write.reply
        with self._lock:
            turn = self._tables.turns.get(settlement.turn_id)
            if turn is None:
                raise NotFound
            if turn.state.is_final:
                return
            is_recovery = settlement.outcome is Outcome.INTERRUPTED
            if is_recovery and turn.state is not TurnState.LAPSED:
                raise Busy
            prompt = self._tables.messages.get(turn.prompt_id) if turn.prompt_id else None
            row = None  # where the reply is stored
            if prompt and not prompt.destroy_at and turn.reservation.purpose is Purpose.REPLY:
                row = self._tables.conversations.get(prompt.conversation_id)
            if row and reply and reply.reply_body and row.rev != reply.expected_rev:
                raise Stale
            if not is_recovery:
                self._ledger.finish_turn(FinishTurn(settlement=settlement))
                turn.usage, turn.cost_micro = settlement.usage, settlement.cost_micro
            turn.state = TurnState(settlement.outcome.value)
            turn.partial = turn.thoughts = None
            if row and reply and reply.reply_body:
                outcome = settlement.outcome
                self._append(row, reply, turn.prompt_id, Role.ASSISTANT, outcome, turn.id)

    def stop_turn(self, conversation_id: ConversationId, turn_id: TurnId) -> None:
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

    def edit_reply(self, write: EditReply) -> None:
        conversation_id = write.conversation_id
        with self._lock:
            row = self.conversation(conversation_id)
            if write.reply_id in self._tables.messages:
                return
            if self._is_streaming(conversation_id):
                raise Busy
            if row.rev != write.expected_rev:
                raise Stale
            edited = self._tables.messages.get(write.original_id)
            if edited is None or edited.role is not Role.ASSISTANT or edited.destroy_at:
                raise NotFound
            if edited.conversation_id != conversation_id:
                raise NotFound
            self._check_room()
            self._ledger.count_edit()
            reply = SealedReply(
                expected_rev=write.expected_rev,
                reply_id=write.reply_id,
                reply_body=write.reply_body,
                new_head=write.new_head,
            )
            row = self._append(row, reply, edited.parent_id, Role.ASSISTANT, Outcome.EDITED)
            self._update(conversation_id, read_seq=row.last_seq)

    def count_edit(self) -> None:
        self._ledger.count_edit()

    def discard_messages(self, write: DiscardMessages) -> None:
        conversation_id, doomed = write.conversation_id, write.message_ids
        rev, seconds = write.expected_rev, write.for_seconds
        with self._lock:
            row = self.conversation(conversation_id)
            rows = self.messages_by_id(doomed)
            if all(one.destroy_at for one in rows):
                return
            if self._is_streaming(conversation_id, *doomed):
                raise Busy
            if row.rev != rev:
                raise Stale
            rest = self._messages(conversation_id)
            if any(one.parent_id in doomed and one.id not in doomed for one in rest):
                raise StoreUnavailable("a message stays that follows one that goes")
            is_kept = row.summary is not None and row.summary == write.kept_summary
            due = self._now() + timedelta(seconds=seconds)
            for one in rows:
                self._tables.messages[one.id] = replace(one, destroy_at=due)
            self._update(
                conversation_id,
                rev=rev + 1,
                head=write.new_head,
                undo_until=due,
                summary=row.summary if is_kept else None,
                summary_rev=row.summary_rev + (not is_kept),
            )
            for turn in self._tables.turns.values():
                if turn.prompt_id in doomed:
                    turn.partial = turn.thoughts = None
            for fact_id in write.fact_ids:
                self._tables.documents.pop((DocumentKind.FACT, fact_id), None)
        self._destroy_in(seconds)

    def restore_messages(self, write: RestoreMessages) -> None:
        conversation_id, restored = write.conversation_id, write.message_ids
        rev, head = write.expected_rev, write.new_head
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

    def _named(self, client_turn_id: ClientTurnId) -> TurnRecord | None:
        turns = self._tables.turns.values()
        return next(
            (one for one in turns if one.reservation.client_turn_id == client_turn_id), None
        )

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
        if row.rev != prompt.expected_rev:
            raise Stale
        if not row.reset_seq <= prompt.new_start_seq <= row.last_seq:
            raise Stale
        if prompt.prompt_body is None:
            asked = self._tables.messages.get(prompt.prompt_id)
            if asked is None or asked.conversation_id != row.id or asked.destroy_at:
                raise NotFound
            if asked.role is not Role.USER and asked.outcome not in _UNFINISHED:
                raise NotFound

    def _store_prompt(self, prompt: SealedPrompt, turn_id: TurnId) -> None:
        row = self.conversation(prompt.conversation_id)
        if prompt.prompt_body is not None:
            message = SealedReply(
                expected_rev=prompt.expected_rev,
                reply_id=prompt.prompt_id,
                reply_body=prompt.prompt_body,
                new_head=prompt.new_head,
            )
            row = self._append(row, message, prompt.parent_id, Role.USER, Outcome.COMPLETE, turn_id)
            self._update(row.id, read_seq=row.last_seq)
        self._update(row.id, start_seq=prompt.new_start_seq)

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
        self._tables.messages[message.reply_id] = MessageRow(
            id=message.reply_id,
            conversation_id=row.id,
            seq=seq,
            parent_id=parent_id,
            turn_id=turn_id,
            role=role,
            outcome=outcome,
            body=message.reply_body or "",
            has_thoughts=message.reply_thoughts is not None,
            created_at=now,
            destroy_at=None,
        )
        if message.reply_thoughts is not None:
            self._tables.thoughts[message.reply_id] = message.reply_thoughts
        head = message.new_head or row.head
        return self._update(row.id, rev=row.rev + 1, last_seq=seq, head=head, updated_at=now)
