"""Choices for the conversation that the next prompt begins: kept in the tab until the page of the new chat is left."""

from dataclasses import replace

from pages._tab import tab
from services.domain import MemoryPolicy, NewConversation, SpaceId
from services.domain.limits import checked_instructions


def choices(space_id: SpaceId | None = None) -> NewConversation:
    """Return the choices made on the page of the new chat; *space_id*: the open space."""
    return replace(tab().new, space_id=space_id)


def choose_model(name: str) -> None:
    tab().new = replace(choices(), model=name)


def choose_policy(policy: MemoryPolicy) -> None:
    tab().new = replace(choices(), policy=policy)


def instructions() -> str | None:
    return choices().instructions


def set_instructions(text: str, _seen: str) -> None:
    """Begin the new conversation with the instructions *text*; empty: with none of its own. Raise BadInput."""
    tab().new = replace(choices(), instructions=checked_instructions(text))


def forget() -> None:
    """Drop the choices, which were stored with a conversation, or whose page was left."""
    tab().new = NewConversation()
