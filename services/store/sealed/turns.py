"""Turns over sealed rows."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from services.caches import LruCache
from services.crypto import LARGEST_TEXT, Vault
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
    Settlement,
    TurnState,
)
from services.errors import NotFound, Stale, StoreUnavailable
from services.events import log_event
from services.store.rows import Rows, SealedConversation, SealedPrompt, SealedReply
from services.store.sealed.opened import CheckedThread, OpenedConversations, ask_twice

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

    def keep_fresh(self, seconds: int) -> None:
        self._rows.keep_fresh(seconds)

    def begin(self, turn: NewTurn) -> Begun:
        conversation_id = turn.thread.conversation.id
        request, vault = self._unanswered.get(turn.client_turn_id), None
        if request is None:
            request, vault = self._sealed_request(turn)
        try:
            begun = ask_twice(
                lambda: self._rows.begin_turn(request.reservation, request.prompt, request.created)
            )
        except StoreUnavailable:
            if turn.purpose is Purpose.REPLY:
                self._unanswered.put(turn.client_turn_id, request)
            raise
        self._unanswered.drop(turn.client_turn_id)
        if turn.is_first and vault and not self._opened.checked(conversation_id):
            self._opened.hold_new(turn.thread, vault)
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
            vault = self._opened.vault(conversation_id)
            sealed = self._opened.seals.partial(vault, conversation_id, turn_id, partial, thoughts)
        return self._rows.checkpoint_turn(turn_id, lease_seconds, *sealed)

    def stop(self, turn_id: TurnId) -> None:
        self._rows.stop_turn(turn_id)

    def finish(self, ending: Ending) -> None:
        settlement = Settlement(
            turn_id=ending.turn_id,
            outcome=ending.outcome,
            usage=ending.usage,
            cost_micro=ending.cost_micro,
        )
        for _ in range(_TRIES):
            try:
                ask_twice(partial(self._rows.finish_turn, settlement, self._sealed_reply(ending)))
            except NotFound:  # the user is gone
                return
            except Stale:
                self._opened.forget(ending.conversation_id)
            else:
                return
        raise StoreUnavailable("finish_turn")

    def read(self, conversation_id: ConversationId) -> tuple[Thread, OpenTurn | None]:
        checked, row = self._opened.read(conversation_id)
        if row is None or not (row.state.is_open or row.state is TurnState.LAPSED):
            return checked.thread, None
        vault = self._opened.vault(conversation_id)
        turn = self._opened.seals.open_turn(vault, conversation_id, row)
        is_unfinished = row.state.is_open or turn.partial or turn.thoughts
        return checked.thread, turn if is_unfinished else None

    def costs(
        self, messages: Iterable[Message], conversation_id: ConversationId
    ) -> Mapping[TurnId, TurnCost]:
        asked = _turn_ids(messages)
        if not asked:
            return {}
        opened = self._opened.opened(conversation_id)
        unknown = {turn_id for turn_id in asked if opened.costs.get(turn_id) is None}
        for row in self._rows.costs(unknown) if unknown else ():
            opened.hold_cost(row)
        return {turn_id: cost for turn_id in asked if (cost := opened.costs.get(turn_id))}

    def receipts(
        self, messages: Iterable[Message], conversation_id: ConversationId
    ) -> Mapping[TurnId, str]:
        asked = _turn_ids(messages)
        if not asked:
            return {}
        cache = self._opened.opened(conversation_id).receipts
        found = {its: text for its in asked if (text := cache.get(its)) is not None}
        unknown = asked - found.keys()
        for row in self._rows.receipts(unknown) if unknown else ():
            vault = self._opened.vault(conversation_id)
            found[row.turn_id] = self._opened.seals.open_receipt(vault, conversation_id, row)
        for turn_id in unknown:
            cache.put(turn_id, found.setdefault(turn_id, ""))
        return {turn_id: text for turn_id, text in found.items() if text}

    def thoughts(
        self, messages: Iterable[Message], conversation_id: ConversationId
    ) -> Mapping[MessageId, Thoughts]:
        asked = {message.id: message for message in messages if message.has_thoughts}
        if not asked:
            return {}
        cache = self._opened.opened(conversation_id).thoughts
        found = {its: thoughts for its in asked if (thoughts := cache.get(its))}
        unknown = asked.keys() - found.keys()
        for row in self._rows.thoughts(unknown) if unknown else ():
            vault = self._opened.vault(conversation_id)
            found[row.id] = self._opened.seals.open_thoughts(
                vault, conversation_id, asked[row.id], row.thoughts
            )
            cache.put(row.id, found[row.id])
        return found

    def _sealed_request(self, turn: NewTurn) -> tuple[_Request, Vault]:
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
            created, vault = self._opened.seals.new_conversation(turn.thread)
        else:
            vault = self._opened.vault(conversation.id)
            checked = None if turn.prompt is None else self._opened.checked_as(turn.thread)
        parent_id = turn.thread.tip.id if turn.thread.tip else None
        body, head = None, None
        if checked and turn.prompt is not None:
            body, head = self._opened.seals.next_message(
                vault,
                conversation.id,
                checked.next_head(),
                turn.prompt_id,
                parent_id,
                Role.USER,
                turn.prompt,
            )
        if receipt:
            receipt = self._opened.seals.receipt(
                vault, conversation.id, turn.client_turn_id, receipt
            )
        prompt = SealedPrompt(
            conversation_id=conversation.id,
            rev=conversation.rev,
            message_id=turn.prompt_id,
            parent_id=parent_id if turn.prompt is not None else None,
            body=body,
            key_version=vault.version,
            head=head,
            start_seq=turn.start_seq,
            receipt=receipt or None,
        )
        reservation = Reservation(
            client_turn_id=turn.client_turn_id,
            purpose=turn.purpose,
            model=turn.model,
            prompt_micro=turn.prompt_micro,
            reply_micro=turn.reply_micro,
            least_reply_micro=turn.least_reply_micro,
            lease_seconds=turn.lease_seconds,
        )
        return _Request(reservation, prompt, created), vault

    def _sealed_reply(self, ending: Ending) -> SealedReply | None:
        """The reply of *ending* and the head after it; None where the conversation is gone."""
        conversation_id = ending.conversation_id
        try:  # a discarded one may be brought back, with the reply
            checked, _ = self._opened.read(conversation_id, may_be_discarded=True)
        except NotFound:
            return None
        body, head, thoughts = None, None, None
        vault = self._opened.vault(conversation_id)
        if ending.makes_message(checked.thread):
            before = checked.next_head()
            if ending.thoughts:
                thoughts = self._opened.seals.thoughts(
                    vault,
                    conversation_id,
                    ending.thoughts,
                    ending.reply_id,
                    before.last_seq + 1,
                    ending.prompt_id,
                )
            body, head = self._opened.seals.next_message(
                vault,
                conversation_id,
                before,
                ending.reply_id,
                ending.prompt_id,
                Role.ASSISTANT,
                ending.reply,
            )
        return SealedReply(
            rev=checked.thread.conversation.rev,
            message_id=ending.reply_id,
            body=body,
            thoughts=thoughts,
            key_version=vault.version,
            head=head,
        )


def _turn_ids(messages: Iterable[Message]) -> set[TurnId]:
    return {message.turn_id for message in messages if message.turn_id}
