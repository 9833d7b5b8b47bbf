"""Deletion of conversations, messages and facts, and the bar at the bottom left: what was done, with Undo.

Undo is offered for 20 seconds. Deleted data disappears from all pages immediately. Conversations and messages are
destroyed after these 20 seconds; facts and summaries are destroyed immediately, so only the tab that deleted them can
restore them.
"""

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from html import escape
from uuid import UUID, uuid4, uuid5

import streamlit as st

from pages._parts import editing, temporary, turns, words
from pages._parts.elements import quiet_button, row
from pages._parts.temporary import is_held, services_of
from pages._session import find_user, go_to_conversation, run_to_end, show_errors
from pages._tab import BarLine, tab
from services.bootstrap import TemporaryChat
from services.domain import (
    Conversation,
    ConversationId,
    Fact,
    Message,
    MessageId,
    RunningSummary,
    SpaceId,
    Thread,
)
from services.domain.memories import DeletedMemories
from services.errors import NotFound, Stale, StoreUnavailable, TooLate

_UNUSED = "Unused chats"
_MOST_CHATS = 20_000


# --- dialogs ------------------------------------------------------------------------------------------


@st.dialog(words.DELETE_MESSAGES, width="small", on_dismiss="rerun")
@show_errors()
def messages_dialog(conversation_id: ConversationId, message_id: MessageId) -> None:
    """Delete a prompt and all messages that follow it, after a confirmation."""
    thread = services_of(conversation_id).chat.open(conversation_id)
    doomed = thread.from_on(message_id)
    if not doomed:
        raise Stale
    is_all = len(doomed) == len(thread.messages) and not is_held(conversation_id)
    chosen = turns.chosen_version()
    branch = (thread.through(chosen) if chosen else thread).branch()
    ids = {message.id for message in doomed}
    count = sum(message.id in ids for message in branch)
    what = "**{}** will be deleted: this message and everything after it."
    if thread.count(doomed) > count:
        what += " Other versions of later messages are deleted too."
    if len(thread.versions(doomed[0])) > 1:
        what += " Other versions of this message are kept."
    if is_all:
        what = "This is the whole chat: the chat will be deleted."
    if _is_confirmed(count, doomed, what):
        with run_to_end():
            if is_all:
                discard(thread.conversation, doomed)
            else:
                _delete_messages(thread, doomed, count)
                turns.show(doomed[0].parent_id)
        st.rerun()


@st.dialog(words.KEEP_BRANCH, width="small", on_dismiss="rerun")
@show_errors()
def branches_dialog(conversation: Conversation) -> None:
    """Delete all messages that are not on the branch on screen, after a confirmation."""
    thread = services_of(conversation.id).chat.open(conversation.id)
    chosen = turns.chosen_version()
    thread = thread.through(chosen) if chosen else thread
    doomed = thread.off_branch()
    if not doomed:
        st.markdown("There are no other versions.")
        return
    what = "**{}** will be deleted: all other versions and what follows them."
    count = thread.count(doomed)
    if _is_confirmed(count, doomed, what):
        with run_to_end():
            _delete_messages(thread, doomed, count)
        st.rerun()


@st.dialog(words.DELETE_CHATS, width="small", on_dismiss="rerun")
@show_errors()
def chats_dialog() -> None:
    """Delete all conversations, or those not used for a number of days, after a confirmation."""
    recent = find_user().conversations.recent
    doomed = [*recent(_MOST_CHATS), *recent(_MOST_CHATS, is_archived=True)]
    if st.radio(words.DELETE, [_UNUSED, words.ALL_CHATS], key="which-chats") == _UNUSED:
        days = st.number_input("Unused for (days)", 1, 3650, 90, key="unused-days")
        since = datetime.now(UTC) - timedelta(days=days)
        doomed = [one for one in doomed if one.updated_at < since]
    if not doomed:
        st.markdown("No chats match.")
        return
    count = words.count(len(doomed), "chat")
    st.markdown(
        f"**{count}** will be deleted, archived ones too. You can undo this for 20 seconds."
    )
    if editing.is_confirmed(f"Delete {count}", f"delete-{len(doomed)}"):
        with st.spinner("Deleting…"), run_to_end():
            discard_all(doomed)
        st.rerun()


