"""Renaming a conversation where its title stands, in the list or above its messages."""

import streamlit as st

from pages._session import find_person, keep_errors
from services.domain import Conversation, ConversationId


def ask(conversation: Conversation, place: str) -> None:
    """Have the title be a field at *place*, the key of the menu beside it. A callback's."""
    st.session_state.renaming = place, conversation.id


def is_asked(conversation: Conversation, place: str) -> bool:
    """Whether the title is a field at *place*."""
    asked: tuple[str, ConversationId] | None = st.session_state.get("renaming")
    return asked == (place, conversation.id)


def draw_field(conversation: Conversation) -> None:
    """The title to be written anew: Enter or leaving the field saves it, Escape leaves it as it was."""
    key = f"title-{conversation.id}"
    with st.container(
        horizontal=True,
        vertical_alignment="center",
        gap=None,
        wrap=False,
        width="stretch",
        key="renaming",
    ):
        st.text_input(
            "Title",
            conversation.title,
            max_chars=120,
            label_visibility="collapsed",
            key=key,
            on_change=_save,
            args=[conversation, key],
        )
        st.button(
            "Leave the title as it is",
            icon=":material/close:",
            type="tertiary",
            key="leave-title",
            on_click=_close,
        )


def _save(conversation: Conversation, key: str) -> None:
    with keep_errors():
        find_person().conversations.rename(conversation.id, st.session_state[key])
        _close()


def _close() -> None:
    st.session_state.pop("renaming", None)
