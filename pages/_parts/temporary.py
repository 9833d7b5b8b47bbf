"""The temporary chat of this tab, which a switch on the new-chat page begins. It is deleted soon after the page is left.

The URL says that the chat is temporary, but names no conversation, so a reload begins another temporary chat.
"""

from contextlib import suppress

import streamlit as st
from streamlit.navigation.page import Page

from pages._parts import words
from pages._session import SPACE, TEMPORARY, attempt, find_user, go_to_temporary, tell
from pages._streamlit import tab_presence
from pages._tab import tab
from services.bootstrap import ChatParts, TemporaryChat, UserServices
from services.domain import ConversationId
from services.errors import AppError

ICON = ":material/history_toggle_off:"
_SWITCH, _READS = "is-temporary", "temporary-reads"


def here() -> TemporaryChat | None:
    """Return the temporary chat of this page, if the URL asks for one. Raise SignedOut or StoreUnavailable.

    After a reload, or if the chat is over, begin a new temporary chat, because the user expects that the next prompt
    is not saved.
    """
    temporary_chat = tab().temporary
    if temporary_chat is None and is_asked_for():
        temporary_chat = _begin(reads_facts=False)
    elif temporary_chat and temporary_chat.is_over:
        temporary_chat = _begin(
            reads_facts=temporary_chat.choices.reads_facts, in_place_of=temporary_chat
        )
        tell("This temporary chat was deleted: the page was disconnected for too long.")
    return temporary_chat


def began_meanwhile(drawn: TemporaryChat | None) -> ConversationId | None:
    """Return the id of a temporary chat that was begun since the page was drawn without a temporary chat, else None.

    *drawn*: the temporary chat with which the page was drawn, if any.
    """
    temporary_chat = tab().temporary
    return temporary_chat.id if temporary_chat and drawn is None else None


def services_of(conversation_id: ConversationId) -> ChatParts:
    """Return the services for a conversation, which may be temporary. Raise SignedOut, StoreUnavailable or ChatIsOver."""
    user, temporary_chat = find_user(), here()
    return temporary_chat if temporary_chat and temporary_chat.id == conversation_id else user


def is_held(conversation_id: ConversationId) -> bool:
    """Return True if the conversation is the temporary chat of this tab."""
    temporary_chat = tab().temporary
    return temporary_chat is not None and temporary_chat.id == conversation_id


def leave_if_elsewhere(page: Page) -> TemporaryChat | None:
    """Leave the temporary chat if *page*, the URL or a callback leads elsewhere. Call this before drawing.

    Return the chat if the user can go back to it because it has messages.
    """
    destination = tab().destination
    is_here = not page.url_path and is_asked_for()
    if is_here if destination is None else destination == TEMPORARY:
        if tab().temporary:
            with suppress(AppError):
                here()  # a chat that is over is replaced before the bar is drawn, which says so
        return None
    return _leave()


def bring_back(left: TemporaryChat) -> TemporaryChat | None:
    """Make the next run go back to *left*, a temporary chat of this tab. For use in callbacks.

    If the tab leaves another temporary chat, and that chat has messages, return that chat. Raise ChatIsOver if *left*
    has been deleted.
    """
    left.come_back()
    other = _leave()
    tab().callbacks.left.discard(left.id)
    tab().temporary = left
    go_to_temporary()
    return other


def is_asked_for() -> bool:
    """Return True if the URL asks for a temporary chat."""
    return set(TEMPORARY) <= set(st.query_params) and not {"c", SPACE} & set(st.query_params)


def draw_switch(temporary_chat: TemporaryChat | None, user: UserServices) -> None:
    """Draw the switch that makes the chat temporary, and the switch that lets a temporary chat read facts."""
    st.session_state[_SWITCH] = temporary_chat is not None
    with st.container(gap="xsmall", horizontal_alignment="center", key="temporary-switch"):
        st.toggle(f"{ICON} {words.TEMPORARY_CHAT}", key=_SWITCH, on_change=attempt, args=[_switch])
        if temporary_chat and user.profile.preferences().keeps_facts:
            st.session_state[_READS] = temporary_chat.choices.reads_facts
            st.toggle("Use my saved memories", key=_READS, on_change=attempt, args=[_allow])


def draw_sign() -> None:
    """Draw the mark of a temporary chat. While it is on the page, assets/page/temporary.js asks before the page is left."""
    with st.container(width="content", key="temporary-sign"):
        st.caption(f"{ICON} Not saved", width="content")


def has_switched_off() -> bool:
    """Return True if the last callback switched the temporary chat off; further calls return False."""
    has, tab().has_switched_off = tab().has_switched_off, False
    return has


def _switch() -> None:
    is_wanted = bool(st.session_state[_SWITCH])
    if temporary_chat := tab().release_temporary():
        temporary_chat.end()
    if is_wanted:
        _begin(reads_facts=False)
        st.query_params.update(TEMPORARY)
    else:
        st.query_params.pop("temporary", None)
    tab().has_switched_off = not is_wanted


def _allow() -> None:
    is_allowed = bool(st.session_state[_READS])
    if temporary_chat := here():
        # the new chat is begun before the old one ends, so that the page stays temporary if this fails
        _begin(reads_facts=is_allowed, in_place_of=temporary_chat)
        temporary_chat.end()


def _begin(*, reads_facts: bool, in_place_of: TemporaryChat | None = None) -> TemporaryChat:
    begun = find_user().begin_temporary(
        reads_facts=reads_facts, is_there=tab_presence(), in_place_of=in_place_of
    )
    tab().temporary = begun
    return begun


def _leave() -> TemporaryChat | None:
    """Leave the temporary chat, if there is one; return the chat if it has messages."""
    if (temporary_chat := tab().release_temporary()) is None:
        return None
    tab().callbacks.leave(temporary_chat.id)
    if temporary_chat.is_begun and not temporary_chat.is_over:
        temporary_chat.leave()
        return temporary_chat
    temporary_chat.end()
    return None
