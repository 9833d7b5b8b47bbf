"""Editing a message in its place."""

import streamlit as st

from pages._parts import temporary, turns
from pages._session import keep_errors
from services.domain import ConversationId, Message


def is_asked(message: Message) -> bool:
    """Whether *message* is a field."""
    return st.session_state.get(turns.EDITED) == message.id


def draw_field(conversation_id: ConversationId, message: Message) -> None:
    """Draw *message* as a field. `assets/page/edit.js` hears Escape; a text that is refused stays in it."""
    key = f"text-of-{message.id}"
    with st.container(key="edit-message"), st.form("message", border=False):
        st.text_area(
            "Edit prompt",
            message.body,
            height="content",
            key=key,
            label_visibility="collapsed",
        )
        with st.container(horizontal=True, horizontal_alignment="right"):
            st.form_submit_button(
                "Send",
                type="primary",
                key="send-message",
                on_click=_send,
                args=[conversation_id, message, key],
            )
            st.form_submit_button("Cancel", key="leave-message", on_click=_leave)


def _send(conversation_id: ConversationId, message: Message, key: str) -> None:
    with keep_errors():
        chat = temporary.find_desk(conversation_id).chat
        chat.edit_prompt(conversation_id, message.id, str(st.session_state[key]))
        _leave()
        turns.show_newest()


def _leave() -> None:
    st.session_state.pop(turns.EDITED, None)
