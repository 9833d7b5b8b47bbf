"""The menu of a conversation, and its title as a label or a field."""

from collections.abc import Callable
from functools import partial

import streamlit as st

from pages._parts import preferences, safe_md, scoped_facts, space_dialogs, undo, words
from pages._parts.elements import draw_field, menu
from pages._session import ask_for, find_person
from services.domain import Conversation, ConversationId

_EDITING = "editing-title"


def title(conversation: Conversation, limit: int = 60) -> str:
    """Return the title as a label."""
    if not conversation.is_verified:
        return "Unverified title"
    return safe_md.label(conversation.title or words.UNTITLED, limit)


def is_editing_title(conversation: Conversation, key: str) -> bool:
    """Return whether the title beside the menu *key* is a field."""
    edited: tuple[str, ConversationId] | None = st.session_state.get(_EDITING)
    return edited == (key, conversation.id)


def draw_title_field(conversation: Conversation) -> None:
    draw_field("title", conversation.title, 120, f"title-{conversation.id}", _rename, conversation)


def draw_menu(
    label: str,
    conversation: Conversation,
    key: str,
    *,
    can_move: bool,
    has_branches: bool = False,
) -> None:
    """Draw the menu of a conversation, beside its title or in the list. *can_move*: there are spaces; *has_branches*:
    there are other versions than those on the page."""
    actions = _actions(conversation, key, can_move=can_move, has_branches=has_branches)
    menu(label, actions, "more_horiz", key, lambda chosen: actions[chosen]())


def _actions(
    conversation: Conversation, key: str, *, can_move: bool, has_branches: bool
) -> dict[str, Callable[[], None]]:
    """Return the actions by their labels."""
    first, moves, branches, shelf = {}, {}, {}, words.UNARCHIVE
    if not conversation.is_archived:
        first = {"Unpin" if conversation.pinned_at else "Pin": partial(_pin, conversation)}
        shelf = words.ARCHIVE
    if can_move:
        moves = {words.MOVE: partial(ask_for, space_dialogs.move_dialog, conversation)}
    if has_branches:
        branches = {words.KEEP_BRANCH: partial(ask_for, undo.branches_dialog, conversation)}
    return {
        **first,
        words.RENAME: partial(_edit_title, conversation, key),
        words.INSTRUCTIONS: partial(ask_for, preferences.instructions_dialog, conversation),
        words.CHAT_NOTES: partial(ask_for, scoped_facts.dialog, conversation),
        **moves,
        **branches,
        shelf: partial(_archive, conversation),
        words.DELETE: partial(undo.discard, conversation),
    }


def _edit_title(conversation: Conversation, key: str) -> None:
    st.session_state[_EDITING] = key, conversation.id


def _rename(conversation: Conversation, title: str) -> None:
    find_person().store.conversations.rename(conversation.id, title)
    del st.session_state[_EDITING]


def _pin(conversation: Conversation) -> None:
    is_pinned = not conversation.pinned_at
    find_person().store.conversations.pin(conversation.id, is_pinned=is_pinned)
    st.toast(f"“{title(conversation)}” is {'pinned' if is_pinned else 'no longer pinned'}.")


def _archive(conversation: Conversation) -> None:
    is_archived = not conversation.is_archived
    find_person().store.conversations.archive(conversation.id, is_archived=is_archived)
    st.toast(f"“{title(conversation)}” is {'archived' if is_archived else 'back in the list'}.")