def _is_confirmed(shown: int, doomed: Sequence[Message], what: str) -> bool:
    """Draw the sentence *what*, with *shown* in place of `{}`, and the buttons; return True if Delete was pressed."""
    count = words.count(shown, "message")
    st.markdown(what.format(count))
    st.caption(
        "Memories and the summary based on them are deleted too. You can undo this for 20 seconds."
    )
    # the key contains the count, so a press is ignored if it was made when the number was different
    return editing.is_confirmed(f"Delete {count}", f"delete-{len(doomed)}")


# --- deleting -----------------------------------------------------------------------------------------


def discard(conversation: Conversation, noted_from: Collection[Message] = ()) -> None:
    """Delete *conversation* and the facts noted from the messages *noted_from*, and offer to restore them.

    Raise AppError if the conversation cannot be deleted.
    """
    ids = [message.id for message in noted_from]
    memories = find_user().deletions.discard(conversation.id, facts_of=ids)
    was_open = st.query_params.get("c") == str(conversation.id)

    def restore() -> None:
        user = find_user()
        _restore_chats([conversation.id])
        if memories.facts:
            user.deletions.restore_facts(conversation.id, memories.facts)
        if was_open:
            go_to_conversation(conversation.id)

    name = f"“{conversation.title}”" if conversation.title else "a chat"
    tab().add_line(BarLine(conversation.id, f"Deleted {name}", restore))
    if was_open:
        go_to_conversation(None)


def discard_all(conversations: Sequence[Conversation]) -> None:
    """Delete *conversations*, and offer to restore them together. Raise AppError if they cannot be deleted."""
    deleted: list[ConversationId] = []

    try:
        for conversation_id in find_user().deletions.discard_all([one.id for one in conversations]):
            deleted.append(conversation_id)
    finally:  # even after an error, the conversations that were deleted can be restored
        if deleted:
            restore = partial(_restore_chats, deleted)
            tab().add_line(
                BarLine(uuid4(), f"Deleted {words.count(len(deleted), 'chat')}", restore)
            )


def delete_fact(fact: Fact) -> None:
    """Delete *fact*, and offer to restore it. Raise StoreUnavailable."""
    find_user().facts.forget(fact.id)
    scope = fact.conversation_id, fact.space_id
    tab().add_line(
        BarLine(fact.id, f"Deleted “{fact.text}”", lambda: find_user().facts.keep(fact), scope)
    )


def offer_summary(conversation_id: ConversationId, summary: RunningSummary, sentence: str) -> None:
    """Show *sentence*, which says that *summary* was deleted, with an Undo that restores it."""

    def restore() -> None:
        services_of(conversation_id).deletions.restore_summary(conversation_id, summary)

    offer(conversation_id, "summary", sentence, restore)


def _delete_messages(thread: Thread, doomed: Collection[Message], count: int) -> None:
    """Delete *doomed*; *count*: the number of deleted messages that the page shows.

    One Undo restores all recent deletions in the conversation.
    """
    conversation_id, first = thread.conversation.id, min(doomed, key=lambda each: each.seq)
    ids = {message.id for message in doomed}
    deletions = services_of(conversation_id).deletions
    memories = (deletions.delete_messages(conversation_id, ids),)
    for before in tab().bar:
        if before.id == conversation_id:
            count, memories = before.count + count, (*before.memories, *memories)
    sentence = f"Deleted {words.count(count, 'message')}"
    restore = partial(_restore_messages, conversation_id, first.id, memories)
    tab().add_line(BarLine(conversation_id, sentence, restore, count=count, memories=memories))


