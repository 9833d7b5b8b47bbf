"""Sealed rows in Supabase: selects under row level security, and one RPC for each write."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from uuid import UUID

from services.domain import AttachmentId, ConversationId, Listed, MessageId, SpaceId, TurnId
from services.domain.revisions import LISTED, OpenPlace, Revisions
from services.domain.rows import (
    SEARCH_TEXT,
    ConversationRow,
    ConversationState,
    DocumentKind,
    DocumentRow,
    MessageRow,
    SearchTextRow,
)
from services.domain.turns import Begun, ClientTurnId, Lease, Pace
from services.errors import NotFound
from services.store.rows import (
    ConversationChanges,
    ConversationRead,
    CostRow,
    FirstPage,
    PieceRow,
    ReceiptRow,
    ThoughtsRow,
)
from services.store.supabase.api import (
    LEAST,
    PAGE,
    Query,
    Table,
    UserCalls,
    accepted,
    batches,
    every_row,
)
from services.store.supabase.arguments import Argument, Hidden, argument_fields, arguments_of
from services.store.supabase.usage import SupabaseUsage
from services.store.writes import (
    BeginTurn,
    CheckpointTurn,
    DiscardMessages,
    EditReply,
    FinishTurn,
    PutDocument,
    PutPiece,
    PutSearchText,
    RestoreMessages,
)


@dataclass(frozen=True, slots=True)
class _ClientTurn:
    client_turn_id: ClientTurnId


@dataclass(frozen=True, slots=True)
class _Receipt:
    turn_id: TurnId
    body: str = field(repr=False)
    turns: _ClientTurn


# long columns, omitted when many conversations are read
_LONG = {"instructions", "instructions_rev", "summary", "summary_rev"}
_LISTED = ",".join(each.name for each in fields(ConversationRow) if each.name not in _LONG)
_CONVERSATIONS = Table("conversations", ConversationRow)
_LISTED_CONVERSATIONS = Table("conversations", ConversationRow, _LISTED)
_POSITIONS = Table("conversations", Listed)
_MESSAGES = Table("messages", MessageRow)
_PIECES = Table("pieces", PieceRow)
_SEARCH_TEXTS = Table("search_texts", SearchTextRow)
_THOUGHTS = Table("messages", ThoughtsRow)
_COSTS = Table("turns", CostRow)
_RECEIPTS = Table("receipts", _Receipt, "turn_id,body,turns(client_turn_id)")
_DOCUMENTS = Table("documents", DocumentRow)
_FIRST_KINDS = DocumentKind.PREFERENCES, DocumentKind.SPACE, DocumentKind.FACT


class SupabaseRows:
    """Implements `Rows` for one user, in Supabase. Any thread may call any method."""

    def __init__(
        self, calls: UserCalls, most_bytes: int | None = None, first: FirstPage | None = None
    ) -> None:
        """Each write enforces *most_bytes*, the maximum bytes of the account (None: no limit).

        *first* has lists that were read in advance: the first read of such a list makes no call to the API.
        """
        self._first_list = [first.conversations] if first else []
        self._first_documents: dict[DocumentKind, list[DocumentRow]] = {}
        if first:
            for kind in _FIRST_KINDS:
                rows = [row for row in first.documents if row.kind is kind]
                self._first_documents[kind] = rows
        self._calls, self.most_bytes = calls, most_bytes
        self._client, self.user_id = calls.client, calls.user_id
        self.usage = SupabaseUsage(calls)
        self.pace = Pace()

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
        read = self._calls.select("read_conversation", ConversationRead, **arguments)
        if len(read.messages) < PAGE:
            return read
        messages = list(read.messages)
        while messages[-1].seq < read.conversation.last_seq and (
            page := self._messages(conversation_id, messages[-1].seq)
        ):
            messages += page
        return replace(read, messages=messages)

    def conversations(self, ids: Iterable[ConversationId]) -> list[ConversationRow]:
        return _LISTED_CONVERSATIONS.rows_of(self._client, "id", ids)

    def whole_conversations(self, ids: Iterable[ConversationId]) -> list[ConversationRow]:
        return _CONVERSATIONS.rows_of(self._client, "id", ids)

    def all_conversations(self) -> list[ConversationRow]:
        return _LISTED_CONVERSATIONS.all_rows(self._client, _is_not_discarded)

    def positions(self) -> list[Listed]:
        return _POSITIONS.all_rows(self._client, _is_not_discarded)

    def recent_conversations(
        self, limit: int, *, is_archived: bool, space_id: SpaceId | None
    ) -> list[ConversationRow]:
        if (limit, is_archived, space_id) == (LISTED, False, None) and self._first_list:
            return self._first_list.pop()
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
        return self._calls.select(
            "poll",
            Revisions,
            conversation=place.conversation_id,
            space=place.space_id,
            archived=place.is_archive,
        )

    def _messages(self, conversation_id: ConversationId, after_seq: int) -> list[MessageRow]:
        """Return the next messages after *after_seq*, as many as fit in one response of the API."""
        return _MESSAGES.rows(
            self._client,
            lambda query: (
                _is_not_discarded(query)
                .eq("conversation_id", str(conversation_id))
                .gt("seq", after_seq)
                .order("seq")
                .limit(PAGE)
            ),
        )

    def discarded_messages(self, conversation_id: ConversationId) -> list[MessageRow]:
        def is_discarded(query: Query) -> Query:
            # the database evaluates the text "now", so that its clock decides
            return query.eq("conversation_id", str(conversation_id)).gt("destroy_at", "now")

        rows = _MESSAGES.all_rows(self._client, is_discarded)
        return sorted(rows, key=lambda row: row.seq)

    def messages_by_id(self, asked: Mapping[MessageId, ConversationId]) -> list[MessageRow]:
        rows = _MESSAGES.rows_of(self._client, "id", asked)
        return [row for row in rows if row.conversation_id == asked[row.id]]

    def messages_between(self, ids: Sequence[ConversationId], seqs: range) -> list[MessageRow]:
        def is_between(query: Query) -> Query:
            query = query.in_("conversation_id", map(str, ids))
            return query.gte("seq", seqs.start).lt("seq", seqs.stop)

        return sorted(_MESSAGES.all_rows(self._client, is_between), key=lambda row: row.seq)

    def thoughts(
        self, conversation_id: ConversationId, ids: Iterable[MessageId]
    ) -> list[ThoughtsRow]:
        return _THOUGHTS.rows_of(self._client, "id", ids)

    def costs(self, conversation_id: ConversationId, turn_ids: Iterable[TurnId]) -> list[CostRow]:
        return _COSTS.rows_of(self._client, "id", turn_ids)

    def receipts(
        self, conversation_id: ConversationId, turn_ids: Iterable[TurnId]
    ) -> list[ReceiptRow]:
        rows = _RECEIPTS.rows_of(self._client, "turn_id", turn_ids)
        return [ReceiptRow(row.turn_id, row.turns.client_turn_id, row.body) for row in rows]

    def pieces(
        self,
        conversation_id: ConversationId,
        message_id: MessageId,
        attachment_id: AttachmentId,
        numbers: range,
    ) -> list[PieceRow]:
        def is_asked(query: Query) -> Query:
            query = query.eq("conversation_id", str(conversation_id))
            query = query.eq("message_id", str(message_id))
            query = query.eq("attachment_id", str(attachment_id))
            return query.gte("number", numbers.start).lt("number", numbers.stop)

        return _PIECES.rows(self._client, is_asked)

    def documents(self, kind: DocumentKind) -> list[DocumentRow]:
        first = self._first_documents.pop(kind, None)
        if first is not None:
            return first
        return _DOCUMENTS.all_rows(self._client, lambda query: query.eq("kind", kind))

    def search_texts(self, ids: Iterable[ConversationId]) -> list[SearchTextRow]:
        return [row for some in batches(map(str, ids)) for row in self._search_texts(some)]

    def _search_texts(self, ids: list[str]) -> list[SearchTextRow]:
        def read(last: SearchTextRow | None, _: int) -> list[SearchTextRow]:
            def page(query: Query) -> Query:
                query = query.eq("kind", SEARCH_TEXT).in_("conversation_id", ids)
                if last:
                    chat, number = last.conversation_id, last.number
                    rest = f"and(conversation_id.eq.{chat},number.gt.{number})"
                    query = query.or_(f"conversation_id.gt.{chat},{rest}")
                # few, because a row has up to 262 KB
                return query.order("conversation_id").order("number").limit(LEAST)

            return _SEARCH_TEXTS.rows(self._client, page)

        return every_row(read)

    # --- writing: conversations and documents ----------------------------------------------------

    def change_conversation(
        self, conversation_id: ConversationId, changes: ConversationChanges
    ) -> bool:
        answer = self._calls.do(
            "change_conversation", conversation=conversation_id, changes=Hidden.json(changes)
        )
        return answer.values["changed"] is True

    def discard_conversation(self, conversation_id: ConversationId, seconds: int) -> None:
        self._calls.do("discard_conversation", conversation=conversation_id, for_seconds=seconds)

    def restore_conversation(self, conversation_id: ConversationId) -> None:
        self._calls.do("restore_conversation", conversation=conversation_id)

    def put_document(self, write: PutDocument) -> None:
        answer = self._calls.call("put_document", **arguments_of(write), most_bytes=self.most_bytes)
        accepted(f"put_{write.new_kind}", answer)

    def delete_document(self, document_id: UUID) -> None:
        self._calls.do("delete_document", document=document_id)

    def delete_facts(self) -> None:
        self._calls.do("delete_facts")

    # --- writing: turns and messages -------------------------------------------------------------

    def begin_turn(self, write: BeginTurn) -> Begun:
        arguments = arguments_of(write)
        answer = self._calls.call("begin_turn", **arguments, most_bytes=self.most_bytes)
        found = accepted("begin_turn", answer, write.reservation).values
        return Begun(
            TurnId(UUID(str(found["turn"]))),
            int(str(found["reserved"])),
            int(str(found["reserved_tokens"])),
        )

    def checkpoint_turn(self, write: CheckpointTurn) -> Lease:
        answer = self._calls.call("checkpoint_turn", **arguments_of(write))
        if not answer.ok:
            return Lease.LAPSED
        return Lease.STOP_REQUESTED if answer.values.get("stop") is True else Lease.HELD

    def finish_turn(self, write: FinishTurn) -> None:
        answer = self._calls.call("finish_turn", **arguments_of(write))
        accepted("finish_turn", answer)

    def stop_turn(self, conversation_id: ConversationId, turn_id: TurnId) -> None:
        self._calls.call("stop_turn", turn=turn_id)

    def put_piece(self, write: PutPiece) -> None:
        answer = self._calls.call("put_piece", **arguments_of(write), most_bytes=self.most_bytes)
        accepted("put_piece", answer)

    def put_search_text(self, write: PutSearchText) -> None:
        arguments = arguments_of(write)
        answer = self._calls.call("put_search_text", **arguments, most_bytes=self.most_bytes)
        accepted("put_search_text", answer)

    def delete_search_texts(self) -> None:
        self._calls.do("delete_search_texts")

    def edit_reply(self, write: EditReply) -> None:
        self._edit(**arguments_of(write))

    def count_edit(self) -> None:
        self._edit(**dict.fromkeys(each.name for each in argument_fields(EditReply)))

    def _edit(self, **arguments: Argument | Hidden) -> None:
        answer = self._calls.call("edit_reply", **arguments, most_bytes=self.most_bytes)
        accepted("edit_reply", answer)

    def discard_messages(self, write: DiscardMessages) -> None:
        self._calls.do("discard_messages", **arguments_of(write))

    def restore_messages(self, write: RestoreMessages) -> None:
        self._calls.do("restore_messages", **arguments_of(write))


def _is_not_discarded(query: Query) -> Query:
    return query.is_("destroy_at", "null")
