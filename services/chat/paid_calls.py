"""Paid model calls: the highest cost is reserved before a call, and the real cost is charged after it, even if it failed.

`begin` reserves the cost. The caller runs `produce` in a thread; `produce` streams and stores the reply, and settles the turn.
"""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from uuid import uuid4

from services import errors
from services.caches import LruCache
from services.chat.live_turn import LiveTurn
from services.domain import ConversationId, MessageId, Outcome, Purpose, Thread, Usage
from services.domain.context import ContextPlan
from services.domain.limits import LONGEST_TEXT
from services.domain.model_failures import ModelFailure, ModelUnavailable
from services.domain.models import ModelInfo
from services.domain.turns import (
    ClientTurnId,
    Ending,
    Lease,
    NewTurn,
    Pace,
    Reservation,
    Settlement,
    StopCause,
)
from services.events import log_event
from services.llm import LimitReached, Offer, SentAtOnce, Thought
from services.memory.continuing import spaced, without_repeated_space
from services.memory.tokens import TokenCounter, min_tokens
from services.store.port import Turns

# a turn is refused if the budget cannot pay for a reply of this length: a shorter one is not worth the prompt's cost
_LEAST_REPLY_TOKENS = 256
# if a new turn's lease ends in fewer seconds than this, it is renewed before the model is called
_MARGIN = 2.0
_PATIENCE = 900.0  # maximum seconds for storing a finished reply while the database is unreachable
_RESENT_SECONDS = 120.0  # within this many seconds, a request identical to an unanswered one counts as a repetition
# maximum number of a user's unanswered calls that stay in memory for resending
_MOST_UNANSWERED = 4
_LONGEST_TOKEN = 128  # characters of the longest token in any known vocabulary, a run of spaces
_LONGEST_PIECE = 20_000  # maximum characters that are added to a live turn at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A model call, and the turn that pays for it.

    If the database's response to `PaidCalls.begin` is lost, the same call is sent again.
    """

    turn: NewTurn
    offer: Offer
    plan: ContextPlan
    # the text of the reply that the model is asked to continue; empty for a new reply
    so_far: str = field(default="", repr=False)
    made_at: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True)
class PaidCalls:
    """The paid model calls of one signed-in user. Any thread may call any method."""

    turns: Turns
    counter: TokenCounter
    on_settled: Callable[[], None] = lambda: None  # called when the user's spending has changed
    # the session that owns the turns; they are stopped when the session ends (`LiveTurns.leaving`)
    owner: object = None
    # called with the model's name and the failure of each call that the model could not answer
    on_failed: Callable[[str, ModelUnavailable], object] = lambda model, error: None

    def begin(self, call: Call) -> LiveTurn:
        """Begin the turn of *call* in the database. Repeating the same *call* does not begin a second turn.

        Raise PriceUnknown if the deployment refuses the model because its price is unknown. May raise the errors of
        `Turns.begin`.
        """
        if call.offer.is_refused:
            raise errors.PriceUnknown
        new, reservation = call.turn, call.turn.reservation
        begun = self.turns.begin(new)
        affordable = call.offer.info.affordable_reply(
            begun.reserved_micro - reservation.prompt_micro
        )
        turn = LiveTurn(
            self.turns.user_id,
            new.thread.conversation.id,
            begun.turn_id,
            new.prompt_id,
            owner=self.owner,
            thread=new.begun_thread() if new.prompt else None,
            purpose=reservation.purpose,
            pace=self.turns.pace,
            max_tokens=min(affordable, begun.reserved_tokens - reservation.prompt_tokens),
        )
        log_event(
            "turn.begun",
            turn=turn.id,
            purpose=turn.purpose,
            reserved_micro=begun.reserved_micro,
            prompt_tokens=call.plan.prompt_tokens,
            max_tokens=turn.max_tokens,
            omitted=len(call.plan.omitted_ids),
        )
        return turn

    def produce(self, turn: LiveTurn, call: Call) -> Usage | None:
        """Stream the reply into *turn*, then store and settle the turn, even after a failure.

        Return the usage that the endpoint reported; None if it reported none or the reply failed.
        """
        failure: errors.AppError | None = None
        is_called = is_whole = False
        try:
            held_until = call.made_at + turn.pace.lease_seconds - _MARGIN
            is_held = time.monotonic() < held_until or self.checkpoint(turn, "")
            if is_held and not turn.is_stopped:
                is_called = True
                self._stream(turn, call)
                is_whole, failure = True, _missing_answer(turn)
            elif not turn.is_stopped:
                failure = errors.StoreUnavailable("lapsed before the model was called")
        except errors.AppError as error:
            failure = error
        except Exception:  # a bug: the error is logged, and the turn is still settled
            failure = ModelUnavailable(ModelFailure.GARBLED)
            raise
        finally:
            used = Usage(0, 0)
            # charge at least the streamed tokens, and at most the reserved ones
            if reported := turn.usage:
                reply = min(max(reported.reply, min_tokens(turn.said())), turn.max_tokens)
                prompt = min(reported.prompt, call.plan.bound_tokens)
                cached = min(reported.cached, prompt)
                used = replace(reported, prompt=prompt, reply=reply, cached=cached)
            elif is_called:
                used = self._counted(call, turn, is_failed=not is_whole)
            turn.failure = self._settle(turn, call.offer.info, used, failure)
        return turn.usage if is_whole else None

    def _stream(self, turn: LiveTurn, call: Call) -> None:
        """Stream the reply into *turn*, and note the usage that the endpoint reports.

        A reported usage that exceeds the context window is ignored.
        """
        stream = call.offer.client.start(call.plan.messages, max_tokens=turn.max_tokens)
        turn.when_stopped(stream.cancel)
        so_far, limit, is_over = call.so_far, _LengthLimit(turn.max_tokens), False
        if so_far and call.offer.takes_prefix:
            pieces, so_far = without_repeated_space(so_far, stream), ""
        else:
            pieces = stream
        for piece in pieces:
            match piece:
                case Usage():
                    if piece.prompt > call.plan.bound_tokens:
                        log_event("usage.impossible", turn=turn.id)
                    if max(piece.prompt, piece.reply) <= call.offer.info.context_tokens:
                        turn.usage = piece
                case LimitReached():
                    turn.is_cut = True
                case SentAtOnce():
                    turn.is_at_once = True
                case Thought(text):
                    turn.think(text)
                    is_over = limit.is_exceeded(text)
                case str():
                    piece, so_far = spaced(so_far, piece), ""
                    is_over = not _push(turn, piece) or limit.is_exceeded(piece)
            if is_over:
                turn.is_cut = True
                break  # leaving the loop ends the request at the endpoint

    def _settle(
        self, turn: LiveTurn, info: ModelInfo, tokens: Usage, failure: errors.AppError | None
    ) -> errors.AppError | None:
        settlement = Settlement(
            turn.id, _outcome(turn, failure), tokens, info.cost_micro(tokens), turn.first_token_ms
        )
        ending = Ending(
            settlement=settlement,
            conversation_id=turn.conversation_id,
            prompt_id=turn.prompt_id,
            reply_id=MessageId(uuid4()),
            reply=turn.said() if turn.purpose is Purpose.REPLY else "",
            thoughts=turn.thoughts(),
        )
        unsaved = self._finish(ending)
        model_failure = failure.failure if isinstance(failure, ModelUnavailable) else None
        if isinstance(failure, ModelUnavailable):
            self.on_failed(info.name, failure)
        store_failure = unsaved or (None if model_failure else failure)
        log_event(
            "turn.finished",
            turn=turn.id,
            purpose=turn.purpose,
            outcome=settlement.outcome,
            prompt_tokens=tokens.prompt,
            cached_tokens=tokens.cached,
            reply_tokens=tokens.reply,
            cost_micro=settlement.cost_micro,
            first_token_ms=turn.first_token_ms,
            failure=model_failure,
            store_failure=type(store_failure) if store_failure else None,
        )
        return unsaved or (None if turn.is_stopped else failure)

    def _finish(self, ending: Ending) -> errors.AppError | None:
        """Store the end of a turn, and return the error, if any; retry for `_PATIENCE` seconds while the store is unavailable."""
        deadline, pause = time.monotonic() + _PATIENCE, 0.2
        while True:
            try:
                self.turns.finish(ending)
            except errors.StoreUnavailable as error:
                if time.monotonic() > deadline:
                    return error
                time.sleep(pause)
                pause = min(2 * pause, 5.0)
            except (errors.SignedOut, errors.Tampered, errors.Busy, errors.NotFound) as error:
                return error
            else:
                self.on_settled()
                return None

    def _counted(self, call: Call, turn: LiveTurn, *, is_failed: bool) -> Usage:
        """Estimate the usage of a call for which the endpoint reported no usage. The estimate is deliberately high, but
        never above the reservation."""
        thoughts, said = turn.streamed()
        if is_failed and not thoughts and not said:
            return Usage(0, 0)
        reply = self.counter.count(said)
        if thoughts:
            # only the first thoughts are in memory, so scale their tokens to the bytes of all thoughts
            reply += self.counter.count(thoughts) * turn.thought_bytes // len(thoughts.encode())
        return Usage(
            min(call.plan.prompt_tokens, call.plan.bound_tokens), min(reply, turn.max_tokens)
        )

    def checkpoint(self, turn: LiveTurn, said: str) -> Lease:
        """Store *said*, the reply so far, and new thoughts, if any; renew the lease of *turn*. Stop *turn* if the user has
        pressed Stop in another process."""
        thoughts = turn.thoughts()
        new = None if thoughts == turn.kept_thoughts else thoughts
        seconds = turn.pace.lease_seconds
        lease = self.turns.checkpoint(turn.id, turn.conversation_id, said, seconds, new)
        turn.kept_thoughts = thoughts
        if lease is Lease.STOP_REQUESTED:
            turn.stop(StopCause.USER)
        return lease


class _LengthLimit:
    """Checks the length of a reply from an endpoint that may ignore `max_tokens`. The limits are 16 bytes per token, not
    counting repeated characters, and `_LONGEST_TOKEN` characters per token.

    Ordinary text has fewer bytes per token (docs/decisions/counting-without-a-tokenizer.md), so a reply that
    respects its token limit is never cut.
    """

    def __init__(self, max_tokens: int) -> None:
        self._max_tokens, self._pieces = max_tokens, list[str]()
        # a text of fewer than `_due` characters cannot exceed the limit, so it is not counted
        self._characters, self._due = 0, 4 * max_tokens

    def is_exceeded(self, piece: str) -> bool:
        """Add a *piece* of the reply or of its thoughts; return True if all pieces together exceed the limit."""
        self._pieces.append(piece)
        self._characters += len(piece)
        if self._characters < self._due:
            return False
        # count again only once the text is a quarter longer: counting the whole text for each piece would take quadratic time
        self._due = self._characters * 5 // 4
        self._pieces = [text := "".join(self._pieces)]
        return max(2 * min_tokens(text), len(text) // _LONGEST_TOKEN) > self._max_tokens


def new_call(
    thread: Thread,
    offer: Offer,
    plan: ContextPlan,
    prompt_id: MessageId,
    prompt: str | None,
    pace: Pace,
    *,
    purpose: Purpose = Purpose.REPLY,
    receipt: str | None = None,
    is_first: bool = False,
    so_far: str = "",
) -> Call:
    """Return a call that sends *plan* to the model of *offer*; its turn reserves the highest possible cost."""
    info = offer.info
    reservation = Reservation(
        client_turn_id=ClientTurnId(uuid4()),
        purpose=purpose,
        model=info.name,
        prompt_micro=info.cost_micro(Usage(plan.bound_tokens, 0)),
        reply_micro=info.cost_micro(Usage(0, plan.reply_tokens)),
        least_reply_micro=_least_reply_micro(info, plan),
        prompt_tokens=plan.bound_tokens,
        reply_tokens=plan.reply_tokens,
        least_reply_tokens=_least_reply_tokens(plan),
        lease_seconds=pace.lease_seconds,
    )
    turn = NewTurn(
        reservation=reservation,
        thread=thread,
        prompt_id=prompt_id,
        prompt=prompt,
        start_seq=plan.start_seq,
        receipt=receipt,
        is_first=is_first,
    )
    return Call(turn=turn, offer=offer, plan=plan, so_far=so_far)


class UnansweredCalls:
    """The calls of one user for which the database's response to `begin` was lost; each is sent again unchanged.

    Any thread may call any method.
    """

    def __init__(self) -> None:
        self._calls = LruCache[ClientTurnId, Call](_MOST_UNANSWERED)

    def find(self, call: Call) -> Call | None:
        """Return the unanswered call that made the same request as *call*; None if there is none."""
        return next((lost for lost in self._recent() if _is_same(lost, call)), None)

    def is_prompt(self, prompt_id: MessageId | None) -> bool:
        """Return True if an unanswered call may have begun the turn of this prompt.

        Such a turn is open in the database, but no process streams its reply until the call is sent again.
        """
        lost = (call.turn for call in self._recent())
        return any(turn.prompt and turn.prompt_id == prompt_id for turn in lost)

    @contextmanager
    def kept_if_lost(self, call: Call) -> Generator[None]:
        """Keep *call* in memory for resending if the `with` block raises StoreUnavailable, because its turn may have begun."""
        client_turn_id, is_lost = call.turn.reservation.client_turn_id, False
        try:
            yield
        except errors.StoreUnavailable:
            is_lost = True
            raise
        finally:  # drop the call only now, because `find` must return a resent call until its response has arrived
            self._calls.drop(client_turn_id)
            if is_lost:
                self._calls.put(client_turn_id, call)

    def forget(self, conversation_id: ConversationId) -> None:
        self._calls.drop_all(lambda lost: lost.turn.thread.conversation.id == conversation_id)

    def _recent(self) -> list[Call]:
        """Return the unanswered calls of the last `_RESENT_SECONDS`, after dropping the others."""
        horizon = time.monotonic() - _RESENT_SECONDS
        self._calls.drop_all(lambda lost: lost.made_at < horizon)
        return [lost for _, lost in self._calls.items()]


def _is_same(lost: Call, call: Call) -> bool:
    """Return True if *call* repeats the request of *lost*, whose prompt may or may not be stored by now."""
    sent, new = lost.turn, call.turn
    before, now = sent.thread, new.thread
    if _choices(before) != _choices(now):
        return False
    if sent.is_first and new.is_first:
        return sent.prompt == new.prompt
    if before.conversation.id != now.conversation.id:
        return False
    if new.prompt is None:
        return new.prompt_id == sent.prompt_id
    stored = next((one for one in now.messages if one.id == sent.prompt_id), None)
    if stored:
        is_next = (now.tip.id if now.tip else None) in (stored.id, stored.parent_id)
    else:
        is_next = (before.conversation.rev, before.tip) == (now.conversation.rev, now.tip)
    return new.prompt == sent.prompt and is_next


def _choices(thread: Thread) -> tuple[object, ...]:
    """Return the settings of a conversation that must be equal for two requests to count as identical."""
    conversation = thread.conversation
    return conversation.policy, conversation.model, conversation.space_id, thread.instructions


def _least_reply_tokens(plan: ContextPlan) -> int:
    return min(_LEAST_REPLY_TOKENS, plan.reply_tokens)


def _least_reply_micro(info: ModelInfo, plan: ContextPlan) -> int:
    return info.cost_micro(Usage(0, _least_reply_tokens(plan)))


def least_micro(info: ModelInfo, plan: ContextPlan) -> int:
    """Return the smallest budget, in micro-dollars, that can pay for a turn: the highest possible cost of the prompt of
    *plan*, plus the cost of a short reply."""
    return info.cost_micro(Usage(plan.bound_tokens, 0)) + _least_reply_micro(info, plan)


def _missing_answer(turn: LiveTurn) -> ModelUnavailable | None:
    """Return the failure if a stream ended normally but without an answer; else None."""
    if turn.said().strip():
        return None
    if turn.is_cut:
        return ModelUnavailable(ModelFailure.NO_ANSWER)
    is_empty = turn.purpose is Purpose.REPLY and not turn.thoughts()
    return ModelUnavailable(ModelFailure.EMPTY) if is_empty else None


def _outcome(turn: LiveTurn, failure: errors.AppError | None) -> Outcome:
    if turn.stopped_by:
        return turn.stopped_by.outcome
    if isinstance(failure, ModelUnavailable) and failure.failure is ModelFailure.EMPTY:
        # the store then has a complete turn without a reply, by which pages know, even after a restart, that the
        # reply was empty
        return Outcome.COMPLETE
    if failure:
        return Outcome.FAILED
    return Outcome.CUT if turn.is_cut else Outcome.COMPLETE


def _push(turn: LiveTurn, piece: str) -> bool:
    """Add *piece* to the reply, in parts; once the reply is longer than a message may be, drop the rest and return False."""
    return all(
        turn.push(piece[start : start + _LONGEST_PIECE]) <= LONGEST_TEXT
        for start in range(0, len(piece), _LONGEST_PIECE)
    )