def offer(document_id: UUID, act: str, sentence: str, restore: Callable[[], None]) -> None:
    """Show *sentence* with Undo, which calls *restore*. A later offer for the same document and *act* replaces this offer."""
    tab().add_line(BarLine(uuid5(document_id, act), sentence, restore, document_id=document_id))


def offer_temporary(left: TemporaryChat) -> None:
    """Offer to go back to *left*, a temporary chat that the user has just left."""

    def restore() -> None:
        if other := temporary.bring_back(left):
            offer_temporary(other)

    tab().add_line(BarLine(left.id, "Left the temporary chat: it will be deleted", restore))


# --- restoring ----------------------------------------------------------------------------------------


def draw() -> None:
    """Draw the bar: a line for the newest outcome, and one for each action that can be undone. Called on every page.

    The stylesheet shows the newest line with Undo; once that action is undone, the line of the action before it.
    """
    tab().drop_ended_lines()
    undoable = [line for line in tab().bar if line.restore]
    with st.container(key="undo", gap="xsmall"):
        for line in tab().bar:
            others = len(undoable) - 1 if undoable[:1] == [line] else 0
            _draw_line(line, "undo" if line.restore else "undo-news", "restore", others)


def draw_facts(conversation_id: ConversationId | None, space_id: SpaceId | None) -> None:
    """Draw a line for each deleted fact of a chat or space. Dialogs call this, because the page behind them is not redrawn."""
    for line in tab().bar:
        if line.scope == (conversation_id, space_id):
            _draw_line(line, "undo-fact", "restore-fact")


def _draw_line(line: BarLine, key: str, button_key: str, others: int = 0) -> None:
    """Draw *line*, with Undo if it can be undone; *others*: the number of actions that can be undone after it."""
    more = f" <small>{words.number(others)} more</small>" if others else ""
    # each line has its own key: with the same key, the browser would continue the animation that hides the older line
    with row(f"{key}-{line.id}-{line.until}", wrap=False):
        st.html(f'<p role="status">{escape(line.sentence)}{more}</p>', width="stretch")
        if line.restore:
            # not *line* itself: the page keeps the button's arguments, and with them the deleted text, until it is drawn again
            quiet_button(words.UNDO, None, f"{button_key}-{line.id}", _restore, line.id)


def draw_mark(thread: Thread) -> None:
    """Offer to restore messages of *thread* that another tab has just deleted."""
    conversation_id = thread.conversation.id
    is_ours = any(line.id == conversation_id for line in tab().bar)
    if is_ours or not thread.conversation.undo_until:
        return
    with suppress(StoreUnavailable):
        if services_of(conversation_id).messages.can_restore(conversation_id):
            with row("deleted-elsewhere"):
                st.caption("Messages of this chat were just deleted.", width="content")
                args = _restore_messages, conversation_id, None, ()
                quiet_button(words.UNDO, None, "restore-elsewhere", *args)


def _restore(line_id: UUID) -> None:
    # none after the first of two quick clicks, or when the time for it was up
    for line in [line for line in tab().bar if line.id == line_id]:
        if line.restore:
            line.restore()
        # not `remove`: another run may have removed the line meanwhile, because its time was up
        tab().bar[:] = [other for other in tab().bar if other is not line]


def _restore_chats(ids: Collection[ConversationId]) -> None:
    """Restore those of the conversations *ids* that can be restored. Raise TooLate if none can."""
    conversations, late = find_user().conversations, 0
    for conversation_id in ids:
        try:
            conversations.restore(conversation_id)
        except NotFound:
            late += 1
    if late == len(ids):
        raise TooLate


def _restore_messages(
    conversation_id: ConversationId, first: MessageId | None, memories: Sequence[DeletedMemories]
) -> None:
    services_of(conversation_id).deletions.restore_messages(conversation_id, memories)
    if is_held(conversation_id) or st.query_params.get("c") == str(conversation_id):
        turns.show(first)
