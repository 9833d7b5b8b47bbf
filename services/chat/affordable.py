"""Whether a budget pays for the next turns, and changes that make a refused turn affordable: another model, or a memory
policy that sends less."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from math import inf
from uuid import uuid4

from services.chat.paid_calls import least_micro
from services.chat.service import Chat
from services.domain import (
    ConversationId,
    Full,
    MemoryPolicy,
    NewConversation,
    Role,
    Thread,
    TurnCost,
    TurnId,
    Usage,
    total_cost,
)
from services.domain.context import ContextPlan
from services.errors import InstructionsTooLong, PromptTooLong, StoreUnavailable
from services.llm import Offer

_LAST_REPLIES = 3


@dataclass(frozen=True, slots=True)
class Affordable:
    """Changes of which each alone makes a refused turn affordable."""

    models: tuple[str, ...]  # names, the cheapest first
    policies: tuple[MemoryPolicy, ...]


@dataclass(frozen=True, slots=True)
class Need:
    """An amount of money and one of tokens."""

    micro: int = 0
    tokens: int = 0


def next_need(
    chat: Chat, thread: Thread | None, plan: ContextPlan | None, new: NewConversation
) -> Need:
    """Return what a limit should leave, or it may refuse soon: three times the dearest of the last three replies, or the
    most that the next one may cost with *plan*, if that is more.

    Without a *thread*, of a conversation that begins as *new*.
    """
    here = thread or _beginning(chat, new)
    setup = chat.choices.setup(here)
    if thread is None:
        # an empty conversation has one view under every policy, and Retrieval would prepare a search
        empty = replace(here, conversation=replace(here.conversation, policy=Full()))
        with suppress(InstructionsTooLong, PromptTooLong):
            plan = chat.planning.view(empty, setup)
    replies = [one for one in here.branch() if one.role is Role.ASSISTANT][-_LAST_REPLIES:]
    known: Mapping[TurnId, TurnCost] = {}
    with suppress(StoreUnavailable):
        parts = [part for one in replies for part in one.stored]
        known = chat.store.turns.costs(parts, here.conversation.id) if parts else {}
    costs = [cost for one in replies if (cost := total_cost(one, known))]
    dearest = max((cost.cost_micro for cost in costs), default=0)
    longest = max((cost.tokens.prompt + cost.tokens.reply for cost in costs), default=0)
    most = Usage(plan.bound_tokens, plan.reply_tokens) if plan else Usage(0, 0)
    return Need(
        max(_LAST_REPLIES * dearest, setup.offer.info.cost_micro(most)),
        max(_LAST_REPLIES * longest, most.prompt + most.reply),
    )


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
    here = thread or _beginning(chat, new or NewConversation())
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


def _beginning(chat: Chat, new: NewConversation) -> Thread:
    """Return the empty thread of a conversation that begins as *new*."""
    policy = chat.choices.policy_of(new, chat.choices.space(new.space_id))
    return Thread.empty(ConversationId(uuid4()), "", policy, new, made_at=datetime.now(UTC))
