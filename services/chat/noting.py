"""Facts that are noted: who is having them looked for, and what was noted last in each conversation.

After a complete reply, where its person wants facts to be kept, the model is asked in the background and out of
the person's budget what they said about themself (`services.memory.facts`). Where it fails, where the budget
refuses and where its answer is none, nothing changes, and a prompt that was answered anew is not asked about again.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol
from uuid import uuid4

from services.chat.asides import Asides
from services.chat.paid_calls import Answer
from services.domain import (
    ConversationId,
    Fact,
    FactId,
    Message,
    MessageId,
    Role,
    Thread,
    UserId,
)
from services.errors import AppError
from services.events import log_event
from services.memory import ContextPlan, TokenCounter, plan_facts, read_facts
from services.store.recent import Recent

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


@dataclass(frozen=True, slots=True)
class _Last:
    """What was noted last in a conversation: whose it is, after which prompt, and what of it was not dismissed."""

    user_id: UserId
    prompt_id: MessageId
    noted: tuple[Noted, ...]


class Noting(Asides):
    """The facts that this process has looked for, one exchange at a time for each conversation."""

    def __init__(self) -> None:
        super().__init__()
        self._last = Recent[ConversationId, _Last](_MOST_REMEMBERED)
        self._waiting: dict[ConversationId, MessageId] = {}  # the newest prompt that came meanwhile

    def claim(self, user_id: UserId, conversation_id: ConversationId, prompt_id: MessageId) -> bool:
        """Whether it is now the caller's to look through a prompt, and to say when that is `over`.

        If another prompt of the conversation is being looked through, this one waits for that.
        """
        with self._lock:
            last = self._last.get(conversation_id)
            if last and last.prompt_id == prompt_id:
                return False
            if conversation_id in self._coming:
                self._waiting[conversation_id] = prompt_id
                return False
            self._coming[conversation_id] = user_id
            return True

    def over(
        self,
        user_id: UserId,
        conversation_id: ConversationId,
        prompt_id: MessageId,
        noted: tuple[Noted, ...] | None,
    ) -> MessageId | None:
        """It was looked through, and this came of it; None: it was not, and may be once more.

        The prompt that waited is now the caller's to look through, unless this one failed or was stopped.
        """
        with self._lock:
            if noted is not None:
                self._last.put(conversation_id, _Last(user_id, prompt_id, noted))
            waiting = self._waiting.pop(conversation_id, None)
            if noted is None or waiting in (None, prompt_id):
                self._coming.pop(conversation_id, None)
                return None
            return waiting

    def noted(self, conversation_id: ConversationId) -> tuple[Noted, ...]:
        """What was noted last, and not dismissed."""
        with self._lock:
            last = self._last.get(conversation_id)
            return last.noted if last else ()

    def dismiss(self, conversation_id: ConversationId, dismissed: tuple[Noted, ...]) -> None:
        """Nobody need be told of these any more."""
        with self._lock:
            if last := self._last.get(conversation_id):
                left = tuple(one for one in last.noted if one not in dismissed)
                self._last.put(conversation_id, replace(last, noted=left))

    def forget(self, user_id: UserId) -> None:
        """Nobody of them is here any more: what was noted leaves the memory."""
        self._last.drop_all(lambda last: last.user_id == user_id)


def note_facts(
    thread: Thread,
    prompt_id: MessageId,
    store: FactStore,
    context_tokens: int,
    counter: TokenCounter,
    *,
    ask: Callable[[ContextPlan], Answer],
    is_wanted: Callable[[], bool],
) -> tuple[Noted, ...] | None:
    """Ask the model about a prompt and its reply, and keep what it says, if that is still wanted then.

    None: it was stopped, or is not wanted. Raise AppError.
    """
    exchange = _exchange(thread, prompt_id)
    if not exchange:
        return ()
    before = _facts_of(store, thread)
    plan = plan_facts(exchange, before, context_tokens, counter)
    answer = ask(plan)
    if answer.is_cut or not is_wanted():
        return None
    by_id = {fact.id: fact for fact in before}
    shown = [by_id[fact_id] for fact_id in plan.facts]
    noted: list[Noted] = []
    for change in read_facts(answer.text, exchange, _facts_of(store, thread), shown):
        fact = _fact(change.text, change.replaces, thread, prompt_id)
        try:
            store.keep(fact, replaces=change.replaces)
        except AppError:  # what was noted before it is
            log_event("fact.lost", turn=answer.turn_id)
        else:
            noted.append(Noted(fact, change.replaces))
    log_event("facts.noted", turn=answer.turn_id, facts=len(noted))
    return tuple(noted)


def _facts_of(store: FactStore, thread: Thread) -> tuple[Fact, ...]:
    return tuple(fact for fact in store.facts() if fact.holds_in(thread.conversation))


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
