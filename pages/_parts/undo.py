"""Deleting a conversation, and for a while the way back.

What was deleted is gone from every page at once. The database destroys it when its time is over.
"""

import time
from dataclasses import dataclass, field
from html import escape

import streamlit as st

from pages._session import find_person, keep_errors, lead_to
from services.domain import Conversation
from services.errors import StoreUnavailable

_SECONDS = 20  # for which the stylesheet, too, shows the line


@dataclass(frozen=True, slots=True)
class _Deleted:
    conversation: Conversation = field(repr=False)
    was_open: bool
    until: float


def discard(conversation: Conversation) -> None:
    """Delete *conversation*. A callback's: raises what the chat does."""
    find_person().chat.discard(conversation.id, _SECONDS)
    was_open = st.query_params.get("c") == str(conversation.id)
    _deleted().insert(0, _Deleted(conversation, was_open, time.monotonic() + _SECONDS))
    if was_open:
        lead_to(None)


def draw() -> None:
    """A line for each conversation that can still be brought back, above any page."""
    now = time.monotonic()
    _deleted()[:] = [one for one in _deleted() if one.until > now]
    with st.container(key="undo", gap="xsmall"):
        for one in _deleted():
            _draw_line(one)


def _draw_line(one: _Deleted) -> None:
    conversation = one.conversation
    with st.container(
        horizontal=True, vertical_alignment="center", wrap=False, key=f"undo-{conversation.id}"
    ):
        name = f"“{escape(conversation.title)}”" if conversation.title else "a conversation"
        st.html(f'<p role="status">Deleted {name}</p>', width="stretch")
        st.button(
            "Undo", type="tertiary", key=f"restore-{conversation.id}", on_click=_restore, args=[one]
        )


def _restore(one: _Deleted) -> None:
    deleted = _deleted()
    if one not in deleted:  # a double click
        return
    deleted.remove(one)
    with keep_errors():
        try:
            find_person().conversations.restore(one.conversation.id)
        except StoreUnavailable:
            deleted.append(one)
            deleted.sort(key=lambda each: each.until, reverse=True)
            raise
        if one.was_open:
            lead_to(one.conversation.id)


def _deleted() -> list[_Deleted]:
    return st.session_state.setdefault("deleted", [])
