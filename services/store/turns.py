"""Turns as they are stored: begun with their reservation, kept alive, finished and settled."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NewType, cast
from uuid import UUID

from services.crypto import Place
from services.domain import (
    ConversationId,
    MessageId,
    Outcome,
    Purpose,
    Role,
    Thread,
    Tokens,
    TurnCost,
    TurnId,
)
from services.errors import Busy, NotFound, Stale, StoreUnavailable, Tampered
from services.events import log_event
from services.store.gateway import Answer, Argument, Hidden, refusal, store_errors
from services.store.recent import Recent
from services.store.rows import (
    COST_COLUMNS,
    COST_ROWS,
    NAME_COLUMNS,
    NAME_ROWS,
    RECEIPT_COLUMNS,
    RECEIPT_ROWS,
    TURN_COLUMNS,
    TURN_ROWS,
    TurnRow,
    TurnState,
)
from services.store.sessions import AppSession
from services.store.threads import KnownThread, Threads

_IDS = 100  # in one address, which has its bounds
_MOST_COSTS = 5_000  # that are kept: more than any page shows
_MOST_RECEIPTS = 500
_TRIES = 5  # at a reply whose conversation moved on meanwhile

ClientTurnId = NewType("ClientTurnId", UUID)


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


class Turns:
    """One person's turns over their threads."""

    def __init__(self, session: AppSession, threads: Threads) -> None:
        self._session, self._threads = session, threads
        self._costs = Recent[TurnId, TurnCost](_MOST_COSTS)
        self._receipts = Recent[TurnId, str](_MOST_RECEIPTS)  # empty: there is none to show

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
        if turn.receipt:
            receipt = vault.seal(
                turn.receipt, self._receipt_place(turn.client_turn_id, conversation_id)
            )
        answer = self._call_twice(
            "begin_turn",
            client_turn=turn.client_turn_id,
            conversation=conversation_id,
            expected_rev=thread.conversation.rev,
            prompt=turn.prompt_id,
            parent=_leaf(thread) if turn.prompt is not None else None,
            prompt_body=Hidden(body),
            body_key_version=vault.version,
            new_head=Hidden(head),
            new_start_seq=turn.start_seq,
            receipt_body=Hidden(receipt),
            new_purpose=turn.purpose.value,
            model_name=Hidden(turn.model),
            prompt_micro=turn.prompt_micro,
            reply_micro=turn.reply_micro,
            least_reply_micro=turn.least_reply_micro,
            lease_seconds=turn.lease_seconds,
        )
        if not answer.ok:
            raise refusal(answer.reason)
        fields = cast(dict[str, object], answer.model_extra)
        return Begun(TurnId(UUID(str(fields["turn"]))), int(str(fields["reserved"])))

    def checkpoint(
        self, turn_id: TurnId, conversation_id: ConversationId, said: str, lease_seconds: int
    ) -> bool:
        """Keep what has been said so far and prolong the lease. False: it has lapsed."""
        self._session.keep_fresh()
        place = self._partial_place(turn_id, conversation_id)
        sealed = self._threads.vault(conversation_id).seal(said, place) if said else None
        return self._session.calls.call(
            "checkpoint_turn", turn=turn_id, said=Hidden(sealed), lease_seconds=lease_seconds
        ).ok

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

    def unfinished(self, conversation_id: ConversationId) -> OpenTurn | None:
        """The newest turn, if it is open, or has lapsed with something said."""
        self._session.keep_fresh()
        with store_errors():
            query = self._session.client.table("turns").select(TURN_COLUMNS)
            rows = TURN_ROWS.validate_python(
                query.eq("conversation_id", str(conversation_id))
                .eq("purpose", Purpose.REPLY.value)
                .order("begun_at", desc=True)
                .limit(1)
                .execute()
                .data
            )
        for row in rows:
            turn = self._open_turn(row, conversation_id)
            if row.state.is_open or (row.state is TurnState.LAPSED and turn.said):
                return turn
        return None

    def costs(self, turn_ids: Iterable[TurnId]) -> Mapping[TurnId, TurnCost]:
        """What those of *turn_ids* cost that are settled; asked for once each. Raise StoreUnavailable."""
        asked = list(turn_ids)
        found = {turn_id: cost for turn_id in asked if (cost := self._costs.get(turn_id))}
        unknown = [turn_id for turn_id in asked if turn_id not in found]
        for start in range(0, len(unknown), _IDS):
            for turn_id, cost in self._settled(unknown[start : start + _IDS]).items():
                self._costs.put(turn_id, cost)
                found[turn_id] = cost
        return found

    def receipts(
        self, turn_ids: Iterable[TurnId], conversation_id: ConversationId
    ) -> Mapping[TurnId, str]:
        """What the model was shown in *turn_ids*, as far as it was kept and opens; asked for once each.

        Raise StoreUnavailable.
        """
        asked = list(turn_ids)
        unknown = [turn_id for turn_id in asked if self._receipts.get(turn_id) is None]
        for start in range(0, len(unknown), _IDS):
            found = self._opened_receipts(unknown[start : start + _IDS], conversation_id)
            for turn_id in unknown[start : start + _IDS]:
                self._receipts.put(turn_id, found.get(turn_id, ""))
        return {turn_id: body for turn_id in asked if (body := self._receipts.get(turn_id))}

    def _opened_receipts(
        self, turn_ids: Sequence[TurnId], conversation_id: ConversationId
    ) -> dict[TurnId, str]:
        self._session.keep_fresh()
        ids = [str(turn_id) for turn_id in turn_ids]
        with store_errors():
            client = self._session.client
            turns = client.table("turns").select(NAME_COLUMNS).in_("id", ids).execute().data
            names = {row.id: row.client_turn_id for row in NAME_ROWS.validate_python(turns)}
            receipts = client.table("receipts").select(RECEIPT_COLUMNS).in_("turn_id", ids)
            rows = RECEIPT_ROWS.validate_python(receipts.execute().data)
        vault = self._threads.vault(conversation_id)
        opened: dict[TurnId, str] = {}
        for row in rows:
            name = names.get(row.turn_id)
            if name is None:
                continue
            place = self._receipt_place(ClientTurnId(name), conversation_id)
            try:
                opened[TurnId(row.turn_id)] = vault.open(row.body, place)
            except Tampered:
                log_event("receipt.unverified", turn=row.turn_id)
        return opened

    def _settled(self, turn_ids: Sequence[TurnId]) -> dict[TurnId, TurnCost]:
        self._session.keep_fresh()
        with store_errors():
            query = self._session.client.table("turns").select(COST_COLUMNS)
            rows = COST_ROWS.validate_python(
                query.in_("id", [str(turn_id) for turn_id in turn_ids]).execute().data
            )
        return {
            TurnId(row.id): TurnCost(
                row.model,
                Tokens(row.tokens_in, row.tokens_out, row.tokens_cached),
                row.charged_micro,
            )
            for row in rows
            if row.state.is_final
        }

    def _sealed_prompt(self, turn: NewTurn) -> tuple[str | None, str | None]:
        """The prompt and the head that follows it, both sealed."""
        if turn.prompt is None:
            return None, None
        conversation = turn.thread.conversation
        known = self._threads.known(conversation.id)
        if known is None or known.thread.conversation.rev != conversation.rev:
            raise Stale
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

    def _finish_once(self, ending: Ending) -> Answer:
        conversation_id = ending.conversation_id
        try:
            # it may be brought back, and nobody would say again what was said
            known = self._threads.read(conversation_id, may_be_discarded=True)
        except NotFound:  # deleted under the turn: settled, and nothing to keep
            known = None
        body, head = None, None
        if known and ending.reply:
            body, head = self._sealed_message(
                known, ending.reply_id, ending.prompt_id, Role.ASSISTANT, ending.reply
            )
        return self._call_twice(
            "finish_turn",
            turn=ending.turn_id,
            outcome=ending.outcome.value,
            expected_rev=known.thread.conversation.rev if known else None,
            reply=ending.reply_id,
            reply_body=Hidden(body),
            body_key_version=self._threads.vault(conversation_id).version if known else 1,
            new_head=Hidden(head),
            used_in=ending.tokens.prompt,
            used_out=ending.tokens.reply,
            used_cached=ending.tokens.cached,
            cost_micro=ending.cost_micro,
        )

    def _open_turn(self, row: TurnRow, conversation_id: ConversationId) -> OpenTurn:
        turn_id, said = TurnId(row.id), ""
        if row.partial:
            place = self._partial_place(turn_id, conversation_id)
            try:
                said = self._threads.vault(conversation_id).open(row.partial, place)
            except Tampered:  # as good as none: the conversation itself can still be read
                log_event("turn.unverified", turn=turn_id)
        prompt_id = MessageId(row.prompt_id) if row.prompt_id else None
        return OpenTurn(turn_id, row.state, prompt_id, row.lease_until, said)

    def _call_twice(self, verb: str, /, **arguments: Argument | Hidden) -> Answer:
        """Call; where the answer was lost ask again: the same bytes happen once."""
        try:
            return self._session.calls.call(verb, **arguments)
        except StoreUnavailable:
            return self._session.calls.call(verb, **arguments)

    def _receipt_place(self, name: ClientTurnId, conversation_id: ConversationId) -> Place:
        """By the app's own name for the turn: the database's is not known yet when it is sealed."""
        return Place(
            table="receipts",
            column="body",
            row_id=name,
            user_id=self._threads.user_id,
            conversation_id=conversation_id,
        )

    def _partial_place(self, turn_id: TurnId, conversation_id: ConversationId) -> Place:
        return Place(
            table="turns",
            column="partial",
            row_id=turn_id,
            user_id=self._threads.user_id,
            conversation_id=conversation_id,
            role=Role.ASSISTANT,
        )


def _leaf(thread: Thread) -> MessageId | None:
    branch = thread.branch()
    return branch[-1].id if branch else None
