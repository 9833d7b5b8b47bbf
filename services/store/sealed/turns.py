"""The `Turns` port, implemented over sealed rows."""

from collections.abc import Iterable, Mapping, Set
from dataclasses import replace
from functools import partial

from services.caches import LruCache
from services.crypto import LARGEST_TEXT, Head
from services.domain import (
    ConversationId,
    Message,
    MessageId,
    MissingReply,
    Outcome,
    Purpose,
    Role,
    Thoughts,
    Thread,
    TurnCost,
    TurnId,
)
from services.domain.turns import Begun, ClientTurnId, Ending, Lease, NewTurn, OpenTurn, TurnState
from services.errors import NotFound, Stale, StoreUnavailable
from services.events import log_event
from services.store.rows import Rows, TurnRow
from services.store.sealed.answers import ask_twice, final_costs
from services.store.sealed.opened import OpenedConversations
from services.store.sealed.reading import ThreadReader
from services.store.writes import BeginTurn, CheckpointTurn, FinishTurn, SealedPrompt, SealedReply

_MOST_UNANSWERED = 4  # maximum requests without a response that are cached for one user
_TRIES = 5  # maximum attempts at one write; the conversation may change meanwhile


class SealedTurns:
    """Implements `Turns` for one user, over sealed rows. Any thread may call any method."""

    def __init__(self, rows: Rows, opened: OpenedConversations, reader: ThreadReader) -> None:
        self._rows, self._opened, self.user_id = rows, opened, rows.user_id
        self._reader, self.pace = reader, rows.pace
        # requests whose response was lost; a repeated `begin` sends them again unchanged
        self._unanswered = LruCache[ClientTurnId, BeginTurn](_MOST_UNANSWERED)

    def begin(self, turn: NewTurn) -> Begun:
        conversation_id = turn.thread.conversation.id
        client_turn_id = turn.reservation.client_turn_id
        request = self._unanswered.get(client_turn_id) or self._sealed_request(turn)
        try:
            begun = ask_twice(partial(self._rows.begin_turn, request))
        except StoreUnavailable:
            if turn.reservation.purpose is Purpose.REPLY:
                self._unanswered.put(client_turn_id, request)
            raise
        self._unanswered.drop(client_turn_id)
        if request.created:
            self._opened.put_new(turn.thread, request.created)
        if turn.receipt and request.prompt and request.prompt.receipt_body:
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
        return self._rows.checkpoint_turn(
            CheckpointTurn(
                conversation_id=conversation_id,
                turn_id=turn_id,
                new_partial=sealed[0],
                new_thoughts=sealed[1],
                lease_seconds=lease_seconds,
            )
        )

    def stop(self, conversation_id: ConversationId, turn_id: TurnId) -> None:
        self._rows.stop_turn(conversation_id, turn_id)

    def finish(self, ending: Ending) -> None:
        for _ in range(_TRIES):
            try:
                end = FinishTurn(
                    conversation_id=ending.conversation_id,
                    settlement=ending.settlement,
                    reply=self._sealed_reply(ending),
                )
                ask_twice(partial(self._rows.finish_turn, end))
            except NotFound:  # the user was deleted, so there is nothing to settle
                return
            except Stale:
                self._opened.forget(ending.conversation_id)
            else:
                return
        raise StoreUnavailable("finish_turn")

    def read_ahead(self, conversation_id: ConversationId) -> None:
        self._reader.read_ahead(conversation_id)

    def read(self, conversation_id: ConversationId) -> tuple[Thread, OpenTurn | None]:
        checked, row = self._reader.read(conversation_id)
        if row is None:
            return checked.thread, None
        if not (row.state.is_open or row.state is TurnState.LAPSED):
            return _with_missing_reply(checked.thread, row), None
        turn = self._opened.seals(conversation_id).open_turn(row)
        is_reply = turn.prompt_id is not None and turn.interrupted(
            conversation_id, turn.prompt_id
        ).makes_message(checked.thread)
        if row.state.is_open or is_reply:
            return checked.thread, turn
        return _with_missing_reply(checked.thread, row), None

    def known(self, conversation_id: ConversationId) -> Thread:
        checked = self._opened.checked(conversation_id) or self._reader.read(conversation_id)[0]
        return checked.thread

    def costs(
        self, messages: Iterable[Message], conversation_id: ConversationId
    ) -> Mapping[TurnId, TurnCost]:
        if not (turn_ids := _turn_ids(messages)):
            return {}
        known = self._opened.opened(conversation_id).costs
        return known.get_all(
            turn_ids, lambda unknown: final_costs(self._rows.costs(conversation_id, unknown))
        )

    def receipts(
        self, messages: Iterable[Message], conversation_id: ConversationId
    ) -> Mapping[TurnId, str]:
        def read(unknown: Set[TurnId]) -> dict[TurnId, str]:
            seals = self._opened.seals(conversation_id)
            rows = self._rows.receipts(conversation_id, unknown)
            return dict.fromkeys(unknown, "") | {
                row.turn_id: seals.open_receipt(row) for row in rows
            }

        if not (turn_ids := _turn_ids(messages)):
            return {}
        found = self._opened.opened(conversation_id).receipts.get_all(turn_ids, read)
        return {turn_id: text for turn_id, text in found.items() if text}

    def thoughts(
        self, messages: Iterable[Message], conversation_id: ConversationId
    ) -> Mapping[MessageId, Thoughts]:
        asked = {message.id: message for message in messages if message.has_thoughts}

        def read(unknown: Set[MessageId]) -> dict[MessageId, Thoughts]:
            seals = self._opened.seals(conversation_id)
            rows = self._rows.thoughts(conversation_id, unknown)
            return {row.id: seals.open_thoughts(asked[row.id], row.thoughts) for row in rows}

        if not asked:
            return {}
        return self._opened.opened(conversation_id).thoughts.get_all(asked.keys(), read)

    def _sealed_request(self, turn: NewTurn) -> BeginTurn:
        """Seal the request that begins *turn*. Raise Stale (the turn's thread is outdated), NotFound, Tampered."""
        conversation = turn.thread.conversation
        receipt, created = turn.receipt or "", None
        # a receipt that is too long is not stored: it only describes the turn, and must not prevent the turn
        if len(receipt.encode()) > LARGEST_TEXT:
            log_event("receipt.too_long", conversation=conversation.id)
            receipt = ""
        if turn.is_first:
            if self._opened.checked(conversation.id):  # another tab began the conversation first
                raise Stale
            created, seals = self._opened.user_seals.new_conversation(turn.thread)
            head = Head()
        else:
            seals = self._opened.seals(conversation.id)
            # the reply will extend the head: check it now, even without a prompt, so that a forged head stops the turn
            # before the model is called
            is_reply = turn.reservation.purpose is Purpose.REPLY
            head = self._reader.head_of(turn.thread) if is_reply else None
        parent_id, message = None, None
        if head and turn.prompt is not None:
            parent_id = turn.thread.tip.id if turn.thread.tip else None
            files = turn.attachments
            message = seals.next_message(
                head, turn.prompt_id, parent_id, Role.USER, turn.prompt, attachments=files
            )
        prompt = SealedPrompt(
            conversation_id=conversation.id,
            expected_rev=conversation.rev,
            prompt_id=turn.prompt_id,
            parent_id=parent_id,
            prompt_body=message and message.body,
            prompt_attachments=message and message.attachments,
            new_head=message and message.head,
            new_start_seq=turn.start_seq,
            receipt_body=seals.receipt(turn.reservation.client_turn_id, receipt)
            if receipt
            else None,
        )
        return BeginTurn(reservation=turn.reservation, prompt=prompt, created=created)

    def _sealed_reply(self, ending: Ending) -> SealedReply | None:
        """Return the sealed reply of *ending* and the head that includes it; None if the conversation no longer exists."""
        conversation_id = ending.conversation_id
        try:  # the reply is stored even in a discarded conversation, which may be restored
            checked, _ = self._reader.read(conversation_id, may_be_discarded=True)
        except NotFound:
            return None
        rev = checked.thread.conversation.rev
        if not ending.makes_message(checked.thread):
            return SealedReply(expected_rev=rev, reply_id=ending.reply_id)
        message = self._opened.seals(conversation_id).next_message(
            checked.next_head(),
            ending.reply_id,
            ending.prompt_id,
            Role.ASSISTANT,
            ending.reply,
            ending.thoughts,
        )
        return SealedReply(
            expected_rev=rev,
            reply_id=ending.reply_id,
            reply_body=message.body,
            reply_thoughts=message.thoughts,
            new_head=message.head,
        )


def _turn_ids(messages: Iterable[Message]) -> set[TurnId]:
    return {message.turn_id for message in messages if message.turn_id}


def _with_missing_reply(thread: Thread, newest: TurnRow) -> Thread:
    """Return *thread*, with a `missing_reply` if its turn *newest* ended without storing a reply."""
    if newest.prompt_id is None or any(
        one.turn_id == newest.id and one.role is Role.ASSISTANT for one in thread.messages
    ):
        return thread
    is_lapsed = newest.state is TurnState.LAPSED
    outcome = Outcome.INTERRUPTED if is_lapsed else Outcome(newest.state.value)
    return replace(thread, missing_reply=MissingReply(newest.prompt_id, outcome))
