"""Facts that are noted after a reply.

After a complete reply, where its person wants facts to be kept, the model is asked in the background and out of
the person's budget what they said about themself (`services.memory.facts`). Where it fails, where the budget
refuses and where its answer is none, nothing changes, and a prompt that was answered anew is not asked about again.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

from services.chat.paid_calls import Answer
from services.domain import Fact, FactId, Message, MessageId, Role, Space, Thread
from services.domain.context import ContextPlan
from services.domain.memories import NotedFact
from services.errors import AppError
from services.events import log_event
from services.memory.facts import parse_fact_changes, plan_fact_request
from services.memory.tokens import TokenCounter
from services.store.port import Facts


def note_facts(
    thread: Thread,
    prompt_id: MessageId,
    store: Facts,
    context_tokens: int,
    counter: TokenCounter,
    *,
    space: Space | None,
    ask: Callable[[ContextPlan], Answer],
    is_wanted: Callable[[], bool],
) -> tuple[NotedFact, ...] | None:
    """Ask the model about a prompt and its reply, and keep what it says, if that is still wanted then.

    None: it was stopped, or is not wanted. Raise AppError.
    """
    exchange = _exchange(thread, prompt_id)
    if not exchange:
        return ()
    before = _facts_of(store, thread, space)
    plan = plan_fact_request(exchange, before, context_tokens, counter)
    answer = ask(plan)
    if answer.is_cut or not is_wanted():
        return None
    by_id = {fact.id: fact for fact in before}
    shown = [by_id[fact_id] for fact_id in plan.fact_ids]
    noted: list[NotedFact] = []
    for change in parse_fact_changes(answer.text, exchange, _facts_of(store, thread, space), shown):
        fact = _fact(change.text, change.replaces, thread, prompt_id)
        try:
            store.keep(fact, replaces=change.replaces, cuts=thread.conversation.cuts)
        except AppError:  # what was noted before it is
            log_event("fact.lost", turn=answer.turn_id)
        else:
            noted.append(NotedFact(fact, change.replaces))
    log_event("facts.noted", turn=answer.turn_id, facts=len(noted))
    return tuple(noted)


def _facts_of(store: Facts, thread: Thread, space: Space | None) -> tuple[Fact, ...]:
    return tuple(fact for fact in store.facts() if fact.holds_in(thread.conversation, space))


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
