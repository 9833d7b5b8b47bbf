"""Turns as they are stored: begun with their reservation, kept alive, finished and settled."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from typing import cast
from uuid import UUID, uuid4

from services.crypto import LARGEST_TEXT, Place
from services.domain import (
    ConversationId,
    Message,
    MessageId,
    Outcome,
    Purpose,
    Role,
    Thoughts,
    Thread,
    TurnCost,
    TurnId,
    Usage,
    UserId,
)
from services.errors import (
    Busy,
    Cap,
    NotFound,
    OverBudget,
    StoreUnavailable,
    Tampered,
)
from services.events import log_event
from services.store.documents import Format
from services.store.lru_cache import LruCache
from services.store.rows import (
    COSTS,
    RECEIPTS,
    THOUGHTS,
    TURNS,
    ClientTurnId,
    TurnRow,
    TurnState,
)
from services.store.supabase.api import Argument, Hidden, RpcResult, refusal
from services.store.supabase.sessions import AppSession
from services.store.threads import KnownThread, Threads

_MOST_COSTS = 5_000  # that are kept: more than any page shows
_MOST_RECEIPTS = 500
_MOST_THOUGHTS = 50
_THOUGHTS_FORMAT = Format(Thoughts, in_clear={"is_verified"})
_TRIES = 5  # at a reply whose conversation moved on meanwhile


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTurn:
    """What `begin` stores and reserves, both or neither. Amounts in micro-dollars."""

    client_turn_id: ClientTurnId
    thread: Thread
    prompt_id: MessageId
    prompt: str | None = field(repr=False)  # None: it is there already, as `prompt_id`
    start_seq: int
    model: str
    prompt_micro: int
    reply_micro: int
    least_reply_micro: int
    lease_seconds: int
    purpose: Purpose = Purpose.REPLY
    receipt: str | None = field(default=None, repr=False)  # what the model is shown


@dataclass(frozen=True, slots=True)
class Begun:
    """A turn that may call the model for at most *reserved_micro*."""

    turn_id: TurnId
    reserved_micro: int


class Lease(IntEnum):
    """The answer to a heartbeat of a live turn; false where the lease has run out."""

    LAPSED = 0
    HELD = 1
    STOP_REQUESTED = 2  # held; the user pressed Stop in another process


@dataclass(frozen=True, slots=True)
class OpenTurn:
    """A turn that has not ended well: still coming elsewhere, or left by a process that died."""

    id: TurnId
    state: TurnState
    prompt_id: MessageId | None
    begun_at: datetime
    lease_until: datetime
    said: str = field(repr=False)
    thoughts: Thoughts | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a turn ended and what it cost."""

    turn_id: TurnId
    conversation_id: ConversationId
    prompt_id: MessageId
    reply_id: MessageId
    reply: str = field(repr=False)  # empty: nothing was said
    thoughts: Thoughts | None = None
    outcome: Outcome
    tokens: Usage
    cost_micro: int

    def makes_message(self, thread: Thread) -> bool:
        """Return whether a message of *thread* is made of it. Thoughts alone answer a prompt, and go on with no reply."""
        is_prompt = any(
            one.id == self.prompt_id and one.role is Role.USER for one in thread.messages
        )
        return bool(self.reply) or (self.thoughts is not None and is_prompt)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prompt:
    """What is stored of a turn when it begins, sealed: of a temporary chat, nothing."""

    conversation_id: ConversationId | None = None
    rev: int | None = None
    message_id: MessageId | None = None
    parent_id: MessageId | None = None
    body: str | None = None
    key_version: int = 1
    head: str | None = None
    start_seq: int | None = None
    receipt: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reply:
    """What is stored of a turn when it ends, likewise."""

    rev: int | None = None
    message_id: MessageId | None = None
    body: str | None = None
    thoughts: str | None = None
    key_version: int = 1
    head: str | None = None


