"""Renaming a conversation where its title stands, in the list or above its messages."""

import streamlit as st

from pages._parts.elements import draw_field
from pages._session import find_person, keep_errors
from services.domain import Conversation, ConversationId

_ASKED = "editing-title"


def ask(conversation: Conversation, place: str) -> None:
    """Have the title be a field at *place*, the key of the menu beside it. A callback's."""
    st.session_state[_ASKED] = place, conversation.id


def is_asked(conversation: Conversation, place: str) -> bool:
    """Whether the title is a field at *place*."""
    asked: tuple[str, ConversationId] | None = st.session_state.get(_ASKED)
    return asked == (place, conversation.id)


def draw_title_field(conversation: Conversation) -> None:
    """The title to be written anew."""
    key = f"title-{conversation.id}"
    draw_field("title", conversation.title, 120, key, _save, conversation)


def _save(conversation: Conversation, key: str) -> None:
    with keep_errors():
        find_person().store.conversations.rename(conversation.id, st.session_state[key])
        del st.session_state[_ASKED]
