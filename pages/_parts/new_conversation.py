"""The choices made for a new conversation, kept in the tab until the first prompt is sent or the page is left."""

from dataclasses import replace

from pages._tab import tab
from services.domain import MemoryPolicy, NewConversation, SpaceId
from services.domain.limits import checked_instructions, checked_message


def choices(space_id: SpaceId | None = None) -> NewConversation:
    """Return the choices made on the new-chat page; *space_id*: the open space."""
    return replace(tab().new, space_id=space_id)


def choose_model(name: str) -> None:
    tab().new = replace(choices(), model=name)


def choose_policy(policy: MemoryPolicy) -> None:
    tab().new = replace(choices(), policy=policy)


def instructions() -> str | None:
    return choices().instructions


def set_instructions(text: str, _seen: str) -> None:
    """Choose the instructions *text* for the new conversation; if empty, the defaults apply. Raise BadInput if too long."""
    tab().new = replace(choices(), instructions=checked_instructions(text))


def forget() -> None:
    """Drop the choices, after they were stored with a conversation, or when the page is left."""
    tab().new = NewConversation()
    tab().begun_here = tab().begun_here[0], ""


def note_begun(prompt: str) -> None:
    """Note that this tab began a saved conversation with *prompt*."""
    tab().begun_here = tab().begun_here[0] + 1, checked_message(prompt)