class UnkeptTurns:
    """One person's turns whose words nobody keeps: only what they cost is written.

    They are reserved, held by the same caps and bounds, and settled as any other.
    """

    def __init__(self, session: AppSession) -> None:
        self._session = session

    @property
    def user_id(self) -> UserId:
        return self._session.user_id

    def keep_fresh(self, seconds: int) -> None:
        """See that the person's token outlives the next *seconds*."""
        self._session.bearer.keep_fresh(seconds)

    def begin(self, turn: NewTurn) -> Begun:
        """Reserve the worst cost. Raise OverBudget, StoreUnavailable."""
        return _begin(self._session, turn, _Prompt())

    def prolong(self, turn_id: TurnId, lease_seconds: int) -> Lease:
        """Prolong the lease."""
        return _checkpoint(self._session, turn_id, None, None, lease_seconds)

    def settle(self, ending: Ending) -> None:
        """Settle. Asking again changes nothing. Raise StoreUnavailable."""
        answer = _finish(self._session, ending, _Reply())
        if not answer.ok and answer.reason != "not_found":  # its person is gone
            raise StoreUnavailable(answer.reason)


class Turns:
    """One person's turns over their threads."""

    def __init__(self, session: AppSession, threads: Threads) -> None:
        self._session, self._threads = session, threads
        self._costs = LruCache[TurnId, TurnCost](_MOST_COSTS)
        # an empty text: there is none to show
        self._receipts = LruCache[TurnId, tuple[ConversationId, str]](_MOST_RECEIPTS)
        self._thoughts = LruCache[MessageId, tuple[ConversationId, Thoughts]](_MOST_THOUGHTS)
        threads.on_forget.append(self._forget)

    def begin(self, turn: NewTurn) -> Begun:
        """Store the prompt and reserve the worst cost, both or neither.

        Asking again with the same turn begins one turn. Raise Stale, Busy, OverBudget, NotFound,
        Tampered (the head does not open, so nothing can be added), StoreUnavailable.
        """
        thread = turn.thread
        conversation_id = thread.conversation.id
        body, head = self._sealed_prompt(turn)
        vault = self._threads.vault(conversation_id)
        receipt = None
        text = turn.receipt or ""
        if len(text.encode()) > LARGEST_TEXT:  # it tells of a turn, and prevents none
            log_event("receipt.too_long", conversation=conversation_id)
            text = ""
        if text:
            receipt = vault.seal(text, self._receipt_place(turn.client_turn_id, conversation_id))
        prompt = _Prompt(
            conversation_id=conversation_id,
            rev=thread.conversation.rev,
            message_id=turn.prompt_id,
            parent_id=_leaf(thread) if turn.prompt is not None else None,
            body=body,
            key_version=vault.version,
            head=head,
            start_seq=turn.start_seq,
            receipt=receipt,
        )
        begun = _begin(self._session, turn, prompt)
        if text:
            self._receipts.put(begun.turn_id, (conversation_id, text))
        return begun

    def checkpoint(
        self,
        turn_id: TurnId,
        conversation_id: ConversationId,
        said: str,
        lease_seconds: int,
        thoughts: Thoughts | None = None,
    ) -> Lease:
        """Store what has been said so far, and *thoughts* in the place of those before, and prolong the lease."""

        def sealed(text: str, column: str) -> str:
            place = self._partial_place(turn_id, conversation_id, column)
            return self._threads.vault(conversation_id).seal(text, place)

        return _checkpoint(
            self._session,
            turn_id,
            sealed(said, "partial") if said else None,
            sealed(_THOUGHTS_FORMAT.write(thoughts), "partial_thoughts") if thoughts else None,
            lease_seconds,
        )

    def stop(self, turn_id: TurnId) -> None:
        """Ask the process that streams the turn to stop it. Raise StoreUnavailable, SignedOut."""
        self._session.calls.call("stop_turn", turn=turn_id)

    def finish(self, ending: Ending) -> None:
        """Store the reply and settle. Asking again changes nothing. Raise StoreUnavailable, Tampered."""
        for _ in range(_TRIES):
            answer = self._finish_once(ending)
            if answer.ok or answer.reason == "not_found":  # its person is gone
                return
            if answer.reason == "still_open":
                raise Busy
            self._threads.forget(ending.conversation_id)  # stale: made from an old revision
        raise StoreUnavailable("finish_turn")

    def edit_reply(self, thread: Thread, reply: Message, text: str) -> None:
        """Store *text* as another version of *reply*. Raise Stale, Busy, NotFound, Tampered, StoreUnavailable."""
        conversation_id, edited_id = thread.conversation.id, MessageId(uuid4())
        body, head = self._sealed_message(
            self._threads.known_as(thread), edited_id, reply.parent_id, Role.ASSISTANT, text
        )
        answer = _call_twice(
            self._session,
            "edit_reply",
            conversation=conversation_id,
            expected_rev=thread.conversation.rev,
            original=reply.id,
            reply=edited_id,
            reply_body=Hidden(body),
            body_key_version=self._threads.vault(conversation_id).version,
            new_head=Hidden(head),
        )
        if not answer.ok:
            raise refusal("edit_reply", answer.reason)

    def unfinished(self, conversation_id: ConversationId) -> OpenTurn | None:
        """The newest turn, if it is open, or has lapsed with something said."""
        rows = TURNS.rows(
            self._session.client,
            lambda query: (
                query.eq("conversation_id", str(conversation_id))
                .eq("purpose", Purpose.REPLY.value)
                .order("begun_at", desc=True)
                .limit(1)
            ),
        )
        for row in rows:
            turn = self._open_turn(row, conversation_id)
            is_left = row.state is TurnState.LAPSED and (turn.said or turn.thoughts)
            if row.state.is_open or is_left:
                return turn
        return None

    def costs(self, messages: Iterable[Message]) -> Mapping[TurnId, TurnCost]:
        """The costs of the settled turns of *messages*; each is asked for once. Raise StoreUnavailable."""
        asked = {message.turn_id for message in messages if message.turn_id}
        found = {turn_id: cost for turn_id in asked if (cost := self._costs.get(turn_id))}
        for row in COSTS.rows_of(self._session.client, "id", asked - found.keys()):
            if row.state.is_final:
                used = Usage(row.tokens_in, row.tokens_out, row.tokens_cached)
                found[row.id] = TurnCost(row.model, used, row.charged_micro)
                self._costs.put(row.id, found[row.id])
        return found

    def receipts(
        self, messages: Iterable[Message], conversation_id: ConversationId
    ) -> Mapping[TurnId, str]:
        """The receipts of the turns of *messages* that were kept and open; each is asked for once.

        Raise StoreUnavailable.
        """
        asked = {message.turn_id for message in messages if message.turn_id}
        found = {turn_id: held[1] for turn_id in asked if (held := self._receipts.get(turn_id))}
        unknown = asked - found.keys()
        if not unknown:
            return {turn_id: text for turn_id, text in found.items() if text}
        rows = RECEIPTS.rows_of(self._session.client, "turn_id", unknown)
        vault = self._threads.vault(conversation_id)
        for row in rows:
            place = self._receipt_place(row.turns.client_turn_id, conversation_id)
            try:
                found[row.turn_id] = vault.open(row.body, place)
            except Tampered:
                log_event("receipt.unverified", turn=row.turn_id)
        for turn_id in unknown:
            self._receipts.put(turn_id, (conversation_id, found.setdefault(turn_id, "")))
        return {turn_id: text for turn_id, text in found.items() if text}

    def thoughts(
        self, messages: Iterable[Message], conversation_id: ConversationId
    ) -> Mapping[MessageId, Thoughts]:
        """The thoughts of those of *messages* that have some; each is asked for once. Raise StoreUnavailable."""
        asked = {message.id: message for message in messages if message.has_thoughts}
        found = {its: held[1] for its in asked if (held := self._thoughts.get(its))}
        unknown = asked.keys() - found.keys()
        for row in THOUGHTS.rows_of(self._session.client, "id", unknown) if unknown else ():
            said = asked[row.id]
            place = self._threads.message_place(
                conversation_id, said.id, said.seq, said.parent_id, said.role, "thoughts"
            )
            try:
                text = self._threads.vault(conversation_id).open(row.thoughts, place)
                found[row.id] = _THOUGHTS_FORMAT.read(text)
            except Tampered:
                log_event("thoughts.unverified", conversation=conversation_id)
                found[row.id] = Thoughts(is_verified=False)
            self._thoughts.put(row.id, (conversation_id, found[row.id]))
        return found

    def _forget(self, conversation_id: ConversationId) -> None:
        self._receipts.drop_all(lambda held: held[0] == conversation_id)
        self._thoughts.drop_all(lambda held: held[0] == conversation_id)

    def _sealed_prompt(self, turn: NewTurn) -> tuple[str | None, str | None]:
        """The prompt and the head that follows it, both sealed."""
        if turn.prompt is None:
            return None, None
        known = self._threads.known_as(turn.thread)
        return self._sealed_message(
            known, turn.prompt_id, _leaf(turn.thread), Role.USER, turn.prompt
        )

    def _sealed_message(
        self,
        known: KnownThread,
        message_id: MessageId,
        parent_id: MessageId | None,
        role: Role,
        body: str,
    ) -> tuple[str, str]:
        conversation_id, head = known.thread.conversation.id, known.next_head()
        vault, seq = self._threads.vault(conversation_id), head.last_seq + 1
        place = self._threads.message_place(conversation_id, message_id, seq, parent_id, role)
        sealed = vault.seal(body, place)
        next_head = head.add(vault.row_mac(sealed, place), seq)
        return sealed, vault.seal_head(next_head, self._threads.user_id, conversation_id)

    def _finish_once(self, ending: Ending) -> RpcResult:
        conversation_id = ending.conversation_id
        try:
            # it may be brought back, and nobody would say again what was said
            known = self._threads.read(conversation_id, may_be_discarded=True)
        except NotFound:  # deleted under the turn: settled, and nothing to keep
            known = None
        body, head, thoughts = None, None, None
        if known and ending.makes_message(known.thread):
            said = ending.reply_id, ending.prompt_id, Role.ASSISTANT
            if ending.thoughts:
                seq = known.next_head().last_seq + 1
                place = self._threads.message_place(
                    conversation_id, said[0], seq, *said[1:], "thoughts"
                )
                vault = self._threads.vault(conversation_id)
                thoughts = vault.seal(_THOUGHTS_FORMAT.write(ending.thoughts), place)
            body, head = self._sealed_message(known, *said, ending.reply)
        reply = _Reply(
            rev=known.thread.conversation.rev if known else None,
            message_id=ending.reply_id,
            body=body,
            thoughts=thoughts,
            key_version=self._threads.vault(conversation_id).version if known else 1,
            head=head,
        )
        return _finish(self._session, ending, reply)

    def _open_turn(self, row: TurnRow, conversation_id: ConversationId) -> OpenTurn:
        def opened(sealed: str | None, column: str) -> str:
            if sealed is None:
                return ""
            place = self._partial_place(row.id, conversation_id, column)
            try:
                return self._threads.vault(conversation_id).open(sealed, place)
            except Tampered:  # as good as none: the conversation itself can still be read
                log_event("turn.unverified", turn=row.id)
                return ""

        thoughts = opened(row.partial_thoughts, "partial_thoughts")
        return OpenTurn(
            row.id,
            row.state,
            row.prompt_id,
            row.begun_at,
            row.lease_until,
            opened(row.partial, "partial"),
            _THOUGHTS_FORMAT.read(thoughts) if thoughts else None,
        )

    def _receipt_place(self, name: ClientTurnId, conversation_id: ConversationId) -> Place:
        """By the app's own name for the turn: the database's is not known yet when it is sealed."""
        return Place(
            table="receipts",
            column="body",
            row_id=name,
            user_id=self._threads.user_id,
            conversation_id=conversation_id,
        )

    def _partial_place(
        self, turn_id: TurnId, conversation_id: ConversationId, column: str
    ) -> Place:
        return Place(
            table="turns",
            column=column,
            row_id=turn_id,
            user_id=self._threads.user_id,
            conversation_id=conversation_id,
            role=Role.ASSISTANT,
        )


