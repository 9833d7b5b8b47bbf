"""Conversations and turns of one person: rows to domain and back, sealed at this border.

A conversation's `head` authenticates its revision and all its messages; whoever writes makes the
next head from the one that the reader's thread was checked against, so a row that was removed,
swapped, doubled or put back behind our back is noticed when the thread is next read.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import NewType, assert_never, cast
from uuid import UUID, uuid4

from pydantic import BaseModel, TypeAdapter

from services.crypto import Head, Place, Vault, new_key
from services.domain import (
    Conversation,
    ConversationId,
    Full,
    MemoryPolicy,
    Message,
    MessageId,
    Outcome,
    Retrieval,
    Role,
    Summary,
    Thread,
    Tokens,
    TurnId,
    UserId,
    Window,
)
from services.errors import (
    BadInput,
    Busy,
    Cap,
    NotFound,
    OverBudget,
    Refused,
    Stale,
    StoreUnavailable,
    Tampered,
)
from services.store.gateway import Answer, Hidden, Moment, store_errors
from services.store.sessions import AppSession

_PAGE = 1000  # rows in one answer, at most: the API's own bound
_TRIES = 5  # at a reply whose conversation moved on meanwhile
_CONVERSATION_COLUMNS = (
    "id,title,wrapped_key,key_version,user_key_version,head,rev,policy,policy_size,"
    "reset_seq,start_seq,pinned_at,created_at,updated_at"
)
_MESSAGE_COLUMNS = "id,seq,parent_id,turn_id,role,outcome,body,created_at"


class _ConversationRow(BaseModel):
    id: UUID
    title: str | None
    wrapped_key: str
    key_version: int
    user_key_version: int
    head: str
    rev: int
    policy: str
    policy_size: int | None
    reset_seq: int
    start_seq: int
    pinned_at: Moment | None
    created_at: Moment
    updated_at: Moment


class _MessageRow(BaseModel):
    id: UUID
    seq: int
    parent_id: UUID | None
    turn_id: UUID | None
    role: Role
    outcome: Outcome
    body: str
    created_at: Moment


class TurnState(StrEnum):
    """Where a turn stands; spelt as in SQL."""

    RESERVED = "reserved"
    STREAMING = "streaming"
    COMPLETE = "complete"
    STOPPED = "stopped"
    FAILED = "failed"
    LAPSED = "lapsed"
    INTERRUPTED = "interrupted"

    @property
    def is_open(self) -> bool:
        return self in (TurnState.RESERVED, TurnState.STREAMING)


class _TurnRow(BaseModel):
    id: UUID
    state: TurnState
    prompt_id: UUID | None
    partial: str | None
    lease_until: Moment


_CONVERSATIONS = TypeAdapter(list[_ConversationRow])
_MESSAGES = TypeAdapter(list[_MessageRow])
_TURNS = TypeAdapter(list[_TurnRow])
ClientTurnId = NewType("ClientTurnId", UUID)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTurn:
    """What `begin_turn` stores and reserves, both or neither. Amounts in micro-dollars."""

    client_turn_id: ClientTurnId
    thread: Thread
    prompt_id: MessageId
    prompt: str | None = field(repr=False)  # None: reply once more to the prompt `prompt_id`
    start_seq: int
    model: str
    prompt_micro: int
    reply_micro: int
    least_reply_micro: int
    lease_seconds: int


@dataclass(frozen=True, slots=True)
class Begun:
    """A turn that may call the model for at most *reserved_micro*."""

    turn_id: TurnId
    reserved_micro: int


@dataclass(frozen=True, slots=True)
class OpenTurn:
    """A turn that has not ended well: still coming elsewhere, or left by a process that died."""

    id: TurnId
    state: TurnState
    prompt_id: MessageId | None
    lease_until: datetime
    said: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a turn ended and what it cost."""

    turn_id: TurnId
    conversation_id: ConversationId
    prompt_id: MessageId
    reply_id: MessageId
    reply: str = field(repr=False)  # empty: nothing was said
    outcome: Outcome
    tokens: Tokens
    cost_micro: int


@dataclass(frozen=True, slots=True)
class _Known:
    """A thread as it was last read, with what its next write is made from."""

    thread: Thread
    head: Head | None  # None: it did not open, so nothing can be written after it
    total: Head  # of the rows that were read, to be compared with `head`


