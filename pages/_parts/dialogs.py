"""Renaming and deleting a conversation, each after a word.

A dialog is asked for by a callback and opened by the page, which then follows no reply: while a run
lasts, nothing in a dialog is heard.
"""

import streamlit as st

from pages._parts import safe_md
from pages._session import find_person, keep_errors, lead_to, person_services
from services.domain import Conversation


def title(conversation: Conversation, limit: int = 60) -> str:
    """The title as a label."""
    if not conversation.is_verified:
        return "A title that could not be verified"
    return safe_md.label(conversation.title or "Untitled", limit)


def draw_menu(label: str, conversation: Conversation, key: str) -> None:
    """What can be done with a conversation wherever its title stands."""
    st.menu_button(
        label,
        list(_DIALOGS),
        key=key,
        type="tertiary",
        icon=":material/more_horiz:",
        on_click=_ask_for,
        args=[conversation, key],
    )


def open_asked() -> bool:
    """Open the dialog that was asked for. Say whether there was one."""
    asked: tuple[str, Conversation] | None = st.session_state.pop("dialog", None)
    if asked is None:
        return False
    name, conversation = asked
    _DIALOGS[name](conversation)
    return True


def _ask_for(conversation: Conversation, key: str) -> None:
    st.session_state.dialog = st.session_state[key], conversation


@st.dialog("Rename conversation", on_dismiss="rerun")
def _rename(conversation: Conversation) -> None:
    person_services()
    key = f"title-{conversation.id}"
    with st.form("rename", border=False):
        st.text_input("Title", conversation.title, max_chars=120, required=True, key=key)
        # one button: Enter would press the first of two
        with st.container(horizontal=True, horizontal_alignment="right"):
            if st.form_submit_button(
                "Save", type="primary", on_click=_save_title, args=[conversation, key]
            ):
                st.rerun()


@st.dialog("Delete this conversation?", on_dismiss="rerun")
def _delete(conversation: Conversation) -> None:
    person_services()
    st.markdown(
        f"**{title(conversation, limit=120)}** and its key are destroyed at once. "
        "No copy stays behind, and it cannot be undone."
    )
    with st.container(horizontal=True, horizontal_alignment="right", gap="small"):
        is_kept = st.button("Keep it", type="tertiary", key="keep")
        is_gone = st.button(
            "Delete for ever",
            type="primary",
            key="danger-delete",
            on_click=_destroy,
            args=[conversation],
        )
    if is_kept or is_gone:
        st.rerun()


def _save_title(conversation: Conversation, key: str) -> None:
    with keep_errors():
        find_person().conversations.rename(conversation.id, st.session_state[key])


def _destroy(conversation: Conversation) -> None:
    with keep_errors():
        find_person().chat.delete(conversation.id)
        if st.query_params.get("c") == str(conversation.id):
            lead_to(None)


_DIALOGS = {"Rename": _rename, "Delete": _delete}
