"""Sealed rows in Supabase: selects under row level security, and one RPC for each write."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Protocol
from uuid import UUID

from services.domain import (
    ConversationId,
    FactId,
    Listed,
    MessageId,
    SpaceId,
    TurnId,
)
from services.domain.revisions import OpenPlace, Revisions
from services.domain.turns import Begun, ClientTurnId, Lease, Reservation, Settlement
from services.errors import NotFound
from services.store.rows import (
    ConversationChanges,
    ConversationRead,
    ConversationRow,
    ConversationState,
    CostRow,
    DocumentKind,
    DocumentRow,
    MessageRow,
    ReceiptRow,
    SealedConversation,
    SealedMessage,
    SealedPrompt,
    ThoughtsRow,
)
from services.store.supabase.api import (
    Hidden,
    Query,
    Table,
    UserCalls,
    accepted,
    every_row,
)
from services.store.supabase.usage import SupabaseUsage


@dataclass(frozen=True, slots=True)
class _ClientTurn:
    client_turn_id: ClientTurnId


@dataclass(frozen=True, slots=True)
class _Receipt:
    turn_id: TurnId
    body: str = field(repr=False)
    turns: _ClientTurn


# not read of many conversations at once
_LONG = {"instructions", "instructions_rev", "summary", "summary_rev"}
_LISTED = ",".join(each.name for each in fields(ConversationRow) if each.name not in _LONG)
_CONVERSATIONS = Table("conversations", ConversationRow)
_LISTED_CONVERSATIONS = Table("conversations", ConversationRow, _LISTED)
_POSITIONS = Table("conversations", Listed)
_MESSAGES = Table("messages", MessageRow)
_THOUGHTS = Table("messages", ThoughtsRow)
_COSTS = Table("turns", CostRow)
_RECEIPTS = Table("receipts", _Receipt, "turn_id,body,turns(client_turn_id)")
_DOCUMENTS = Table("documents", DocumentRow)


class Session(Protocol):
    """The app session that reads and writes as one user."""

    @property
    def calls(self) -> UserCalls: ...
    def check_rows(self) -> None: ...


class SupabaseRows:
    """The `Rows` of one user in Supabase."""

    def __init__(self, session: Session, most_bytes: int | None = None) -> None:
        """*most_bytes* that the account may store; None: no limit."""
        self._session, self.most_bytes = session, most_bytes
        self._client, self.user_id = session.calls.client, session.calls.user_id
        self.usage = SupabaseUsage(session.calls)

    def check_complete(self) -> None:
        self._session.check_rows()

    # --- reading ---------------------------------------------------------------------------------

    def conversation(self, conversation_id: ConversationId) -> ConversationRow:
        rows = _CONVERSATIONS.rows(self._client, lambda query: query.eq("id", str(conversation_id)))
        if not rows:
            raise NotFound
        return rows[0]

    def read_conversation(
        self, conversation_id: ConversationId, after_seq: int
    ) -> ConversationRead:
        arguments = {"conversation": conversation_id, "after_seq": after_seq}
        return self._session.calls.select("read_conversation", ConversationRead, **arguments)

    def conversations(self, ids: Iterable[ConversationId]) -> list[ConversationRow]:
        return _LISTED_CONVERSATIONS.rows_of(self._client, "id", ids)

    def all_conversations(self) -> list[ConversationRow]:
        return _LISTED_CONVERSATIONS.all_rows(self._client, _is_not_discarded)

    def positions(self) -> list[Listed]:
        return _POSITIONS.all_rows(self._client, _is_not_discarded)

    def recent_conversations(
        self, limit: int, *, is_archived: bool, space_id: SpaceId | None
    ) -> list[ConversationRow]:
        state = ConversationState.ARCHIVED if is_archived else ConversationState.ACTIVE

        def newest(query: Query) -> Query:
            query = query.eq("space_id", str(space_id)) if space_id else query
            return (
                _is_not_discarded(query)
                .eq("state", state)
                .order("pinned_at", desc=True, nullsfirst=False)
                .order("updated_at", desc=True)
                .limit(limit)
            )

        return _LISTED_CONVERSATIONS.rows(self._client, newest)

    def poll(self, place: OpenPlace) -> Revisions:
        return self._session.calls.select(
            "poll",
            Revisions,
            conversation=place.conversation_id,
            space=place.space_id,
            archived=place.is_archive,
        )

    def messages(
        self, conversation_id: ConversationId, after_seq: int, last_seq: int
    ) -> list[MessageRow]:
        def page(last: MessageRow | None, limit: int) -> list[MessageRow]:
            if last and last.seq >= last_seq:
                return []
            return _MESSAGES.rows(
                self._client,
                lambda query: (
                    _is_not_discarded(query)
                    .eq("conversation_id", str(conversation_id))
                    .gt("seq", last.seq if last else after_seq)
                    .order("seq")
                    .limit(limit)
                ),
            )

        return every_row(page)

    def discarded_messages(self, conversation_id: ConversationId) -> list[MessageRow]:
        def is_discarded(query: Query) -> Query:
            # "now" is read by the database, whose clock decides
            return query.eq("conversation_id", str(conversation_id)).gt("destroy_at", "now")

        rows = _MESSAGES.all_rows(self._client, is_discarded)
        return sorted(rows, key=lambda row: row.seq)

    def messages_by_id(self, ids: Iterable[MessageId]) -> list[MessageRow]:
        return _MESSAGES.rows_of(self._client, "id", ids)

    def messages_between(self, ids: Sequence[ConversationId], seqs: range) -> list[MessageRow]:
        def is_between(query: Query) -> Query:
            query = query.in_("conversation_id", map(str, ids))
            return query.gte("seq", seqs.start).lt("seq", seqs.stop)

        return sorted(_MESSAGES.all_rows(self._client, is_between), key=lambda row: row.seq)

    def thoughts(self, ids: Iterable[MessageId]) -> list[ThoughtsRow]:
        return _THOUGHTS.rows_of(self._client, "id", ids)

    def costs(self, turn_ids: Iterable[TurnId]) -> list[CostRow]:
        return _COSTS.rows_of(self._client, "id", turn_ids)

    def receipts(self, turn_ids: Iterable[TurnId]) -> list[ReceiptRow]:
        rows = _RECEIPTS.rows_of(self._client, "turn_id", turn_ids)
        return [ReceiptRow(row.turn_id, row.turns.client_turn_id, row.body) for row in rows]

    def documents(self, kind: DocumentKind) -> list[DocumentRow]:
        return _DOCUMENTS.all_rows(self._client, lambda query: query.eq("kind", kind))

    # --- writing: conversations and documents ----------------------------------------------------

    def change_conversation(
        self, conversation_id: ConversationId, changes: ConversationChanges
    ) -> bool:
        answer = self._session.calls.do(
            "change_conversation", conversation=conversation_id, changes=Hidden.json(changes)
        )
        return answer.values["changed"] is True

    def discard_conversation(self, conversation_id: ConversationId, seconds: int) -> None:
        self._session.calls.do(
            "discard_conversation", conversation=conversation_id, for_seconds=seconds
        )

    def restore_conversation(self, conversation_id: ConversationId) -> None:
        self._session.calls.do("restore_conversation", conversation=conversation_id)

    def put_document(
        self,
        document: DocumentRow,
        *,
        seen_rev: int,
        source: ConversationId | None = None,
        cuts: int | None = None,
    ) -> None:
        answer = self._session.calls.call(
            "put_document",
            new_kind=document.kind,
            document=document.id,
            conversation=document.conversation_id,
            space=document.space_id,
            seen_rev=seen_rev,
            new_rev=document.rev,
            new_body=Hidden(document.body),
            source=source,
            cuts=cuts,
            most_bytes=self.most_bytes,
        )
        accepted(f"put_{document.kind}", answer)

    def delete_document(self, document_id: UUID) -> None:
        self._session.calls.do("delete_document", document=document_id)

    def delete_facts(self) -> None:
        self._session.calls.do("delete_facts")

    # --- writing: turns and messages -------------------------------------------------------------

    def begin_turn(
        self,
        reservation: Reservation,
        prompt: SealedPrompt | None = None,
        created: SealedConversation | None = None,
    ) -> Begun:
        message = prompt and prompt.message
        answer = self._session.calls.call(
            "begin_turn",
            client_turn=reservation.client_turn_id,
            conversation=prompt and prompt.conversation_id,
            expected_rev=message and message.rev,
            prompt=message and message.id,
            parent=message and message.parent_id,
            prompt_body=Hidden(message and message.body),
            new_head=Hidden(message and message.head),
            new_start_seq=prompt and prompt.start_seq,
            receipt_body=Hidden(prompt and prompt.receipt),
            new_purpose=reservation.purpose.value,
            model_name=Hidden(reservation.model),
            prompt_micro=reservation.prompt_micro,
            reply_micro=reservation.reply_micro,
            least_reply_micro=reservation.least_reply_micro,
            prompt_tokens=reservation.prompt_tokens,
            reply_tokens=reservation.reply_tokens,
            least_reply_tokens=reservation.least_reply_tokens,
            lease_seconds=reservation.lease_seconds,
            created=Hidden(created and json.dumps(asdict(created), default=str)),
            most_bytes=self.most_bytes,
        )
        found = accepted("begin_turn", answer, reservation).values
        return Begun(
            TurnId(UUID(str(found["turn"]))),
            int(str(found["reserved"])),
            int(str(found["reserved_tokens"])),
        )

    def checkpoint_turn(
        self,
        turn_id: TurnId,
        lease_seconds: int,
        partial: str | None = None,
        thoughts: str | None = None,
    ) -> Lease:
        answer = self._session.calls.call(
            "checkpoint_turn",
            turn=turn_id,
            said=Hidden(partial),
            thoughts=Hidden(thoughts),
            lease_seconds=lease_seconds,
        )
        if not answer.ok:
            return Lease.LAPSED
        return Lease.STOP_REQUESTED if answer.values.get("stop") is True else Lease.HELD

    def finish_turn(self, settlement: Settlement, reply: SealedMessage | None = None) -> None:
        answer = self._session.calls.call(
            "finish_turn",
            turn=settlement.turn_id,
            outcome=settlement.outcome.value,
            expected_rev=reply and reply.rev,
            reply=reply and reply.id,
            reply_body=Hidden(reply and reply.body),
            reply_thoughts=Hidden(reply and reply.thoughts),
            new_head=Hidden(reply and reply.head),
            used_in=settlement.usage.prompt,
            used_out=settlement.usage.reply,
            used_cached=settlement.usage.cached,
            cost_micro=settlement.cost_micro,
            first_token_ms=settlement.first_token_ms,
        )
        accepted("finish_turn", answer)

    def stop_turn(self, turn_id: TurnId) -> None:
        self._session.calls.call("stop_turn", turn=turn_id)

    def edit_reply(
        self, conversation_id: ConversationId, original: MessageId, reply: SealedMessage
    ) -> None:
        self._edit(conversation_id, original, reply)

    def count_edit(self) -> None:
        self._edit()

    def _edit(
        self,
        conversation_id: ConversationId | None = None,
        original: MessageId | None = None,
        reply: SealedMessage | None = None,
    ) -> None:
        answer = self._session.calls.call(
            "edit_reply",
            conversation=conversation_id,
            expected_rev=reply and reply.rev,
            original=original,
            reply=reply and reply.id,
            reply_body=Hidden(reply and reply.body),
            new_head=Hidden(reply and reply.head),
            most_bytes=self.most_bytes,
        )
        accepted("edit_reply", answer)

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
        self._session.calls.do(
            "discard_messages",
            conversation=conversation_id,
            expected_rev=rev,
            doomed=Hidden(",".join(map(str, doomed))),
            noted=Hidden(",".join(map(str, facts))),
            kept_summary=Hidden(kept_summary),
            new_head=Hidden(head),
            for_seconds=seconds,
        )

    def restore_messages(
        self, conversation_id: ConversationId, rev: int, restored: Sequence[MessageId], head: str
    ) -> None:
        self._session.calls.do(
            "restore_messages",
            conversation=conversation_id,
            expected_rev=rev,
            restored=Hidden(",".join(map(str, restored))),
            new_head=Hidden(head),
        )


def _is_not_discarded(query: Query) -> Query:
    return query.is_("destroy_at", "null")
