"""Renaming and deleting a conversation, each after a word.

A dialog is asked for by a callback and opened by the page, which then follows no reply: while a run
lasts, nothing in a dialog is heard.
"""

from collections.abc import Callable

import streamlit as st

from pages._parts import safe_md
from pages._session import person_services, show_errors
from services.domain import Conversation

CHAT = "pages/chat.py"


def title(conversation: Conversation, limit: int = 60) -> str:
    """The title as a label."""
    if not conversation.is_verified:
        return "A title that could not be verified"
    return safe_md.label(conversation.title or "Untitled", limit)


def ask_for(dialog: Callable[[Conversation], None], conversation: Conversation) -> None:
    """Have *dialog* opened in the run that follows. For callbacks."""
    st.session_state.dialog = dialog, conversation


def open_asked() -> bool:
    """Open the dialog that was asked for. Say whether there was one."""
    asked: tuple[Callable[[Conversation], None], Conversation] | None
    asked = st.session_state.pop("dialog", None)
    if asked is None:
        return False
    dialog, conversation = asked
    dialog(conversation)
    return True


@st.dialog("Rename conversation", on_dismiss="rerun")
def rename(conversation: Conversation) -> None:
    person = person_services()
    with st.form("rename", border=False):
        new = st.text_input("Title", conversation.title, max_chars=120, required=True)
        with st.container(horizontal=True, horizontal_alignment="right", gap="small"):
            is_kept = st.form_submit_button("Cancel", type="tertiary")
            is_wanted = st.form_submit_button("Save", type="primary")
    if is_wanted:
        with show_errors():
            person.conversations.rename(conversation.id, new or "")
            st.rerun()
    if is_kept:
        st.rerun()


@st.dialog("Delete this conversation?", on_dismiss="rerun")
def delete(conversation: Conversation) -> None:
    person = person_services()
    st.markdown(
        f"**{title(conversation, limit=120)}** and its key are destroyed at once. "
        "No copy stays behind, and it cannot be undone."
    )
    with st.container(horizontal=True, horizontal_alignment="right", gap="small"):
        is_kept = st.button("Keep it", type="tertiary", key="keep")
        is_wanted = st.button("Delete for ever", type="primary", key="danger-delete")
    if is_wanted:
        with show_errors():
            person.chat.delete(conversation.id)
            if st.query_params.get("c") == str(conversation.id):
                st.switch_page(CHAT)
            st.rerun()
    if is_kept:
        st.rerun()
