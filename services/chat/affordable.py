"""Changes that make a turn affordable that the budget refused: another model, or a memory policy that sends less."""

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from math import inf
from uuid import uuid4

from services.chat.paid_calls import least_micro
from services.chat.service import Chat
from services.domain import ConversationId, MemoryPolicy, NewConversation, Role, Thread
from services.errors import InstructionsTooLong, PromptTooLong, StoreUnavailable
from services.llm import Offer


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
    new = new or NewConversation()
    here = thread or Thread.empty(
        ConversationId(uuid4()),
        "",
        chat.choices.policy_of(new, chat.choices.space(new.space_id)),
        new,
        made_at=datetime.now(UTC),
    )
    setup = chat.choices.setup(here)
    past = here.branch()
    if not prompt:
        at = max((n for n, one in enumerate(past) if one.role is Role.USER), default=0)
        past, prompt = past[:at], past[at].body if past else ""

    def micro(policy: MemoryPolicy, offer: Offer) -> float:
        """Return the most that a short reply costs; infinite where the prompt does not fit or the database is away."""
        by_offer = replace(setup, offer=offer)
        as_planned = replace(here, conversation=replace(here.conversation, policy=policy))
        with suppress(PromptTooLong, InstructionsTooLong, StoreUnavailable):
            plan, _ = chat.planning.turn(as_planned, by_offer, past, prompt)
            return least_micro(offer.info, plan)
        return inf

    now = here.conversation.policy
    models = {
        offer.info.name: micro(now, offer) for offer in chat.choices.models if offer != setup.offer
    }
    policies = {policy: micro(policy, setup.offer) for policy in chat.choices.policies() if thread}
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
