"""Calls of the model that are paid for: reserved before, settled after, however they end.

reserve -> the caller has a thread `produce` the reply -> what was said is stored, and the turn settled
"""

import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from uuid import uuid4

from services.chat.live_turn import LiveTurn, LiveTurns
from services.domain import (
    ConversationId,
    MessageId,
    Outcome,
    Purpose,
    Thread,
    TurnId,
    Usage,
)
from services.domain.context import ContextPlan
from services.domain.limits import LONGEST_TEXT
from services.domain.models import ModelInfo
from services.domain.turns import ClientTurnId, Ending, Lease, NewTurn
from services.errors import (
    AppError,
    Busy,
    ModelFailure,
    ModelUnavailable,
    NotFound,
    SignedOut,
    StoreUnavailable,
    Tampered,
)
from services.events import log_event
from services.llm import LimitReached, Offer, Thought
from services.memory.continuing import spaced
from services.memory.tokens import TokenCounter, min_tokens
from services.store.port import Turns

LEASE_SECONDS = 10  # prolonged every second; after a kill the turn is settled so much later
LONGEST_TURN = 1200  # seconds: a token that lives so long outlives every turn
_LEAST_REPLY_TOKENS = 256  # a shorter reply is not worth its prompt
_MARGIN = 2.0  # seconds of the first lease in which the first heartbeat arrives
_PATIENCE = 900.0  # seconds for which a reply waits for a database that is away
_RESENT_SECONDS = 120.0  # for which a request without an answer is sent again as it was
_MOST_UNANSWERED = 4  # attempts that are kept to be sent again
_LONGEST_PIECE = 20_000  # characters of a reply that are looked at together


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a model, and how much it may say."""

    offer: Offer
    plan: ContextPlan
    max_tokens: int
    so_far: str = field(default="", repr=False)  # of the reply that it was asked to go on with
    held_until: float = 0.0  # by `time.monotonic`: the turn's first lease


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A turn to begin. It is begun again as it was where the database's answer is lost."""

    turn: NewTurn
    offer: Offer
    plan: ContextPlan
    so_far: str = field(default="", repr=False)  # of the reply that goes on
    made_at: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of the model to a background call."""

    turn_id: TurnId
    text: str = field(repr=False)
    is_cut: bool  # it was stopped, or reached its length limit


@dataclass(frozen=True, slots=True)
class PaidCalls:
    """The calls of one signed-in person."""

    turns: Turns
    counter: TokenCounter

    def begin(self, attempt: Attempt) -> tuple[LiveTurn, Call]:
        """Begin the turn of *attempt*, and return the call that it pays for.

        Raise what `Turns.begin` raises; after StoreUnavailable the same attempt begins one turn.
        """
        new, info, plan = attempt.turn, attempt.offer.info, attempt.plan
        begun = self.turns.begin(new)
        affordable = info.affordable_reply(begun.reserved_micro - new.prompt_micro)
        max_tokens = min(plan.reply_tokens, affordable)
        turn = LiveTurn(
            self.turns.user_id,
            new.thread.conversation.id,
            begun.turn_id,
            new.prompt_id,
            owner=self.turns,
            thread=new.begun_thread() if new.prompt else None,
            purpose=new.purpose,
        )
        log_event(
            "turn.begun",
            turn=turn.id,
            purpose=new.purpose,
            reserved_micro=begun.reserved_micro,
            prompt_tokens=plan.prompt_tokens,
            max_tokens=max_tokens,
            omitted=len(plan.omitted_ids),
        )
        call = Call(
            attempt.offer,
            plan,
            max_tokens,
            so_far=attempt.so_far,
            held_until=attempt.made_at + LEASE_SECONDS,
        )
        return turn, call

    def produce(self, turn: LiveTurn, call: Call) -> Usage | None:
        """Stream into *turn*, store and settle, however it ends. Return what the endpoint counted."""
        used: Usage | None = None
        reported: Usage | None = None
        failure: AppError | None = None
        is_called = False
        try:
            is_held = time.monotonic() < call.held_until - _MARGIN or self.checkpoint(turn, "")
            if is_held and not turn.is_stopped:
                is_called = True
                stream = call.offer.client.start(call.plan.messages, max_tokens=call.max_tokens)
                turn.when_stopped(stream.cancel)
                so_far = call.so_far
                for piece in stream:
                    match piece:
                        case Usage():
                            used = reported = piece
                        case LimitReached():
                            turn.is_cut = True
                        case Thought(text):
                            turn.think(text)
                        case str():
                            piece, so_far = spaced(so_far, piece), ""
                            if not _push(turn, piece):
                                turn.is_cut = True
                                break  # which ends the request
                if turn.is_cut and not turn.said().strip():
                    failure = ModelUnavailable(ModelFailure.NO_ANSWER)
            elif not turn.is_stopped:
                failure = StoreUnavailable("lapsed before the model was called")
        except AppError as error:
            failure = error
        except Exception:  # a bug: the turn is settled all the same, and the bug seen
            failure = ModelUnavailable(ModelFailure.GARBLED)
            raise
        finally:
            if used:  # a report below what was streamed is not believed
                used = replace(used, reply=max(used.reply, min_tokens(turn.said())))
            elif is_called:
                thoughts = turn.thoughts()
                streamed = (thoughts.text if thoughts else "") + turn.said()
                used = self._counted(call, streamed, is_failed=failure is not None)
            turn.failure = self._settle(turn, call.offer.info, used or Usage(0, 0), failure)
        return reported

    def ask(
        self,
        turns: LiveTurns,
        thread: Thread,
        offer: Offer,
        plan: ContextPlan,
        about: MessageId,
        purpose: Purpose,
        seconds: float,
    ) -> Answer:
        """Ask what the app wants to know *about* a message; the turn is one of *turns* meanwhile.

        After *seconds* it is stopped. Raise what `begin` raises, and how the model failed.
        """
        give_up_at = time.monotonic() + seconds
        turn, call = self.begin(new_attempt(thread, offer, plan, about, None, purpose=purpose))

        def beat(_: str) -> None:
            if time.monotonic() > give_up_at:
                turn.stop()
            self.checkpoint(turn, "")

        def produce(turn: LiveTurn) -> None:
            self.produce(turn, call)
            turn.close(turn.failure)

        turns.run(turn, beat, produce)
        turn.wait(LONGEST_TURN)
        if turn.failure:
            raise turn.failure
        return Answer(turn.id, turn.said(), turn.is_stopped or turn.is_cut)

    def _settle(
        self, turn: LiveTurn, info: ModelInfo, tokens: Usage, failure: AppError | None
    ) -> AppError | None:
        said = turn.said()
        ending = Ending(
            turn_id=turn.id,
            conversation_id=turn.conversation_id,
            prompt_id=turn.prompt_id,
            reply_id=MessageId(uuid4()),
            reply=said if turn.purpose is Purpose.REPLY else "",
            thoughts=turn.thoughts(),
            outcome=_outcome(turn, failure),
            usage=tokens,
            cost_micro=info.cost_micro(tokens),
        )
        unsaved = self._finish(ending)
        log_event(
            "turn.finished",
            turn=turn.id,
            purpose=turn.purpose,
            outcome=ending.outcome,
            prompt_tokens=tokens.prompt,
            reply_tokens=tokens.reply,
            cost_micro=ending.cost_micro,
            saved=unsaved is None,
        )
        return unsaved or (None if turn.is_stopped else failure)

    def _finish(self, ending: Ending) -> AppError | None:
        """Store the ending; wait for a database that is away, which loses nothing meanwhile."""
        deadline, pause = time.monotonic() + _PATIENCE, 0.2
        while True:
            try:
                self.turns.keep_fresh(LONGEST_TURN // 20)
                self.turns.finish(ending)
            except StoreUnavailable as error:
                if time.monotonic() > deadline:
                    return error
                time.sleep(pause)
                pause = min(2 * pause, 5.0)
            except (SignedOut, Tampered, Busy, NotFound) as error:
                return error
            else:
                return None

    def _counted(self, call: Call, streamed: str, *, is_failed: bool) -> Usage:
        """Our own count, where the endpoint reported none; it leans high, but not above what is reserved."""
        if is_failed and not streamed:
            return Usage(0, 0)
        return Usage(
            min(call.plan.prompt_tokens, call.plan.bound_tokens),
            min(self.counter.count(streamed), call.max_tokens),
        )

    def checkpoint(self, turn: LiveTurn, said: str) -> Lease:
        """Store *said*, and thoughts that are not stored yet, and prolong the lease; stop *turn* where another
        process asked for that."""
        thoughts = turn.thoughts()
        new = None if thoughts == turn.kept_thoughts else thoughts
        lease = self.turns.checkpoint(turn.id, turn.conversation_id, said, LEASE_SECONDS, new)
        turn.kept_thoughts = thoughts
        if lease is Lease.STOP_REQUESTED:
            turn.stop()
        return lease


def new_attempt(
    thread: Thread,
    offer: Offer,
    plan: ContextPlan,
    prompt_id: MessageId,
    prompt: str | None,
    *,
    purpose: Purpose = Purpose.REPLY,
    receipt: str | None = None,
    is_first: bool = False,
    so_far: str = "",
) -> Attempt:
    """Return an attempt to begin a turn of *plan*, which reserves its worst cost."""
    info = offer.info
    turn = NewTurn(
        client_turn_id=ClientTurnId(uuid4()),
        thread=thread,
        prompt_id=prompt_id,
        prompt=prompt,
        start_seq=plan.start_seq,
        model=info.name,
        prompt_micro=info.cost_micro(Usage(plan.bound_tokens, 0)),
        reply_micro=_reply_micro(info, plan.reply_tokens),
        least_reply_micro=_least_reply_micro(info, plan),
        lease_seconds=LEASE_SECONDS,
        purpose=purpose,
        receipt=receipt,
        is_first=is_first,
    )
    return Attempt(turn=turn, offer=offer, plan=plan, so_far=so_far)


class UnansweredAttempts:
    """The attempts of one user whose answers were lost: asked for once more, each is sent as it was."""

    def __init__(self) -> None:
        self._attempts: list[Attempt] = []
        self._lock = threading.Lock()

    def find(self, attempt: Attempt) -> Attempt | None:
        """The lost attempt that asked for the same."""
        return next((lost for lost in self._attempts if _is_same(lost, attempt)), None)

    def is_prompt(self, prompt_id: MessageId | None) -> bool:
        """Return True if a lost attempt was to store this prompt: no process streams a reply to it."""
        return any(lost.turn.prompt and lost.turn.prompt_id == prompt_id for lost in self._attempts)

    @contextmanager
    def kept_if_lost(self, attempt: Attempt) -> Generator[None]:
        """Keep *attempt* if it raises StoreUnavailable: the turn may have begun."""
        is_lost = False
        try:
            yield
        except StoreUnavailable:
            is_lost = True
            raise
        finally:
            with self._lock:
                others = [lost for lost in self._attempts if lost is not attempt]
                self._attempts = [*others, attempt][-_MOST_UNANSWERED:] if is_lost else others

    def forget(self, conversation_id: ConversationId) -> None:
        with self._lock:
            self._attempts = [
                lost
                for lost in self._attempts
                if lost.turn.thread.conversation.id != conversation_id
            ]


def _is_same(lost: Attempt, attempt: Attempt) -> bool:
    """Return True if *attempt* asks for what *lost* asked for not long ago, whose prompt may be stored by now."""
    sent, new = lost.turn, attempt.turn
    is_late = attempt.made_at - lost.made_at > _RESENT_SECONDS
    if is_late or _choices(sent.thread) != _choices(new.thread):
        return False
    if sent.is_first and new.is_first:
        return sent.prompt == new.prompt
    before, now = sent.thread, new.thread
    if before.conversation.id != now.conversation.id:
        return False
    if new.prompt is None:
        return new.prompt_id == sent.prompt_id
    stored = next((one for one in now.messages if one.id == sent.prompt_id), None)
    tip_id = now.tip.id if now.tip else None
    if stored:
        is_next = tip_id in (stored.id, stored.parent_id)
    else:
        is_next = (before.conversation.rev, before.tip) == (now.conversation.rev, now.tip)
    return new.prompt == sent.prompt and is_next


def _choices(thread: Thread) -> tuple[object, ...]:
    """The choices for a conversation that another request would not have in common."""
    conversation = thread.conversation
    return conversation.policy, conversation.model, conversation.space_id, thread.instructions


def _reply_micro(info: ModelInfo, tokens: int) -> int:
    return info.cost_micro(Usage(0, tokens))


def _least_reply_micro(info: ModelInfo, plan: ContextPlan) -> int:
    return _reply_micro(info, min(_LEAST_REPLY_TOKENS, plan.reply_tokens))


def least_micro(info: ModelInfo, plan: ContextPlan) -> int:
    """Return what the prompt of *plan* and a short reply cost at most: a budget that has less refuses the turn."""
    return info.cost_micro(Usage(plan.bound_tokens, 0)) + _least_reply_micro(info, plan)


def _outcome(turn: LiveTurn, failure: AppError | None) -> Outcome:
    if turn.is_stopped:
        return Outcome.STOPPED
    if failure:
        return Outcome.FAILED
    return Outcome.CUT if turn.is_cut else Outcome.COMPLETE


def _push(turn: LiveTurn, piece: str) -> bool:
    """Add *piece*; False, with what fits added, where the reply becomes longer than a message may be."""
    return all(
        turn.push(piece[start : start + _LONGEST_PIECE]) <= LONGEST_TEXT
        for start in range(0, len(piece), _LONGEST_PIECE)
    )
