"""Deleting a conversation, messages, a fact or a summary, and for a while the way back.

What was deleted is gone from every page at once. A conversation, and messages, are destroyed when their time is over; the
others at once, and the tab alone still knows them.
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
from pages._parts.elements import quiet_button, row
from pages._parts.temporary import is_held, services_of
from pages._session import find_person, go_to_conversation, keep_errors
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
from services.errors import StoreUnavailable

_SECONDS = 20  # for which the stylesheet, too, shows the line


@dataclass(frozen=True, slots=True)
class _Messages:
    """Deleted messages of a conversation: how many, and what was made of them."""

    count: int
    made: tuple[DeletedMemories, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Deleted:
    id: UUID
    name: str = field(repr=False)
    restore: Callable[[], None] = field(repr=False)
    until: float
    messages: _Messages | None = None


def discard(conversation: Conversation) -> None:
    """Delete *conversation*. A callback's: raises what the chat does."""
    find_person().chat.discard(conversation.id, _SECONDS)
    was_open = st.query_params.get("c") == str(conversation.id)
    name = f"“{conversation.title}”" if conversation.title else "a chat"
    _offer(conversation.id, name, partial(_restore_conversation, conversation.id, was_open))
    if was_open:
        go_to_conversation(None)


def delete_messages(thread: Thread, doomed: Collection[Message]) -> None:
    """Delete the messages *doomed* of *thread*. Raise what the chat does."""
    conversation_id, first = thread.conversation.id, min(doomed, key=lambda each: each.seq)
    ids = {message.id for message in doomed}
    made = services_of(conversation_id).chat.delete_messages(conversation_id, ids, _SECONDS)
    before = next((one.messages for one in _deleted() if one.id == conversation_id), None)
    count, others = (before.count, before.made) if before else (0, ())
    messages = _Messages(count + thread.count(doomed), (*others, made))
    restore = partial(_restore_messages, conversation_id, first.id, messages.made)
    _offer(conversation_id, words.count(messages.count, "message"), restore, messages)


def draw_mark(thread: Thread) -> None:
    """Offer to bring back what another tab has just deleted of *thread*."""
    conversation = thread.conversation
    is_ours = any(one.id == conversation.id for one in _deleted())
    if is_ours or not conversation.undo_until or not _can_restore_messages(conversation.id):
        return
    with row("deleted-elsewhere"):
        st.caption("Messages of this chat were just deleted.", width="content")
        args = conversation.id, None, ()
        quiet_button(words.UNDO, None, "restore-elsewhere", _bring_back_messages, *args)


def forget(fact: Fact) -> None:
    """Delete *fact*. A callback's. Raise StoreUnavailable."""
    find_person().store.facts.forget(fact.id)
    _offer(fact.id, f"“{fact.text}”", partial(_restore_fact, fact))


def offer_summary(conversation_id: ConversationId, summary: RunningSummary) -> None:
    """Offer to put back a *summary* that has just been deleted."""
    _offer(uuid4(), "the summary", partial(_restore_summary, conversation_id, summary))


def draw() -> None:
    """A line for each conversation that can still be brought back, above any page."""
    now = time.monotonic()
    _deleted()[:] = [one for one in _deleted() if one.until > now]
    with st.container(key="undo", gap="xsmall"):
        for one in _deleted():
            _draw_line(one)


def _offer(
    deleted_id: UUID, name: str, restore: Callable[[], None], messages: _Messages | None = None
) -> None:
    others = [one for one in _deleted() if one.id != deleted_id]
    deleted = _Deleted(deleted_id, name, restore, time.monotonic() + _SECONDS, messages)
    _deleted()[:] = [deleted, *others]


def _draw_line(one: _Deleted) -> None:
    with row(f"undo-{one.id}", wrap=False):
        st.html(f'<p role="status">Deleted {escape(one.name)}</p>', width="stretch")
        quiet_button(words.UNDO, None, f"restore-{one.id}", _restore, one)


def _restore(one: _Deleted) -> None:
    deleted = _deleted()
    if one not in deleted:  # a double click
        return
    deleted.remove(one)
    with keep_errors():
        try:
            one.restore()
        except StoreUnavailable:
            deleted.append(one)
            deleted.sort(key=lambda each: each.until, reverse=True)
            raise


def _restore_conversation(conversation_id: ConversationId, was_open: bool) -> None:
    find_person().store.conversations.restore(conversation_id)
    if was_open:
        go_to_conversation(conversation_id)


def _bring_back_messages(
    conversation_id: ConversationId, first: MessageId | None, made: Sequence[DeletedMemories]
) -> None:
    with keep_errors():
        _restore_messages(conversation_id, first, made)


def _can_restore_messages(conversation_id: ConversationId) -> bool:
    with suppress(StoreUnavailable):
        return find_person().store.messages.can_restore(conversation_id)
    return False


def _restore_messages(
    conversation_id: ConversationId, first: MessageId | None, made: Sequence[DeletedMemories]
) -> None:
    services_of(conversation_id).chat.restore_messages(conversation_id, made)
    if is_held(conversation_id) or st.query_params.get("c") == str(conversation_id):
        turns.show(conversation_id, first)


def _restore_fact(fact: Fact) -> None:
    find_person().store.facts.keep(fact)


def _restore_summary(conversation_id: ConversationId, summary: RunningSummary) -> None:
    services_of(conversation_id).chat.restore_summary(conversation_id, summary)


def _deleted() -> list[_Deleted]:
    return st.session_state.setdefault("deleted", [])
