"""The data that a page needs to draw a conversation once."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import inf

from services.chat.background import UserTasks
from services.chat.live_turn import LiveTurn
from services.chat.paid_calls import least_micro
from services.chat.remote_turn import RemoteTurn
from services.chat.search import Located
from services.chat.setup import Setup
from services.domain import (
    Full,
    MemoryPolicy,
    Message,
    MessageId,
    Purpose,
    Role,
    Thoughts,
    Thread,
    TurnCost,
    TurnId,
    Usage,
    total_cost,
)
from services.domain.context import ContextPlan, Forecast, History, SentContext
from services.domain.memories import NotedFact
from services.errors import (
    AppError,
    InstructionsTooLong,
    NewerVersion,
    NotFound,
    PromptTooLong,
    StoreUnavailable,
)
from services.llm import Offer
from services.memory.forecast import Calibration
from services.memory.receipt import Receipt

_LAST_REPLIES = 3


@dataclass(frozen=True, slots=True)
class Affordable:
    """Changes, each of which alone would make a refused turn affordable."""

    models: tuple[str, ...]  # model names; the cheapest model comes first
    policies: tuple[MemoryPolicy, ...]


@dataclass(frozen=True, slots=True)
class Need:
    """The amounts (in micro-dollars and in tokens) below which the unused part of a spending limit counts as low."""

    micro: int = 0
    tokens: int = 0


@dataclass(frozen=True, kw_only=True)
class ThreadView:
    """A conversation and its live turn, read at the same time; other data is computed on first use. Not thread-safe.

    A view shows cached data while the database is unreachable or if the conversation is gone.
    """

    thread: Thread
    turn: LiveTurn | RemoteTurn | None = None  # the turn whose reply is streaming
    # the error of the last reply, if this process still remembers it
    failure: AppError | None = None
    is_new: bool = False  # true if the conversation is not stored yet
    _tasks: UserTasks = field(repr=False)

    @cached_property
    def setup(self) -> Setup:
        """The model, instructions, preferences and facts of the next turn."""
        return self._tasks.choices.setup(self.thread)

    @cached_property
    def plan(self) -> ContextPlan | None:
        """The plan of the next turn without its prompt.

        None if no plan fits the context window, or this version of the app does not know the policy.
        """
        with suppress(PromptTooLong, InstructionsTooLong, NewerVersion):
            return self._planned[1]
        return None

    @property
    def room(self) -> int:
        """The most tokens of the next prompt."""
        return self._tasks.planning.budget(self.thread, self.setup).prompt_tokens

    @cached_property
    def forecast(self) -> Forecast | None:
        """The tokens that the endpoint is expected to count for the plan; None without a plan."""
        plan = self.plan
        return self._tasks.planning.forecast(self.thread, self.setup, plan) if plan else None

    @cached_property
    def next_receipt(self) -> Receipt:
        """The receipt that the next turn would have without its prompt.

        May raise ChatFull, PromptTooLong or InstructionsTooLong.
        """
        policy, model = self.thread.conversation.policy, self.setup.offer.info.name
        return Receipt.from_plan(policy, model, *self._planned, Calibration())

    def receipt(self, reply: Message) -> Receipt | None:
        """Return the receipt of *reply*, if one is stored. May raise StoreUnavailable."""
        kept = self._tasks.store.turns.receipts([reply], self.thread.conversation.id)
        text = kept.get(reply.turn_id) if reply.turn_id else None
        return Receipt.from_json(text) if text else None

    def recalled(self, receipt: SentContext) -> Mapping[MessageId, Located]:
        """Return the messages from other conversations that *receipt* lists, if they still exist in the conversation's space."""
        return self._tasks.planning.recalled_messages(self.thread, receipt)

    def costs(self, messages: Iterable[Message]) -> Mapping[TurnId, TurnCost]:
        """Return the costs of the replies among *messages*; empty if they cannot be read now."""
        parts = [part for one in messages if one.role is Role.ASSISTANT for part in one.stored]
        with suppress(StoreUnavailable, NotFound):
            return self._tasks.store.turns.costs(parts, self.thread.conversation.id)
        return {}

    def thoughts(self, messages: Iterable[Message]) -> Mapping[MessageId, Thoughts]:
        """Return the thoughts of *messages*; empty if they cannot be read now."""
        parts = [part for one in messages for part in one.stored if part.has_thoughts]
        with suppress(StoreUnavailable, NotFound):
            return self._tasks.store.turns.thoughts(parts, self.thread.conversation.id)
        return {}

    @cached_property
    def last_prompt(self) -> Message | None:
        """The last prompt of the branch."""
        branch = self.thread.branch()[::-1]
        return next((message for message in branch if message.role is Role.USER), None)

    @cached_property
    def noted(self) -> tuple[NotedFact, ...]:
        """The facts noted up to the last prompt, except facts changed or dismissed since."""
        asked = self.last_prompt
        return self._tasks.noted(self.thread.conversation.id, asked.id) if asked else ()

    @cached_property
    def need(self) -> Need:
        """The amounts below which the unused part of a spending limit counts as low: three times the cost of the most
        expensive of the last three replies, or the highest possible cost of the next reply if that is more."""
        replies = [one for one in self.thread.branch() if one.role is Role.ASSISTANT][
            -_LAST_REPLIES:
        ]
        known = self.costs(replies)
        costs = [cost for one in replies if (cost := total_cost(one, known))]
        dearest = max((cost.cost_micro for cost in costs), default=0)
        longest = max((cost.tokens.prompt + cost.tokens.reply for cost in costs), default=0)
        plan = self.plan
        most = Usage(plan.bound_tokens, plan.reply_tokens) if plan else Usage(0, 0)
        return Need(
            max(_LAST_REPLIES * dearest, self.setup.offer.info.cost_micro(most)),
            max(_LAST_REPLIES * longest, most.prompt + most.reply),
        )

    def affordable(self, prompt: str, left_micro: int) -> Affordable:
        """Find changes after which *left_micro* pays for *prompt* (if empty, for the last prompt) and a short reply."""
        past, conversation = self.thread.branch(), self.thread.conversation
        if not prompt:
            at = max((n for n, one in enumerate(past) if one.role is Role.USER), default=0)
            past, prompt = past[:at], past[at].body if past else ""

        def micro(policy: MemoryPolicy, offer: Offer) -> float:
            """Return the highest cost of the prompt and a short reply; infinite if no plan fits or the store fails."""
            by_offer = replace(self.setup, offer=offer)
            as_planned = replace(self.thread, conversation=replace(conversation, policy=policy))
            with suppress(PromptTooLong, InstructionsTooLong, NewerVersion, StoreUnavailable):
                plan, _ = self._tasks.planning.turn(as_planned, by_offer, past, prompt)
                return least_micro(offer.info, plan)
            return inf

        now, offer = conversation.policy, self.setup.offer
        models = {
            one.info.name: micro(now, one) for one in self._tasks.choices.models if one != offer
        }
        others = [
            policy
            for policy in (() if self.is_new else self._tasks.choices.policies())
            if policy.name != now.name
        ]
        return Affordable(
            models=tuple(
                name
                for name in sorted(models, key=models.__getitem__)
                if models[name] <= left_micro
            ),
            policies=tuple(policy for policy in others if micro(policy, offer) <= left_micro),
        )

    @cached_property
    def summary_failure(self) -> AppError | None:
        """The error of the last attempt at a summary, until an attempt succeeds."""
        return self._tasks.registry.failure(Purpose.SUMMARY, self.thread.conversation.id)

    @cached_property
    def is_summary_coming(self) -> bool:
        """True while a summary is being made."""
        coming = self._tasks.registry.coming(self._tasks.store.turns.user_id, Purpose.SUMMARY)
        return self.thread.conversation.id in coming

    @cached_property
    def _planned(self) -> tuple[History, ContextPlan]:
        thread = self.thread
        # a new conversation has the same plan under every policy; under Full, no search is started, as it would be under
        # Retrieval
        if self.is_new:
            thread = replace(thread, conversation=replace(thread.conversation, policy=Full()))
        return self._tasks.planning.view(thread, self.setup)
