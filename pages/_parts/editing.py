"""Editing a message in its place."""

import streamlit as st

from pages._parts import temporary, turns, words
from pages._session import keep_errors
from services.domain import ConversationId, Message, Role


def is_asked(message: Message) -> bool:
    """Return whether *message* is being edited."""
    return st.session_state.get(turns.EDITED) == message.id


def draw_field(conversation_id: ConversationId, message: Message) -> None:
    """Draw *message* as a field. `assets/page/edit.js` hears Escape; a text that is refused stays in it."""
    key, is_prompt = f"text-of-{message.id}", message.role is Role.USER
    with (
        st.container(key="edit-prompt" if is_prompt else "edit-reply"),
        st.form("message", border=False),
    ):
        st.text_area(
            "Edit message" if is_prompt else "Edit reply",
            message.body,
            height="content",
            key=key,
            label_visibility="collapsed",
        )
        if not is_prompt:
            st.caption("Saved as a new version. Later messages stay with the version before.")
        with st.container(horizontal=True, horizontal_alignment="right"):
            st.form_submit_button(
                "Send" if is_prompt else words.SAVE,
                type="primary",
                key="send-message",
                on_click=_take,
                args=[conversation_id, message, key],
            )
            st.form_submit_button(words.CANCEL, key="leave-message", on_click=_leave)


def _take(conversation_id: ConversationId, message: Message, key: str) -> None:
    with keep_errors():
        chat = temporary.services_of(conversation_id).chat
        edit = chat.edit_prompt if message.role is Role.USER else chat.edit_reply
        edit(conversation_id, message.id, str(st.session_state[key]))
        _leave()
        turns.show_newest()


def _leave() -> None:
    st.session_state.pop(turns.EDITED, None)
