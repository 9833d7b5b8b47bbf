"""The model and the instructions of a conversation: its own, its space's, its user's, the deployment's."""

from dataclasses import dataclass, field, replace

from services.domain import NewConversation, Preferences, Space, Thread
from services.domain.context import ContextBudget
from services.domain.models import InstructionsSource, ModelInfo
from services.llm import Models, Offer
from services.memory.tokens import TokenCounter

_LEAST_CONTEXT_TOKENS = 512
# A context holds at least so many replies of the length that its user chose: with fewer it holds nothing.
_LEAST_CONTEXT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """The model, instructions and preferences of the next turn."""

    offer: Offer
    instructions: str = field(repr=False)
    source: InstructionsSource = InstructionsSource.DEPLOYMENT  # of the instructions
    preferences: Preferences = field(default_factory=Preferences)
    missing_model: str | None = None  # was chosen, and is no longer offered
    is_too_long: bool = False  # the instructions leave too little room for what is said
    space: Space | None = None

    @property
    def info(self) -> ModelInfo:
        return self.offer.info

    @property
    def context_tokens(self) -> int:
        """The tokens that one call may use: the model's, or fewer by the user's choice."""
        wished = self.preferences.context_tokens or self.info.context_tokens
        replies = _LEAST_CONTEXT * (self.preferences.reply_tokens or 0)
        return min(self.info.context_tokens, max(wished, replies, _LEAST_CONTEXT_TOKENS))

    @property
    def reply_tokens(self) -> int:
        """The tokens that a reply may have: the model's, or fewer by the user's choice."""
        return min(self.info.reply_tokens, self.preferences.reply_tokens or self.info.reply_tokens)

    @property
    def budget(self) -> ContextBudget:
        return ContextBudget(self.context_tokens, self.reply_tokens)


def choose_setup(
    models: Models,
    deployment_instructions: str,
    preferences: Preferences,
    thread: Thread | None,
    counter: TokenCounter,
    new: NewConversation | None = None,
    space: Space | None = None,
) -> Setup:
    """Choose for *thread*, or for one that begins as *new*.

    A choice that is no longer offered is passed over. Instructions that a person wrote may take half of
    the context that is used: the deployment's own are its own affair.
    """
    own_model = thread.conversation.model if thread else new and new.model
    chosen = [name for name in (own_model, preferences.model) if name]
    offer = next((offer for name in chosen if (offer := models.named(name))), models.first)
    written = (
        (
            InstructionsSource.CONVERSATION,
            thread.instructions if thread else new and new.instructions,
        ),
        (InstructionsSource.SPACE, space.instructions if space else None),
        (InstructionsSource.PERSON, preferences.instructions),
    )
    source, own = next((each for each in written if each[1]), (InstructionsSource.DEPLOYMENT, None))
    setup = Setup(
        offer=offer,
        instructions=own or deployment_instructions,
        source=source,
        preferences=preferences,
        missing_model=chosen[0] if chosen and chosen[0] != offer.info.name else None,
        space=space,
    )
    is_too_long = own is not None and counter.count(own) > setup.context_tokens // 2
    return replace(setup, is_too_long=is_too_long)