class Conversations:
    """One person's conversations over their own session. Threads are cached by revision."""

    def __init__(self, session: AppSession) -> None:
        self._session = session
        self._vaults: dict[ConversationId, Vault] = {}
        self._known: dict[ConversationId, _Known] = {}
        self._change = threading.Lock()

    @property
    def user_id(self) -> UserId:
        return self._session.user_id

    def keep_fresh(self, seconds: int) -> None:
        """See that the person's token outlives the next *seconds*."""
        self._session.keep_fresh(seconds)

    def recent(self, limit: int = 50) -> list[Conversation]:
        """The newest first."""
        self._session.keep_fresh()
        with store_errors():
            query = self._session.client.table("conversations").select(_CONVERSATION_COLUMNS)
            rows = _CONVERSATIONS.validate_python(
                query.order("updated_at", desc=True).limit(limit).execute().data
            )
        return [self._conversation(row) for row in rows]

    def thread(self, conversation_id: ConversationId) -> Thread:
        """The conversation as it is now. Raise NotFound, also for somebody else's."""
        return self._read(conversation_id).thread

    def cached(self, conversation_id: ConversationId) -> Thread | None:
        """The conversation as it was last read here."""
        known = self._known.get(conversation_id)
        return known.thread if known else None

    def create(self, title: str, policy: MemoryPolicy) -> Thread:
        """A new, empty conversation."""
        self._session.keep_fresh()
        conversation_id = ConversationId(uuid4())
        key, user_key = new_key(), self._session.newest_key
        vault = Vault(key)
        name, size = _policy_columns(policy)
        self._say(
            "create_conversation",
            conversation=conversation_id,
            new_title=Hidden(vault.seal(title, self._title_place(conversation_id))),
            new_wrapped_key=Hidden(user_key.wrap(key, conversation_id, vault.version)),
            new_user_key_version=user_key.version,
            new_head=Hidden(vault.seal_head(Head(), self.user_id, conversation_id)),
            new_policy=name,
            new_policy_size=size,
            new_expiry=None,
        )
        self._vaults[conversation_id] = vault
        return self.thread(conversation_id)

    def rename(self, conversation_id: ConversationId, title: str) -> None:
        """Give it another title, of up to 120 characters. Raise BadInput for an empty one."""
        title = " ".join(title.split())
        if not title or len(title) > 120:
            raise BadInput("A title has between 1 and 120 characters.")
        sealed = self._vault(conversation_id).seal(title, self._title_place(conversation_id))
        self._say("rename_conversation", conversation=conversation_id, new_title=Hidden(sealed))

    def delete(self, conversation_id: ConversationId) -> None:
        """Destroy it and its key; what it cost stays in the books."""
        self._say("delete_conversation", conversation=conversation_id)
        self._known.pop(conversation_id, None)
        self._vaults.pop(conversation_id, None)

    def set_policy(self, conversation_id: ConversationId, policy: MemoryPolicy) -> None:
        """Choose another memory policy; the model's view begins where the context was started."""
        self._set_memory(conversation_id, policy, reset_seq=None)

    def start_anew(self, thread: Thread) -> None:
        """Let the model's view begin after what was said so far. The history stays."""
        last_seq = thread.messages[-1].seq if thread.messages else 0
        self._reset(thread.conversation.id, last_seq)

    def take_back_reset(self, thread: Thread) -> None:
        """Undo `start_anew`: the model may see everything again."""
        self._reset(thread.conversation.id, 0)

    # --- turns ----------------------------------------------------------------------------------

    def begin_turn(self, turn: NewTurn) -> Begun:
        """Store the prompt and reserve the worst cost, both or neither.

        Asking again with the same turn begins one turn. Raise Stale, Busy, OverBudget, NotFound,
        Tampered (the head does not open, so nothing can be added), StoreUnavailable.
        """
        thread = turn.thread
        conversation_id = thread.conversation.id
        body, head = self._sealed_prompt(turn)
        answer = self._call_twice(
            "begin_turn",
            client_turn=turn.client_turn_id,
            conversation=conversation_id,
            expected_rev=thread.conversation.rev,
            prompt=turn.prompt_id,
            parent=_leaf(thread) if turn.prompt is not None else None,
            prompt_body=Hidden(body),
            body_key_version=self._vault(conversation_id).version,
            new_head=Hidden(head),
            new_start_seq=turn.start_seq,
            receipt_body=Hidden(None),
            new_purpose="reply",
            model_name=Hidden(turn.model),
            prompt_micro=turn.prompt_micro,
            reply_micro=turn.reply_micro,
            least_reply_micro=turn.least_reply_micro,
            lease_seconds=turn.lease_seconds,
        )
        if not answer.ok:
            raise _refusal(answer.reason)
        fields = cast(dict[str, object], answer.model_extra)
        return Begun(TurnId(UUID(str(fields["turn"]))), int(str(fields["reserved"])))

    def checkpoint_turn(
        self, turn_id: TurnId, conversation_id: ConversationId, said: str, lease_seconds: int
    ) -> bool:
        """Keep what has been said so far and prolong the lease. False: it has lapsed."""
        place = self._partial_place(turn_id, conversation_id)
        sealed = self._vault(conversation_id).seal(said, place) if said else None
        return self._session.calls.call(
            "checkpoint_turn", turn=turn_id, said=Hidden(sealed), lease_seconds=lease_seconds
        ).ok

    def finish_turn(self, ending: Ending) -> None:
        """Store the reply and settle. Asking again changes nothing. Raise StoreUnavailable, Tampered."""
        for _ in range(_TRIES):
            answer = self._finish(ending)
            if answer.ok or answer.reason == "not_found":  # its person is gone
                return
            if answer.reason == "still_open":
                raise Busy
            self._known.pop(ending.conversation_id, None)  # stale: made from an old revision
        raise StoreUnavailable("finish_turn")

    def open_turn(self, conversation_id: ConversationId) -> OpenTurn | None:
        """The newest turn that is open, or that has lapsed with something said, if there is one."""
        self._session.keep_fresh()
        with store_errors():
            query = self._session.client.table("turns").select(
                "id,state,prompt_id,partial,lease_until"
            )
            rows = _TURNS.validate_python(
                query.eq("conversation_id", str(conversation_id))
                .eq("purpose", "reply")
                .order("begun_at", desc=True)
                .limit(1)
                .execute()
                .data
            )
        for row in rows:
            if row.state.is_open or (row.state is TurnState.LAPSED and row.partial):
                return self._open_turn(row, conversation_id)
        return None

    # --- inside ---------------------------------------------------------------------------------

    def _finish(self, ending: Ending) -> Answer:
        conversation_id = ending.conversation_id
        try:
            known = self._read(conversation_id)
        except NotFound:  # deleted under the turn: settled, and nothing to keep
            known = None
        reply_id, body, head = ending.reply_id, None, None
        if known and ending.reply:
            if known.head is None:
                raise Tampered
            vault = self._vault(conversation_id)
            place = self._message_place(
                conversation_id,
                ending.reply_id,
                known.head.last_seq + 1,
                ending.prompt_id,
                Role.ASSISTANT,
            )
            body = vault.seal(ending.reply, place)
            next_head = known.head.add(vault.row_mac(body, place), known.head.last_seq + 1)
            head = vault.seal_head(next_head, self.user_id, conversation_id)
        return self._call_twice(
            "finish_turn",
            turn=ending.turn_id,
            outcome=ending.outcome.value,
            expected_rev=known.thread.conversation.rev if known else None,
            reply=reply_id,
            reply_body=Hidden(body),
            body_key_version=self._vault(conversation_id).version if known else 1,
            new_head=Hidden(head),
            used_in=ending.tokens.prompt,
            used_out=ending.tokens.reply,
            used_cached=ending.tokens.cached,
            cost_micro=ending.cost_micro,
        )

    def _sealed_prompt(self, turn: NewTurn) -> tuple[str | None, str | None]:
        if turn.prompt is None:
            return None, None
        thread = turn.thread
        conversation_id = thread.conversation.id
        known = self._known.get(conversation_id)
        if known is None or known.thread.conversation.rev != thread.conversation.rev:
            raise Stale
        if known.head is None:
            raise Tampered
        vault, seq = self._vault(conversation_id), known.head.last_seq + 1
        place = self._message_place(conversation_id, turn.prompt_id, seq, _leaf(thread), Role.USER)
        body = vault.seal(turn.prompt, place)
        head = known.head.add(vault.row_mac(body, place), seq)
        return body, vault.seal_head(head, self.user_id, conversation_id)

    def _read(self, conversation_id: ConversationId) -> _Known:
        """The thread as it is in the database; only what is new of it is fetched and opened."""
        self._session.keep_fresh()
        row = self._row(conversation_id)
        with self._change:
            conversation = self._conversation(row)
            before = self._known.get(conversation_id)
            if before and before.thread.conversation.rev == row.rev and before.thread.is_whole:
                thread = replace(before.thread, conversation=conversation)
                known = replace(before, thread=thread)
            else:
                known = self._grown(before, row, conversation) or self._whole(row, conversation)
                if before and row.rev < before.thread.conversation.rev:  # rolled back
                    known = replace(known, thread=replace(known.thread, is_whole=False))
            self._known[conversation_id] = known
            return known

    def _grown(
        self, before: _Known | None, row: _ConversationRow, conversation: Conversation
    ) -> _Known | None:
        """What was known and what has come since, if together they are what the head says."""
        if before is None or not before.thread.is_whole or not before.thread.messages:
            return None
        known = self._opened(row, conversation, before.thread.messages, before.total)
        return known if known.thread.is_whole else None

    def _whole(self, row: _ConversationRow, conversation: Conversation) -> _Known:
        return self._opened(row, conversation, (), Head())

    def _opened(
        self,
        row: _ConversationRow,
        conversation: Conversation,
        known: tuple[Message, ...],
        total: Head,
    ) -> _Known:
        vault = self._vault(conversation.id, row)
        messages = list(known)
        for message_row in self._message_rows(conversation.id, known[-1].seq if known else 0):
            place = self._message_place(
                conversation.id,
                MessageId(message_row.id),
                message_row.seq,
                MessageId(message_row.parent_id) if message_row.parent_id else None,
                message_row.role,
            )
            total = total.add(vault.row_mac(message_row.body, place), message_row.seq)
            messages.append(_message(vault, message_row, place))
        try:
            head = vault.open_head(row.head, self.user_id, conversation.id)
        except Tampered:
            head = None
        is_whole = head is not None and head == total and head.rev == row.rev
        thread = Thread(conversation=conversation, messages=tuple(messages), is_whole=is_whole)
        return _Known(thread, head, total)

    def _message_rows(
        self, conversation_id: ConversationId, after_seq: int
    ) -> Sequence[_MessageRow]:
        rows: list[_MessageRow] = []
        while True:
            with store_errors():
                query = self._session.client.table("messages").select(_MESSAGE_COLUMNS)
                page = _MESSAGES.validate_python(
                    query.eq("conversation_id", str(conversation_id))
                    .gt("seq", rows[-1].seq if rows else after_seq)
                    .order("seq")
                    .limit(_PAGE)
                    .execute()
                    .data
                )
            rows += page
            if len(page) < _PAGE:
                return rows

    def _row(self, conversation_id: ConversationId) -> _ConversationRow:
        with store_errors():
            query = self._session.client.table("conversations").select(_CONVERSATION_COLUMNS)
            rows = _CONVERSATIONS.validate_python(
                query.eq("id", str(conversation_id)).execute().data
            )
        if not rows:
            self._known.pop(conversation_id, None)
            raise NotFound
        return rows[0]

    def _vault(self, conversation_id: ConversationId, row: _ConversationRow | None = None) -> Vault:
        vault = self._vaults.get(conversation_id)
        if vault is None:
            row = row or self._row(conversation_id)
            user_key = self._session.user_keys.get(row.user_key_version)
            if user_key is None:
                raise Tampered
            key = user_key.unwrap(row.wrapped_key, conversation_id, row.key_version)
            vault = self._vaults[conversation_id] = Vault(key, row.key_version)
        return vault

    def _conversation(self, row: _ConversationRow) -> Conversation:
        conversation_id = ConversationId(row.id)
        title, is_verified = "", True
        if row.title is not None:
            try:
                vault = self._vault(conversation_id, row)
                title = vault.open(row.title, self._title_place(conversation_id))
            except Tampered:
                is_verified = False
        return Conversation(
            id=conversation_id,
            title=title,
            policy=_policy(row),
            rev=row.rev,
            reset_seq=row.reset_seq,
            start_seq=row.start_seq,
            pinned_at=row.pinned_at,
            created_at=row.created_at,
            updated_at=row.updated_at,
            is_verified=is_verified,
        )

    def _open_turn(self, row: _TurnRow, conversation_id: ConversationId) -> OpenTurn:
        turn_id = TurnId(row.id)
        said = ""
        if row.partial:
            place = self._partial_place(turn_id, conversation_id)
            said = self._vault(conversation_id).open(row.partial, place)
        prompt_id = MessageId(row.prompt_id) if row.prompt_id else None
        return OpenTurn(turn_id, row.state, prompt_id, row.lease_until, said)

    def _reset(self, conversation_id: ConversationId, reset_seq: int) -> None:
        policy = _policy(self._row(conversation_id))
        self._set_memory(conversation_id, policy, reset_seq=reset_seq)

    def _set_memory(
        self, conversation_id: ConversationId, policy: MemoryPolicy, *, reset_seq: int | None
    ) -> None:
        name, size = _policy_columns(policy)
        self._say(
            "set_memory_policy",
            conversation=conversation_id,
            new_policy=name,
            new_policy_size=size,
            new_reset_seq=reset_seq,
        )

    def _say(self, verb: str, /, **arguments: UUID | str | int | Hidden | None) -> None:
        self._session.keep_fresh()
        answer = self._session.calls.call(verb, **arguments)
        if not answer.ok:
            raise _refusal(answer.reason)

    def _call_twice(self, verb: str, /, **arguments: UUID | str | int | Hidden | None) -> Answer:
        """Call; where the answer was lost ask again: the same bytes happen once."""
        try:
            return self._session.calls.call(verb, **arguments)
        except StoreUnavailable:
            return self._session.calls.call(verb, **arguments)

    def _title_place(self, conversation_id: ConversationId) -> Place:
        return Place(
            table="conversations",
            column="title",
            row_id=conversation_id,
            user_id=self.user_id,
            conversation_id=conversation_id,
        )

    def _partial_place(self, turn_id: TurnId, conversation_id: ConversationId) -> Place:
        return Place(
            table="turns",
            column="partial",
            row_id=turn_id,
            user_id=self.user_id,
            conversation_id=conversation_id,
            role=Role.ASSISTANT,
        )

    def _message_place(
        self,
        conversation_id: ConversationId,
        message_id: MessageId,
        seq: int,
        parent_id: MessageId | None,
        role: Role,
    ) -> Place:
        return Place(
            table="messages",
            column="body",
            row_id=message_id,
            user_id=self.user_id,
            conversation_id=conversation_id,
            seq=seq,
            parent_id=parent_id,
            role=role,
        )