def _begin(session: AppSession, turn: NewTurn, prompt: _Prompt) -> Begun:
    answer = _call_twice(
        session,
        "begin_turn",
        client_turn=turn.client_turn_id,
        conversation=prompt.conversation_id,
        expected_rev=prompt.rev,
        prompt=prompt.message_id,
        parent=prompt.parent_id,
        prompt_body=Hidden(prompt.body),
        body_key_version=prompt.key_version,
        new_head=Hidden(prompt.head),
        new_start_seq=prompt.start_seq,
        receipt_body=Hidden(prompt.receipt),
        new_purpose=turn.purpose.value,
        model_name=Hidden(turn.model),
        prompt_micro=turn.prompt_micro,
        reply_micro=turn.reply_micro,
        least_reply_micro=turn.least_reply_micro,
        lease_seconds=turn.lease_seconds,
    )
    fields = cast(dict[str, object], answer.model_extra)
    if answer.reason in set(Cap):
        raise OverBudget(
            Cap(answer.reason),
            needed_micro=turn.prompt_micro + turn.least_reply_micro,
            left_micro=int(str(fields["room"])),
            per_minute=int(str(fields["per_minute"])),
            wait_seconds=int(str(fields["wait_seconds"])),
        )
    if not answer.ok:
        raise refusal("begin_turn", answer.reason)
    return Begun(TurnId(UUID(str(fields["turn"]))), int(str(fields["reserved"])))


