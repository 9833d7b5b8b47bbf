"""The settings of a turn. Each is taken from the conversation, else its space, else its user, else the deployment."""

from contextlib import suppress
from dataclasses import dataclass, field, replace

from services.domain import (
    Fact,
    MemoryPolicy,
    NewConversation,
    Preferences,
    Space,
    SpaceId,
    Summary,
    Thread,
)
from services.domain.context import ContextBudget
from services.domain.models import InstructionsSource
from services.domain.policies import POLICIES, WINDOW_MESSAGES
from services.errors import StoreUnavailable
from services.llm import Models, Offer
from services.memory.tokens import KindCounter
from services.store.port import Store

_LEAST_CONTEXT_TOKENS = 512
# the minimum context, as a multiple of the user's reply length; a smaller context would leave no room for history
_LEAST_CONTEXT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """The model, instructions, preferences and facts of the next turn."""

    offer: Offer
    instructions: str = field(repr=False)
    source: InstructionsSource = InstructionsSource.DEPLOYMENT  # the source of the instructions
    preferences: Preferences = field(default_factory=Preferences)
    missing_model: str | None = None  # the chosen model, if it is no longer offered
    is_too_long: bool = False  # the instructions leave too little room for messages
    space: Space | None = None
    # the facts that apply to the conversation
    facts: tuple[Fact, ...] = field(default=(), repr=False)

    @property
    def context_tokens(self) -> int:
        """The tokens that one call may use: the model's limit, or a lower limit that the user chose.

        A chosen limit that is too low is raised to `_LEAST_CONTEXT_TOKENS`, and to twice the chosen reply length.
        """
        most = self.offer.info.context_tokens
        wished = self.preferences.context_tokens or most
        replies = _LEAST_CONTEXT * (self.preferences.reply_tokens or 0)
        return min(most, max(wished, replies, _LEAST_CONTEXT_TOKENS))

    @property
    def reply_tokens(self) -> int:
        """The tokens that a reply may have: the model's limit, or a lower limit that the user chose."""
        most = self.offer.info.reply_tokens
        return min(most, self.preferences.reply_tokens or most)

    @property
    def budget(self) -> ContextBudget:
        return ContextBudget(self.context_tokens, self.reply_tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """Finds the settings of a turn: each is the conversation's, else the space's, else the user's, else the deployment's."""

    store: Store
    models: Models
    counter: KindCounter
    instructions: str = field(repr=False)  # the deployment's instructions to the model
    # the deployment's default context policy
    first_policy: MemoryPolicy = field(default_factory=Summary)
    window_messages: int = WINDOW_MESSAGES  # the deployment's default window size, in messages
    reads_facts: bool = True

    def setup(self, thread: Thread | None, new: NewConversation | None = None) -> Setup:
        """Return the setup of the next turn of *thread*, or of the first turn of a new conversation with the choices in *new*.

        A model that is no longer offered is ignored. A user's instructions may take half of `Setup.context_tokens`; the
        deployment's instructions are not checked. Facts that a user wrote for a space or a conversation apply there,
        even if the user has switched memory off.
        """
        new = new or NewConversation()
        own, facts = thread.conversation if thread else new, ()
        space, preferences = self.space(own.space_id), self.store.profile.preferences()
        with suppress(StoreUnavailable):  # the database is unreachable, and no facts are cached
            facts = self.store.facts.facts() if thread and self.reads_facts else ()
        chosen = [name for name in (own.model, preferences.model) if name]
        offered = (offer for name in chosen if (offer := self.models.named(name)))
        offer = next(offered, self.models.first)
        written = {
            InstructionsSource.CONVERSATION: thread.instructions if thread else new.instructions,
            InstructionsSource.SPACE: space and space.instructions,
            InstructionsSource.PERSON: preferences.instructions,
        }
        chosen_texts = ((source, text) for source, text in written.items() if text)
        deployments = InstructionsSource.DEPLOYMENT, self.instructions
        source, instructions = next(chosen_texts, deployments)
        setup = Setup(
            offer=offer,
            instructions=instructions,
            source=source,
            preferences=preferences,
            missing_model=chosen[0] if chosen and chosen[0] != offer.info.name else None,
            space=space,
            facts=tuple(
                fact
                for fact in facts
                if thread
                and fact.holds_in(thread.conversation, space)
                and (preferences.keeps_facts or fact.is_placed)
            ),
        )
        most = setup.context_tokens // 2
        is_own = source is not InstructionsSource.DEPLOYMENT
        return replace(setup, is_too_long=is_own and self.counter.count(instructions) > most)

    def policies(self) -> tuple[MemoryPolicy, ...]:
        """Return the memory policies that a user can choose, with the user's window size or else the deployment's."""
        size = self.store.profile.preferences().window_messages or self.window_messages
        return tuple(kind(size) for kind in POLICIES.values())

    def policy_of(self, new: NewConversation, space: Space | None) -> MemoryPolicy:
        """Return the context policy of a new conversation: the one in *new*, else that of *space*, else the default."""
        chosen = new.policy, space and space.policy
        return next((each for each in chosen if each and each.is_known), self.usual_policy())

    def usual_policy(self) -> MemoryPolicy:
        """Return the default policy of new conversations: the one that the user prefers, else the deployment's."""
        offered = {policy.name: policy for policy in self.policies()}
        wished = self.store.profile.preferences().policy or self.first_policy
        return offered.get(wished.name) or offered[self.first_policy.name]

    def space(self, space_id: SpaceId | None) -> Space | None:
        """Return the user's space *space_id*; None if it does not exist, or cannot be read and is not cached."""
        with suppress(StoreUnavailable):
            return self.store.spaces.find(space_id) if space_id else None
        return None
