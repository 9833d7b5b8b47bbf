"""Facts that are noted: who is having them looked for, and what was noted last in each conversation.

After a complete reply, where its person wants facts to be kept, the model is asked in the background and out of
the person's budget what they said about themself (`services.memory.facts`). Where it fails, where the budget
refuses and where its answer is none, nothing changes, and a prompt that was answered anew is not asked about again.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Protocol
from uuid import uuid4

from services.chat.live_turn import LiveTurn, LiveTurns
from services.chat.paid_calls import LONGEST_TURN, PaidCalls
from services.chat.setup import Setup
from services.domain import (
    ConversationId,
    Fact,
    FactId,
    Message,
    MessageId,
    Purpose,
    Role,
    Thread,
    UserId,
)
from services.errors import AppError
from services.events import log_event
from services.memory import plan_facts, read_facts
from services.store.recent import Recent

_SECONDS = 60.0  # for which an answer is waited
_MOST_REMEMBERED = 500  # conversations in which something was noted last


class FactStore(Protocol):
    """What a chat needs of one person's facts."""

    def facts(self) -> tuple[Fact, ...]: ...
    def keep(self, fact: Fact, *, replaces: Fact | None = None) -> None: ...
    def forget(self, fact_id: FactId) -> None: ...


@dataclass(frozen=True, slots=True)
class Noted:
    """A fact that was noted, and the one whose place it took."""

    fact: Fact
    replaced: Fact | None = None


@dataclass(slots=True)
class Noting:
    """The facts that this process has looked for, one exchange at a time for each conversation."""

    turns: LiveTurns = field(default_factory=LiveTurns)  # not those of replies
    _coming: dict[ConversationId, UserId] = field(
        default_factory=dict[ConversationId, UserId], repr=False
    )
    _last: Recent[ConversationId, tuple[MessageId, tuple[Noted, ...]]] = field(
        default_factory=lambda: Recent[ConversationId, tuple[MessageId, tuple[Noted, ...]]](
            _MOST_REMEMBERED
        ),
        repr=False,
    )
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def claim(self, user_id: UserId, conversation_id: ConversationId, prompt_id: MessageId) -> bool:
        """Whether it is now the caller's to look through a prompt, and to say when that is `over`."""
        with self._lock:
            last = self._last.get(conversation_id)
            if conversation_id in self._coming or (last and last[0] == prompt_id):
                return False
            self._coming[conversation_id] = user_id
            return True

    def over(
        self, conversation_id: ConversationId, prompt_id: MessageId, noted: tuple[Noted, ...] | None
    ) -> None:
        """It was looked through, and this came of it; None: it was not, and may be once more."""
        with self._lock:
            self._coming.pop(conversation_id, None)
            if noted is not None:
                self._last.put(conversation_id, (prompt_id, noted))

    def coming(self, user_id: UserId) -> frozenset[ConversationId]:
        """The conversations of a person that are being looked through."""
        with self._lock:
            return frozenset(one for one, owner in self._coming.items() if owner == user_id)

    def noted(self, conversation_id: ConversationId) -> tuple[Noted, ...]:
        """What was noted last, and not dismissed."""
        with self._lock:
            last = self._last.get(conversation_id)
            return last[1] if last else ()

    def dismiss(self, conversation_id: ConversationId, dismissed: tuple[Noted, ...]) -> None:
        """Nobody need be told of these any more."""
        with self._lock:
            if last := self._last.get(conversation_id):
                left = tuple(one for one in last[1] if one not in dismissed)
                self._last.put(conversation_id, (last[0], left))


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteTaker:
    """Notes the facts of one exchange."""

    turns: LiveTurns
    calls: PaidCalls
    store: FactStore
    holds: Callable[[Fact], bool]  # in this conversation
    is_wanted: Callable[[], bool]  # still, once the model has answered

    def note(self, thread: Thread, setup: Setup, prompt_id: MessageId) -> tuple[Noted, ...]:
        """Ask the model about a prompt and its reply, and keep what it says. Raise AppError."""
        exchange = _exchange(thread, prompt_id)
        if not exchange:
            return ()
        before = self._known()
        plan = plan_facts(exchange, before, setup.context_tokens, self.calls.counter)
        turn, call = self.calls.reserve(thread, setup.offer, plan, prompt_id, None, Purpose.FACTS)
        give_up_at = time.monotonic() + _SECONDS

        def beat(_: str) -> None:
            if time.monotonic() > give_up_at:
                turn.stop()
            self.calls.checkpoint(turn, "")

        def produce(turn: LiveTurn) -> None:
            self.calls.produce(turn, call)
            turn.close(turn.failure)

        self.turns.run(turn, beat, produce)
        turn.wait(LONGEST_TURN)
        if turn.failure:
            raise turn.failure
        if turn.is_stopped or not self.is_wanted():
            return ()
        by_id = {fact.id: fact for fact in before}
        shown = [by_id[fact_id] for fact_id in plan.facts]
        changes = read_facts(turn.said(), exchange, self._known(), shown)
        noted: list[Noted] = []
        for change in changes:
            fact = _fact(change.text, change.replaces, thread, prompt_id)
            try:
                self.store.keep(fact, replaces=change.replaces)
            except AppError:  # what was noted before it is
                log_event("fact.lost", turn=turn.id)
            else:
                noted.append(Noted(fact, change.replaces))
        log_event("facts.noted", turn=turn.id, facts=len(noted))
        return tuple(noted)

    def _known(self) -> tuple[Fact, ...]:
        return tuple(fact for fact in self.store.facts() if self.holds(fact))


def _exchange(thread: Thread, prompt_id: MessageId) -> tuple[Message, ...]:
    """The reply before a prompt, the prompt and its reply; nothing where they cannot all be read."""
    branch = thread.through(prompt_id).branch()
    at = next((n for n, said in enumerate(branch) if said.id == prompt_id), None)
    if at is None:
        return ()
    exchange = branch[max(0, at - 1) : at + 2]
    is_readable = thread.is_whole and all(said.is_verified for said in exchange)
    return exchange if is_readable and exchange[-1].role is Role.ASSISTANT else ()


def _fact(text: str, replaced: Fact | None, thread: Thread, prompt_id: MessageId) -> Fact:
    """A new fact, of the space that it was said in, if any; or *replaced* as it is now."""
    conversation, now = thread.conversation, datetime.now(UTC)
    fact = replaced or Fact(
        id=FactId(uuid4()), text=text, since=now, space_id=conversation.space_id
    )
    return replace(
        fact,
        text=text,
        since=now,
        source_id=prompt_id,
        source_conversation_id=conversation.id,
    )