def _message(vault: Vault, row: _MessageRow, place: Place) -> Message:
    try:
        body, is_verified = vault.open(row.body, place), True
    except Tampered:
        body, is_verified = "", False
    return Message(
        id=MessageId(row.id),
        seq=row.seq,
        parent_id=MessageId(row.parent_id) if row.parent_id else None,
        role=row.role,
        body=body,
        created_at=row.created_at,
        outcome=row.outcome,
        turn_id=TurnId(row.turn_id) if row.turn_id else None,
        is_verified=is_verified,
    )


def _leaf(thread: Thread) -> MessageId | None:
    return thread.messages[-1].id if thread.messages else None


def _policy(row: _ConversationRow) -> MemoryPolicy:
    match row.policy:
        case "full":
            return Full()
        case "summary":
            return Summary()
        case "retrieval":
            return Retrieval()
        case _:
            return Window(row.policy_size) if row.policy_size else Window()


def _policy_columns(policy: MemoryPolicy) -> tuple[str, int | None]:
    match policy:
        case Full():
            return "full", None
        case Window(messages):
            return "window", messages
        case Summary():
            return "summary", None
        case Retrieval():
            return "retrieval", None
        case _:
            assert_never(policy)


def _refusal(reason: str) -> Refused | StoreUnavailable:
    match reason:
        case "not_found":
            return NotFound()
        case "stale":
            return Stale()
        case "busy":
            return Busy()
        case "too_many":
            return BadInput("You have as many conversations as fit. Delete one to start another.")
        case _ if reason in {cap.value for cap in Cap}:
            return OverBudget(Cap(reason))
        case _:
            return StoreUnavailable(reason)