def _checkpoint(
    session: AppSession,
    turn_id: TurnId,
    sealed: str | None,
    sealed_thoughts: str | None,
    lease_seconds: int,
) -> Lease:
    answer = session.calls.call(
        "checkpoint_turn",
        turn=turn_id,
        said=Hidden(sealed),
        thoughts=Hidden(sealed_thoughts),
        lease_seconds=lease_seconds,
    )
    if not answer.ok:
        return Lease.LAPSED
    is_stopped = (answer.model_extra or {}).get("stop") is True
    return Lease.STOP_REQUESTED if is_stopped else Lease.HELD


def _finish(session: AppSession, ending: Ending, reply: _Reply) -> RpcResult:
    return _call_twice(
        session,
        "finish_turn",
        turn=ending.turn_id,
        outcome=ending.outcome.value,
        expected_rev=reply.rev,
        reply=reply.message_id,
        reply_body=Hidden(reply.body),
        reply_thoughts=Hidden(reply.thoughts),
        body_key_version=reply.key_version,
        new_head=Hidden(reply.head),
        used_in=ending.tokens.prompt,
        used_out=ending.tokens.reply,
        used_cached=ending.tokens.cached,
        cost_micro=ending.cost_micro,
    )


def _call_twice(session: AppSession, verb: str, /, **arguments: Argument | Hidden) -> RpcResult:
    """Call; where the answer was lost ask again: the same bytes happen once."""
    try:
        return session.calls.call(verb, **arguments)
    except StoreUnavailable:
        return session.calls.call(verb, **arguments)


def _leaf(thread: Thread) -> MessageId | None:
    return thread.tip.id if thread.tip else None
