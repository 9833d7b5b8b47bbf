"""Deleting a conversation, a fact or a summary, and for a while the way back.

What was deleted is gone from every page at once. A conversation is destroyed when its time is over; the others at once,
and the tab alone still knows them.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from html import escape
from uuid import UUID, uuid4

import streamlit as st

from pages._parts import words
from pages._parts.elements import quiet_button, row
from pages._parts.temporary import find_desk
from pages._session import find_person, keep_errors, lead_to
from services.domain import Conversation, ConversationId, Fact, RunningSummary
from services.errors import StoreUnavailable

_SECONDS = 20  # for which the stylesheet, too, shows the line


@dataclass(frozen=True, slots=True)
class _Deleted:
    id: UUID
    name: str = field(repr=False)
    restore: Callable[[], None] = field(repr=False)
    until: float


def discard(conversation: Conversation) -> None:
    """Delete *conversation*. A callback's: raises what the chat does."""
    find_person().chat.discard(conversation.id, _SECONDS)
    was_open = st.query_params.get("c") == str(conversation.id)
    name = f"“{conversation.title}”" if conversation.title else "a chat"
    _offer(conversation.id, name, partial(_restore_conversation, conversation.id, was_open))
    if was_open:
        lead_to(None)


def forget(fact: Fact) -> None:
    """Delete *fact*. A callback's. Raise StoreUnavailable."""
    find_person().memories.forget(fact.id)
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


def _offer(deleted_id: UUID, name: str, restore: Callable[[], None]) -> None:
    _deleted().insert(0, _Deleted(deleted_id, name, restore, time.monotonic() + _SECONDS))


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
    find_person().conversations.restore(conversation_id)
    if was_open:
        lead_to(conversation_id)


def _restore_fact(fact: Fact) -> None:
    find_person().memories.keep(fact)


def _restore_summary(conversation_id: ConversationId, summary: RunningSummary) -> None:
    find_desk(conversation_id).chat.restore_summary(conversation_id, summary)


def _deleted() -> list[_Deleted]:
    return st.session_state.setdefault("deleted", [])
