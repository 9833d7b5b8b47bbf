"""What can be done with a conversation, at once or in a dialog.

A dialog is asked for by a callback and opened by the page, which then follows no reply: while a run
lasts, nothing in a dialog is heard.
"""

import streamlit as st

from pages._parts import (
    deleting,
    inspector,
    models,
    preferences,
    regenerating,
    rename,
    safe_md,
    scoped_facts,
    space_dialogs,
    summary,
    undo,
    words,
)
from pages._session import ask_for, find_person, keep_errors
from services.domain import Conversation, Space


def title(conversation: Conversation, limit: int = 60) -> str:
    """The title as a label."""
    if not conversation.is_verified:
        return "Unverified title"
    return safe_md.label(conversation.title or words.UNTITLED, limit)


def draw_menu(
    label: str,
    conversation: Conversation,
    key: str,
    *,
    can_move: bool,
    has_branches: bool = False,
) -> None:
    """Draw the menu of a conversation, beside its title or in the list. *can_move*: there are spaces; *has_branches*:
    one of several is read."""
    st.menu_button(
        label,
        _choices(conversation, can_move=can_move, has_branches=has_branches),
        key=key,
        type="tertiary",
        icon=":material/more_horiz:",
        on_click=_choose,
        args=[conversation, key],
    )


def open_asked() -> bool:
    """Say what the last one left to be said, and open the one that was asked for. Say whether there was one."""
    if news := st.session_state.pop("news", None):
        st.toast(news)
    match st.session_state.pop("dialog", None):
        case None:
            return False
        case words.INSTRUCTIONS, Conversation() | None as conversation:
            preferences.instructions_dialog(conversation)
        case words.CHAT_NOTES, Conversation() as conversation:
            scoped_facts.dialog(conversation)
        case words.MOVE, Conversation() as conversation:
            space_dialogs.move_dialog(conversation)
        case words.NEW_SPACE, Space() as space:
            space_dialogs.new_space_dialog(space)
        case words.EDIT_SPACE, Space() as space:
            space_dialogs.space_dialog(space)
        case words.SUMMARY, conversation_id:
            summary.dialog(conversation_id)
        case words.CONTEXT_USED, (conversation_id, reply_id):
            inspector.seen_dialog(conversation_id, reply_id)
        case words.CONNECT, None:
            models.connect_dialog()
        case words.REGENERATE_WITH, (conversation_id, message_id):
            regenerating.dialog(conversation_id, message_id)
        case words.DELETE_MESSAGES, (conversation_id, message_id):
            deleting.messages_dialog(conversation_id, message_id)
        case words.KEEP_BRANCH, Conversation() as conversation:
            deleting.branches_dialog(conversation)
        case words.NEXT_REQUEST, conversation_id:
            inspector.next_dialog(conversation_id)
        case _:
            preferences.preferences_dialog()
    return True


def _choices(conversation: Conversation, *, can_move: bool, has_branches: bool) -> list[str]:
    impossible = {words.MOVE: not can_move, words.KEEP_BRANCH: not has_branches}
    asked = [each for each in _DIALOGS if not impossible.get(each)]
    if conversation.is_archived:
        return [words.RENAME, *asked, words.UNARCHIVE, words.DELETE]
    pin = "Unpin" if conversation.pinned_at else "Pin"
    return [pin, words.RENAME, *asked, words.ARCHIVE, words.DELETE]


def _choose(conversation: Conversation, key: str) -> None:
    chosen = str(st.session_state[key])
    if chosen == words.RENAME:
        rename.ask(conversation, key)
    elif chosen in _DIALOGS:
        ask_for(chosen, conversation)
    else:
        with keep_errors():
            _do(chosen, conversation)


def _do(chosen: str, conversation: Conversation) -> None:
    if chosen == words.DELETE:
        undo.discard(conversation)
        return
    kept, is_wanted = find_person().store.conversations, chosen in ("Pin", words.ARCHIVE)
    if chosen in ("Pin", "Unpin"):
        kept.pin(conversation.id, is_pinned=is_wanted)
    else:
        kept.archive(conversation.id, is_archived=is_wanted)
    st.toast(f"“{title(conversation)}” {_DONE[chosen]}.")


_DIALOGS = words.INSTRUCTIONS, words.CHAT_NOTES, words.MOVE, words.KEEP_BRANCH
_DONE = {
    "Pin": "is pinned",
    "Unpin": "is no longer pinned",
    words.ARCHIVE: "is archived",
    words.UNARCHIVE: "is back in the list",
}
