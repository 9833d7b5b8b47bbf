"""Turns over sealed rows."""

from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from services.caches import LruCache
from services.crypto import LARGEST_TEXT
from services.domain import (
    ConversationId,
    Message,
    MessageId,
    Purpose,
    Role,
    Thoughts,
    Thread,
    TurnCost,
    TurnId,
)
from services.domain.turns import (
    Begun,
    ClientTurnId,
    Ending,
    Lease,
    NewTurn,
    OpenTurn,
    Reservation,
    TurnState,
)
from services.errors import NotFound, Stale, StoreUnavailable
from services.events import log_event
from services.store.rows import (
    Rows,
    SealedConversation,
    SealedMessage,
    SealedPrompt,
    ask_twice,
    final_costs,
)
from services.store.sealed.opened import CheckedThread, OpenedConversation, OpenedConversations

Key = TypeVar("Key")
Value = TypeVar("Value")
_MOST_UNANSWERED = 4  # requests of one user
_TRIES = 5  # while the conversation goes on


@dataclass(frozen=True, slots=True, repr=False)
class _Request:
    """The arguments of a `begin_turn`, which are sent again as they were if the answer is lost."""

    reservation: Reservation
    prompt: SealedPrompt
    created: SealedConversation | None


class SealedTurns:
    """The `Turns` of one user over sealed rows."""

    def __init__(self, rows: Rows, opened: OpenedConversations) -> None:
        self._rows, self._opened, self.user_id = rows, opened, rows.user_id
        self._unanswered = LruCache[ClientTurnId, _Request](_MOST_UNANSWERED)

    def begin(self, turn: NewTurn) -> Begun:
        conversation_id = turn.thread.conversation.id
        client_turn_id = turn.reservation.client_turn_id
        request = self._unanswered.get(client_turn_id) or self._sealed_request(turn)
        try:
            begun = ask_twice(
                lambda: self._rows.begin_turn(request.reservation, request.prompt, request.created)
            )
        except StoreUnavailable:
            if turn.reservation.purpose is Purpose.REPLY:
                self._unanswered.put(client_turn_id, request)
            raise
        self._unanswered.drop(client_turn_id)
        if request.created and not self._opened.checked(conversation_id):
            self._opened.hold_new(turn.thread, request.created)
        if turn.receipt and request.prompt.receipt:
            self._opened.opened(conversation_id).receipts.put(begun.turn_id, turn.receipt)
        return begun

    def checkpoint(
        self,
        turn_id: TurnId,
        conversation_id: ConversationId,
        partial: str,
        lease_seconds: int,
        thoughts: Thoughts | None = None,
    ) -> Lease:
        sealed: tuple[str | None, str | None] = None, None
        if partial or thoughts:
            sealed = self._opened.seals(conversation_id).partial(turn_id, partial, thoughts)
        return self._rows.checkpoint_turn(turn_id, lease_seconds, *sealed)

    def stop(self, turn_id: TurnId) -> None:
        self._rows.stop_turn(turn_id)

    def finish(self, ending: Ending) -> None:
        for _ in range(_TRIES):
            try:
                reply = self._sealed_reply(ending)
                ask_twice(partial(self._rows.finish_turn, ending.settlement, reply))
            except NotFound:  # the user is gone
                return
            except Stale:
                self._opened.forget(ending.conversation_id)
            else:
                return
        raise StoreUnavailable("finish_turn")

    def read_ahead(self, conversation_id: ConversationId) -> None:
        self._opened.read_ahead(conversation_id)

    def read(self, conversation_id: ConversationId) -> tuple[Thread, OpenTurn | None]:
        checked, row = self._opened.read(conversation_id)
        if row is None or not (row.state.is_open or row.state is TurnState.LAPSED):
            return checked.thread, None
        turn = self._opened.seals(conversation_id).open_turn(row)
        is_unfinished = row.state.is_open or turn.partial or turn.thoughts
        return checked.thread, turn if is_unfinished else None

    def costs(
        self, messages: Iterable[Message], conversation_id: ConversationId
    ) -> Mapping[TurnId, TurnCost]:
        return self._read_once(
            conversation_id,
            _turn_ids(messages),
            lambda opened: opened.costs,
            lambda unknown: final_costs(self._rows.costs(unknown)),
        )

    def receipts(
        self, messages: Iterable[Message], conversation_id: ConversationId
    ) -> Mapping[TurnId, str]:
        def read(unknown: Set[TurnId]) -> dict[TurnId, str]:
            seals = self._opened.seals(conversation_id)
            found = {row.turn_id: seals.open_receipt(row) for row in self._rows.receipts(unknown)}
            return dict.fromkeys(unknown, "") | found

        asked = _turn_ids(messages)
        found = self._read_once(conversation_id, asked, lambda opened: opened.receipts, read)
        return {turn_id: text for turn_id, text in found.items() if text}

    def thoughts(
        self, messages: Iterable[Message], conversation_id: ConversationId
    ) -> Mapping[MessageId, Thoughts]:
        asked = {message.id: message for message in messages if message.has_thoughts}

        def read(unknown: Set[MessageId]) -> dict[MessageId, Thoughts]:
            seals = self._opened.seals(conversation_id)
            rows = self._rows.thoughts(unknown)
            return {row.id: seals.open_thoughts(asked[row.id], row.thoughts) for row in rows}

        return self._read_once(conversation_id, asked.keys(), lambda opened: opened.thoughts, read)

    def _read_once(
        self,
        conversation_id: ConversationId,
        asked: Set[Key],
        cache_of: Callable[[OpenedConversation], LruCache[Key, Value]],
        read: Callable[[Set[Key]], Mapping[Key, Value]],
    ) -> dict[Key, Value]:
        """The values of the keys *asked*: those that a cache of the conversation lacks are *read* into it."""
        if not asked:
            return {}
        cache = cache_of(self._opened.opened(conversation_id))
        found = {key: value for key in asked if (value := cache.get(key)) is not None}
        if unknown := asked - found.keys():
            for key, value in read(unknown).items():
                cache.put(key, value)
                found[key] = value
        return found

    def _sealed_request(self, turn: NewTurn) -> _Request:
        """Seal what begins *turn*. Raise Stale, NotFound, Tampered."""
        conversation = turn.thread.conversation
        receipt, created = turn.receipt or "", None
        if len(receipt.encode()) > LARGEST_TEXT:  # it describes a turn, and prevents none
            log_event("receipt.too_long", conversation=conversation.id)
            receipt = ""
        if turn.is_first:
            if self._opened.checked(conversation.id):  # another tab was first
                raise Stale
            checked = CheckedThread.new(turn.thread)
            created, seals = self._opened.user_seals.new_conversation(turn.thread)
        else:
            seals = self._opened.seals(conversation.id)
            checked = None if turn.prompt is None else self._opened.checked_as(turn.thread)
        message = SealedMessage(rev=conversation.rev, id=turn.prompt_id)
        if checked and turn.prompt is not None:
            message = seals.next_message(
                conversation.rev,
                checked.next_head(),
                turn.prompt_id,
                turn.thread.tip.id if turn.thread.tip else None,
                Role.USER,
                turn.prompt,
            )
        prompt = SealedPrompt(
            conversation_id=conversation.id,
            message=message,
            start_seq=turn.start_seq,
            receipt=seals.receipt(turn.reservation.client_turn_id, receipt) if receipt else None,
        )
        return _Request(turn.reservation, prompt, created)

    def _sealed_reply(self, ending: Ending) -> SealedMessage | None:
        """The reply of *ending* and the head after it; None where the conversation is gone."""
        conversation_id = ending.conversation_id
        try:  # a discarded one may be brought back, with the reply
            checked, _ = self._opened.read(conversation_id, may_be_discarded=True)
        except NotFound:
            return None
        rev = checked.thread.conversation.rev
        if not ending.makes_message(checked.thread):
            return SealedMessage(rev=rev, id=ending.reply_id)
        return self._opened.seals(conversation_id).next_message(
            rev,
            checked.next_head(),
            ending.reply_id,
            ending.prompt_id,
            Role.ASSISTANT,
            ending.reply,
            ending.thoughts,
        )


def _turn_ids(messages: Iterable[Message]) -> set[TurnId]:
    return {message.turn_id for message in messages if message.turn_id}
