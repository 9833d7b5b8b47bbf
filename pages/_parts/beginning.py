"""The choices of the conversation that the next prompt begins: of one fresh page in one tab, until it is left."""

from dataclasses import replace

import streamlit as st

from services.domain import MemoryPolicy, NewConversation, SpaceId
from services.domain.limits import checked_instructions

_CHOICES = "new-conversation"


def choices(space_id: SpaceId | None = None) -> NewConversation:
    """Return what was chosen on the fresh page, which is of the space *space_id* if one is chosen."""
    chosen: NewConversation = st.session_state.get(_CHOICES, NewConversation())
    return replace(chosen, space_id=space_id)


def choose_model(name: str) -> None:
    """Have the conversation begin with the model *name*."""
    st.session_state[_CHOICES] = replace(choices(), model=name)


def choose_policy(policy: MemoryPolicy) -> None:
    """Have the conversation begin with *policy*."""
    st.session_state[_CHOICES] = replace(choices(), policy=policy)


def instruct(text: str, _seen: str) -> None:
    """Have the conversation begin with the instructions *text*; empty ones: those that hold without its own.

    Raise BadInput. No other tab could have changed what was seen.
    """
    st.session_state[_CHOICES] = replace(choices(), instructions=checked_instructions(text))


def forget() -> None:
    """Drop the choices: they are stored with a conversation now, or their page is left."""
    st.session_state.pop(_CHOICES, None)
