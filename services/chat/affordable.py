"""Changes that make a turn affordable that the budget refused: another model, or a memory policy that sends less."""

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from math import inf
from uuid import uuid4

from services.chat.paid_calls import least_micro
from services.chat.service import Chat
from services.chat.setup import Setup
from services.domain import ConversationId, MemoryPolicy, NewConversation, Role, Thread
from services.errors import InstructionsTooLong, PromptTooLong, StoreUnavailable


@dataclass(frozen=True, slots=True)
class Affordable:
    """Changes of which each alone makes a refused turn affordable."""

    models: tuple[str, ...]  # names, the cheapest first
    policies: tuple[MemoryPolicy, ...]


def affordable(
    chat: Chat,
    thread: Thread | None,
    prompt: str,
    left_micro: int,
    new: NewConversation | None = None,
) -> Affordable:
    """Find what *left_micro* pays for: *prompt* and a short reply; without a prompt, the last one once more.

    Without a *thread*, of a conversation that begins as *new*.
    """
    setup = chat.setup(thread, new)
    here = thread or _new_thread(chat.policy_of(new or NewConversation(), setup.space))
    past = here.branch()
    if not prompt:
        at = max((n for n, one in enumerate(past) if one.role is Role.USER), default=0)
        past, prompt = past[:at], past[at].body if past else ""
    others = [replace(setup, offer=offer) for offer in chat.models if offer != setup.offer]

    def micro(policy: MemoryPolicy, setup: Setup) -> float:
        """Return the most that a short reply costs; infinite where the prompt does not fit or the database is away."""
        as_planned = replace(here, conversation=replace(here.conversation, policy=policy))
        with suppress(PromptTooLong, InstructionsTooLong, StoreUnavailable):
            return least_micro(setup.info, chat.planning.turn(as_planned, setup, past, prompt)[0])
        return inf

    now = here.conversation.policy
    models = {other.info.name: micro(now, other) for other in others}
    policies = {policy: micro(policy, setup) for policy in chat.policies() if thread}
    return Affordable(
        models=tuple(
            name for name in sorted(models, key=models.__getitem__) if models[name] <= left_micro
        ),
        policies=tuple(
            policy
            for policy, least in policies.items()
            if least <= left_micro and not isinstance(now, type(policy))
        ),
    )


def _new_thread(policy: MemoryPolicy) -> Thread:
    """A conversation that has yet to begin."""
    return Thread.empty(ConversationId(uuid4()), "", policy, made_at=datetime.now(UTC))
