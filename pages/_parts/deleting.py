"""The dialogs that ask before messages of a conversation are deleted."""

from collections.abc import Sequence

import streamlit as st

from pages._parts import turns, undo, words
from pages._parts.temporary import is_held, services_of
from pages._session import show_errors
from services.domain import Conversation, ConversationId, Message, MessageId, Thread
from services.errors import Stale


@st.dialog(words.DELETE_MESSAGES, width="small", on_dismiss="rerun")
def messages_dialog(conversation_id: ConversationId, message_id: MessageId) -> None:
    """Delete a prompt with all that follows it."""
    with show_errors():
        services = services_of(conversation_id)
        thread = services.store.conversations.thread(conversation_id)
        doomed = thread.from_on(message_id)
        if not doomed:
            raise Stale
        is_all = len(doomed) == len(thread.messages) and not is_held(conversation_id)
        if is_all:
            st.markdown("This is the whole chat: the chat will be deleted.")
        else:
            others = len(thread.versions(doomed[0])) > 1
            rest = " Other versions of this message stay." if others else ""
            st.markdown(f"{_going(thread, doomed)}: this message and everything after it.{rest}")
        if _is_agreed(thread, doomed):
            if is_all:
                undo.discard(thread.conversation)
            else:
                undo.delete_messages(thread, doomed)
                turns.show(conversation_id, doomed[0].parent_id)
            st.rerun()


@st.dialog(words.KEEP_BRANCH, width="small", on_dismiss="rerun")
def branches_dialog(conversation: Conversation) -> None:
    """Delete all versions that are not on the branch that is read."""
    with show_errors():
        thread = services_of(conversation.id).store.conversations.thread(conversation.id)
        chosen = turns.chosen_version(conversation.id)
        thread = thread.through(chosen) if chosen else thread
        doomed = thread.off_branch()
        if not doomed:
            st.markdown("There are no other versions.")
            return
        st.markdown(f"{_going(thread, doomed)}: all other versions and what follows them.")
        if _is_agreed(thread, doomed):
            undo.delete_messages(thread, doomed)
            st.rerun()


def _going(thread: Thread, doomed: Sequence[Message]) -> str:
    count = thread.count(doomed)
    return f"**{words.count(count, 'message')}** will be deleted"


def _is_agreed(thread: Thread, doomed: Sequence[Message]) -> bool:
    """Draw the buttons; return whether the one that deletes was pressed."""
    st.caption(
        "Memories noted from them and a summary of them are deleted too. You can undo this for 20 seconds."
    )
    with st.container(horizontal=True, horizontal_alignment="right"):
        if st.button(words.CANCEL, key="keep-messages"):
            st.rerun()
        label = f"Delete {words.count(thread.count(doomed), 'message')}"
        # by another key for another number: who agreed to fewer is asked again
        return st.button(label, type="primary", key=f"danger-delete-{len(doomed)}")
