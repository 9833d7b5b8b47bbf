"""What can be done with a conversation, at once or, renaming it, in a dialog.

A dialog is asked for by a callback and opened by the page, which then follows no reply: while a run
lasts, nothing in a dialog is heard.
"""

import streamlit as st

from pages._parts import preferences, safe_md, undo
from pages._session import find_person, keep_errors, person_services
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
        _choices(conversation),
        key=key,
        type="tertiary",
        icon=":material/more_horiz:",
        on_click=_choose,
        args=[conversation, key],
    )


def open_asked() -> bool:
    """Open the dialog that was asked for. Say whether there was one."""
    asked: tuple[str, Conversation | None] | None = st.session_state.pop("dialog", None)
    if asked is None:
        return False
    name, conversation = asked
    if conversation:
        _DIALOGS[name](conversation)
    else:
        preferences.preferences_dialog()
    return True


def ask_for_preferences() -> None:
    """Have the page open what holds for all conversations. A callback."""
    st.session_state.dialog = "Preferences", None


def ask_for_instructions(conversation: Conversation) -> None:
    """Have the page open what the model is told in *conversation*. A callback."""
    st.session_state.dialog = "Instructions", conversation


def _choices(conversation: Conversation) -> list[str]:
    if conversation.is_archived:
        return ["Rename", "Instructions", "Unarchive", "Delete"]
    pin = "Unpin" if conversation.pinned_at else "Pin"
    return [pin, "Rename", "Instructions", "Archive", "Delete"]


def _choose(conversation: Conversation, key: str) -> None:
    chosen = str(st.session_state[key])
    if chosen in _DIALOGS:
        st.session_state.dialog = chosen, conversation
        return
    with keep_errors():
        _do(chosen, conversation)


def _do(chosen: str, conversation: Conversation) -> None:
    if chosen == "Delete":
        undo.discard(conversation)
        return
    kept, is_wanted = find_person().conversations, chosen in ("Pin", "Archive")
    if chosen in ("Pin", "Unpin"):
        kept.pin(conversation.id, is_pinned=is_wanted)
    else:
        kept.archive(conversation.id, is_archived=is_wanted)
    st.toast(f"“{title(conversation)}” {_DONE[chosen]}.")


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


def _save_title(conversation: Conversation, key: str) -> None:
    with keep_errors():
        find_person().conversations.rename(conversation.id, st.session_state[key])


_DIALOGS = {"Rename": _rename, "Instructions": preferences.instructions_dialog}
_DONE = {
    "Pin": "is pinned",
    "Unpin": "is no longer pinned",
    "Archive": "is archived",
    "Unarchive": "is back in the list",
}
