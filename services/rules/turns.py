"""Rules for turns: the amount reserved at the start, the end of the turn, and the amount charged."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Literal

from services.domain import ConversationId, MessageId, Purpose, TurnId
from services.domain.turns import ClientTurnId, Reservation, Settlement, TurnState
from services.rules import Refusal, part_of
from services.rules.budget import Budget, Deployment, room_for

EntryKind = Literal["charge", "lapsed", "adjust"]
EntryOutcome = Literal["complete", "cut", "stopped", "interrupted", "failed", "lapsed"]
_LONGEST_LEASE = 3600  # the longest lease, in seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A turn with its reservation, its lease and its cost."""

    id: TurnId
    client_turn_id: ClientTurnId
    # the hash of the request that began the turn; a different request with the same client turn id is refused
    request: str = field(repr=False)
    # None: the turn belongs to no stored conversation, or the conversation was destroyed
    conversation_id: ConversationId | None = None
    purpose: Purpose
    model: str
    prompt_id: MessageId | None = None
    reserved_micro: int
    reserved_tokens: int
    begun_at: datetime
    lease_until: datetime
    state: TurnState = TurnState.RESERVED
    partial: str | None = field(default=None, repr=False)
    partial_thoughts: str | None = field(default=None, repr=False)
    is_stop_requested: bool = False
    charged_micro: int = 0
    charged_tokens: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_cached: int = 0  # the part of tokens_in that the endpoint had cached
    reply_id: MessageId | None = None
    finished_at: datetime | None = None

    @property
    def is_open(self) -> bool:
        """True until the turn is settled, even if its state is one that only a newer version of the app knows."""
        return self.finished_at is None

    @property
    def is_open_reply(self) -> bool:
        return self.purpose is Purpose.REPLY and self.is_open

    @property
    def is_recovered(self) -> bool:
        """True if the partial reply of the lapsed turn is stored; the charge is still the whole reservation, without usage."""
        used = self.tokens_in + self.tokens_out
        return self.state is TurnState.INTERRUPTED and self.charged_tokens != used

    def is_over(self, settlement: Settlement) -> bool:
        """Return True if an end with *settlement* changes nothing, because the turn has ended before.

        An end at the real cost may follow a recovery, because the process that streams the reply may be alive after all.
        """
        is_late = self.is_recovered and settlement.cost_micro is not None
        return self.state.is_final and not is_late

    def is_lapsed(self, now: datetime) -> bool:
        """Return True if the turn is open and its lease has run out."""
        return self.is_open and self.lease_until < now


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An entry of the ledger: a charge, the settlement of a lapsed turn, or a correction of such a settlement."""

    at: datetime
    day: date  # the UTC day whose caps the amount counts against
    turn_id: TurnId
    kind: EntryKind
    outcome: EntryOutcome
    purpose: Purpose
    model: str
    micro: int
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_cached: int = 0
    first_token_ms: int | None = None  # None: nothing was streamed


@dataclass(frozen=True, slots=True)
class Booking:
    """The result of ending a turn: the new budget, the new turn, and the entry for the ledger, if any."""

    budget: Budget
    turn: Turn
    entry: Entry | None


def reserve(
    budget: Budget,
    deployment: Deployment,
    open_turns: Iterable[Turn],
    wanted: Reservation,
    now: datetime,
    refusal: Refusal | None = None,
) -> tuple[Budget, int, int] | Refusal:
    """Reserve as much of *wanted* as the caps allow; return the budget and the reserved money and tokens, or a refusal.

    *refusal*: the refusal from the caller's checks, if any, which takes precedence. Background calls (titles, summaries)
    are limited only by the caps, not by the rate limits.
    """
    is_reply = wanted.purpose is Purpose.REPLY
    room = room_for(budget, deployment, wanted)
    reason = refusal.reason if refusal else room.reason
    if refusal is None and is_reply:
        if sum(turn.is_open_reply for turn in open_turns) >= budget.max_open:
            reason = "too_many_open"
        elif budget.minute_turns >= budget.max_per_minute:
            reason = "too_fast"
    if reason is not None:
        per_minute, wait = budget.pace(now)
        return Refusal(
            reason=reason,
            room=room.granted if reason in ("daily_cap", "monthly_cap") else None,
            room_of_tokens=max(0, room.granted_tokens),
            per_minute=per_minute,
            wait_seconds=wait,
        )
    budget = replace(
        budget,
        reserved=budget.reserved + room.granted,
        reserved_tokens=budget.reserved_tokens + room.granted_tokens,
        minute_turns=budget.minute_turns + is_reply,
        last_active_at=now,
    )
    return budget, room.granted, room.granted_tokens


def lapse(budget: Budget, turn: Turn, now: datetime) -> Booking:
    """Settle an open turn whose lease has run out, because its process probably died.

    If the model was not called, charge nothing; otherwise charge the whole reservation. If the process finishes the turn
    after all, `settle` corrects the charge.
    """
    was_called = turn.state is not TurnState.RESERVED
    micro, tokens = (turn.reserved_micro, turn.reserved_tokens) if was_called else (0, 0)
    budget = budget.booked(
        held=-turn.reserved_micro, spent=micro, held_tokens=-turn.reserved_tokens, tokens=tokens
    )
    entry = part_of(
        Entry,
        turn,
        at=now,
        day=budget.day,
        turn_id=turn.id,
        kind="lapsed",
        outcome="lapsed",
        micro=micro,
    )
    turn = replace(
        turn, state=TurnState.LAPSED, charged_micro=micro, charged_tokens=tokens, finished_at=now
    )
    return Booking(budget, turn, entry)


def prolong(
    turn: Turn, seconds: int, now: datetime, partial: str | None = None, thoughts: str | None = None
) -> Turn:
    """Return *turn* as streaming, with a lease of *seconds* from *now* and new partial texts (None: unchanged).

    For a turn without a conversation, no text is stored.
    """
    if turn.conversation_id is None:
        partial = thoughts = None
    return replace(
        turn,
        state=TurnState.STREAMING,
        lease_until=now + timedelta(seconds=min(max(seconds, 1), _LONGEST_LEASE)),
        partial=partial or turn.partial,
        partial_thoughts=thoughts or turn.partial_thoughts,
    )


def end_refusal(turn: Turn, settlement: Settlement) -> Refusal | None:
    """Return a refusal if *settlement* has no cost but the turn has not lapsed, because its reply may still be streaming."""
    is_early = settlement.cost_micro is None and turn.state is not TurnState.LAPSED
    return Refusal(reason="still_open") if is_early else None


def settle(
    budget: Budget,
    turn: Turn,
    settlement: Settlement,
    now: datetime,
    reply_id: MessageId | None = None,
) -> Booking:
    """Settle *turn* at its real cost or, if less, the reserved amount. If the turn had lapsed, correct its charge, even if
    its partial reply is stored already.

    If only the partial reply of a lapsed turn is stored, the charge is not changed, because the real cost is unknown (None).
    """
    ended = replace(
        turn,
        state=TurnState(settlement.outcome.value),
        partial=None,
        partial_thoughts=None,
        reply_id=reply_id or turn.reply_id,
    )
    if settlement.cost_micro is None:  # `finished_at` stays the time of the charge
        return Booking(budget, ended, None)
    was_open, usage = turn.is_open, settlement.usage
    cost, tokens = min(settlement.cost_micro, turn.reserved_micro), usage.prompt + usage.reply
    spent = cost - turn.charged_micro
    budget = budget.booked(
        held=-turn.reserved_micro if was_open else 0,
        spent=spent,
        held_tokens=-turn.reserved_tokens if was_open else 0,
        tokens=tokens - turn.charged_tokens,
        charged_at=turn.finished_at,
    )
    day = budget.day
    if spent <= 0 and turn.finished_at:
        day = min(day, turn.finished_at.date())
    ended = replace(
        ended,
        finished_at=now,
        charged_micro=cost,
        charged_tokens=tokens,
        tokens_in=usage.prompt,
        tokens_out=usage.reply,
        tokens_cached=usage.cached,
    )
    entry = part_of(
        Entry,
        settlement,
        ended,
        at=now,
        day=day,
        turn_id=turn.id,
        kind="charge" if was_open else "adjust",
        outcome=settlement.outcome.value,
        micro=spent,
    )
    return Booking(budget, ended, entry)
