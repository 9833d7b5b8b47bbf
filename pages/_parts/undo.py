"""Deleting a conversation, messages, a fact or a summary, and Undo for 20 seconds.

Deleted data disappears from every page at once. A conversation and messages are destroyed after the 20 seconds; a fact
and a summary at once, so that only the tab can restore them.
"""

import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from html import escape
from uuid import UUID, uuid4

import streamlit as st

from pages._parts import turns, words
from pages._parts.elements import quiet_button, right_row, row
from pages._parts.temporary import is_held, services_of
from pages._session import find_person, go_to_conversation, show_errors
from services.domain import (
    Conversation,
    ConversationId,
    Fact,
    Message,
    MessageId,
    RunningSummary,
    Thread,
)
from services.domain.memories import DeletedMemories
from services.errors import Stale, StoreUnavailable

_SECONDS = 20  # assets/style.css shows the line as long


@dataclass(frozen=True, slots=True, kw_only=True)
class _Deletion:
    """A deletion that can be undone until *until*."""

    id: UUID
    name: str = field(repr=False)
    restore: Callable[[], None] = field(repr=False)
    until: float
    count: int = 0  # of messages
    memories: tuple[DeletedMemories, ...] = field(default=(), repr=False)


# --- dialogs ------------------------------------------------------------------------------------------


@st.dialog(words.DELETE_MESSAGES, width="small", on_dismiss="rerun")
def messages_dialog(conversation_id: ConversationId, message_id: MessageId) -> None:
    """Delete a prompt and all messages that follow it."""
    with show_errors():
        thread = services_of(conversation_id).store.conversations.thread(conversation_id)
        doomed = thread.from_on(message_id)
        if not doomed:
            raise Stale
        is_all = len(doomed) == len(thread.messages) and not is_held(conversation_id)
        if is_all:
            st.markdown("This is the whole chat: the chat will be deleted.")
        else:
            others = len(thread.versions(doomed[0])) > 1
            rest = " Other versions of this message stay." if others else ""
            _draw_count(thread, doomed, f"this message and everything after it.{rest}")
        if _is_confirmed(thread, doomed):
            if is_all:
                discard(thread.conversation)
            else:
                _delete_messages(thread, doomed)
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
        _draw_count(thread, doomed, "all other versions and what follows them.")
        if _is_confirmed(thread, doomed):
            _delete_messages(thread, doomed)
            st.rerun()


def _draw_count(thread: Thread, doomed: Sequence[Message], which: str) -> None:
    count = words.count(thread.count(doomed), "message")
    st.markdown(f"**{count}** will be deleted: {which}")


def _is_confirmed(thread: Thread, doomed: Sequence[Message]) -> bool:
    """Draw the buttons; return whether Delete was pressed."""
    st.caption(
        "Memories noted from them and a summary of them are deleted too. You can undo this for 20 seconds."
    )
    with right_row():
        if st.button(words.CANCEL, key="keep-messages"):
            st.rerun()
        label = f"Delete {words.count(thread.count(doomed), 'message')}"
        # the key holds the number: a confirmation of fewer messages does not count
        return st.button(label, type="primary", key=f"danger-delete-{len(doomed)}")


# --- deleting -----------------------------------------------------------------------------------------


def discard(conversation: Conversation) -> None:
    """Delete *conversation*. Raise what the chat raises."""
    find_person().chat.deletions.discard(conversation.id, _SECONDS)
    was_open = st.query_params.get("c") == str(conversation.id)
    name = f"“{conversation.title}”" if conversation.title else "a chat"
    _offer(conversation.id, name, partial(_restore_conversation, conversation.id, was_open))
    if was_open:
        go_to_conversation(None)


def forget(fact: Fact) -> None:
    """Delete *fact*. Raise StoreUnavailable."""
    facts = find_person().store.facts
    facts.forget(fact.id)
    _offer(fact.id, f"“{fact.text}”", lambda: find_person().store.facts.keep(fact))


def offer_summary(conversation_id: ConversationId, summary: RunningSummary) -> None:
    """Offer to restore a *summary* that was just deleted."""

    def restore() -> None:
        services_of(conversation_id).chat.memories.restore_summary(conversation_id, summary)

    _offer(uuid4(), "the summary", restore)


def _delete_messages(thread: Thread, doomed: Collection[Message]) -> None:
    conversation_id, first = thread.conversation.id, min(doomed, key=lambda each: each.seq)
    ids = {message.id for message in doomed}
    deleted = services_of(conversation_id).chat.deletions.delete_messages(
        conversation_id, ids, _SECONDS
    )
    before = next((one for one in _deletions() if one.id == conversation_id), None)
    count = thread.count(doomed) + (before.count if before else 0)
    memories = (*(before.memories if before else ()), deleted)
    restore = partial(_restore_messages, conversation_id, first.id, memories)
    name = words.count(count, "message")
    _offer(conversation_id, name, restore, count=count, memories=memories)


def _offer(
    deleted_id: UUID,
    name: str,
    restore: Callable[[], None],
    *,
    count: int = 0,
    memories: tuple[DeletedMemories, ...] = (),
) -> None:
    others = [one for one in _deletions() if one.id != deleted_id]
    deletion = _Deletion(
        id=deleted_id,
        name=name,
        restore=restore,
        until=time.monotonic() + _SECONDS,
        count=count,
        memories=memories,
    )
    _deletions()[:] = [deletion, *others]


# --- restoring ----------------------------------------------------------------------------------------


def draw() -> None:
    """Draw a line for each deletion that can be undone, above any page."""
    now = time.monotonic()
    _deletions()[:] = [one for one in _deletions() if one.until > now]
    with st.container(key="undo", gap="xsmall"):
        for one in _deletions():
            with row(f"undo-{one.id}", wrap=False):
                st.html(f'<p role="status">Deleted {escape(one.name)}</p>', width="stretch")
                quiet_button(words.UNDO, None, f"restore-{one.id}", _restore, one)


def draw_mark(thread: Thread) -> None:
    """Offer to restore messages of *thread* that another tab has just deleted."""
    conversation = thread.conversation
    is_ours = any(one.id == conversation.id for one in _deletions())
    if is_ours or not conversation.undo_until or not _can_restore_messages(conversation.id):
        return
    with row("deleted-elsewhere"):
        st.caption("Messages of this chat were just deleted.", width="content")
        args = conversation.id, None, ()
        quiet_button(words.UNDO, None, "restore-elsewhere", _restore_messages, *args)


def _restore(deletion: _Deletion) -> None:
    deletions = _deletions()
    if deletion not in deletions:  # a double click
        return
    deletions.remove(deletion)
    try:
        deletion.restore()
    except StoreUnavailable:
        deletions.append(deletion)
        deletions.sort(key=lambda each: each.until, reverse=True)
        raise


def _restore_conversation(conversation_id: ConversationId, was_open: bool) -> None:
    find_person().store.conversations.restore(conversation_id)
    if was_open:
        go_to_conversation(conversation_id)


def _can_restore_messages(conversation_id: ConversationId) -> bool:
    with suppress(StoreUnavailable):
        return find_person().store.messages.can_restore(conversation_id)
    return False


def _restore_messages(
    conversation_id: ConversationId, first: MessageId | None, memories: Sequence[DeletedMemories]
) -> None:
    services_of(conversation_id).chat.deletions.restore_messages(conversation_id, memories)
    if is_held(conversation_id) or st.query_params.get("c") == str(conversation_id):
        turns.show(conversation_id, first)


def _deletions() -> list[_Deletion]:
    return st.session_state.setdefault("deleted", [])
