"""Choices for the conversation that the next prompt begins: kept in the tab until the fresh page is left."""

from dataclasses import replace

import streamlit as st

from services.domain import MemoryPolicy, NewConversation, SpaceId
from services.domain.limits import checked_instructions

_KEY = "new-conversation"


def choices(space_id: SpaceId | None = None) -> NewConversation:
    """Return the choices made on the fresh page; *space_id*: the space that is open."""
    chosen: NewConversation = st.session_state.get(_KEY, NewConversation())
    return replace(chosen, space_id=space_id)


def choose_model(name: str) -> None:
    st.session_state[_KEY] = replace(choices(), model=name)


def choose_policy(policy: MemoryPolicy) -> None:
    st.session_state[_KEY] = replace(choices(), policy=policy)


def instructions() -> str | None:
    return choices().instructions


def set_instructions(text: str, _seen: str) -> None:
    """Begin the conversation with the instructions *text*; empty: with none of its own. Raise BadInput."""
    st.session_state[_KEY] = replace(choices(), instructions=checked_instructions(text))


def forget() -> None:
    """Drop the choices: they are stored with a conversation now, or their page was left."""
    st.session_state.pop(_KEY, None)
