"""A temporary chat: begun by a switch on a fresh page, held by this tab alone, and gone when it is left.

The address says that the page is one, so that it is one after a reload, but leads to nothing that was said. While there
is one, what is drawn of a conversation is drawn of it.
"""

import streamlit as st
from streamlit.navigation.page import Page

from pages._parts import words
from pages._session import SPACE, callbacks, find_person, keep_errors
from pages._streamlit import tab_presence
from services.bootstrap import PersonServices, TemporaryChat
from services.domain import ConversationId, MessageId

ICON = ":material/history_toggle_off:"
_HELD = "temporary"  # by the tab
_ADDRESS = "temporary"  # in the address: the page is one
_SHOWN = "temporary-version"
_SWITCH, _READS = "is-temporary", "temporary-reads"
_SWITCHED = "has-switched-off"  # just now, on the page that goes on

ChatServices = PersonServices | TemporaryChat  # both have a chat and a store


def here() -> TemporaryChat | None:
    """The temporary chat of this page, if it is one. In the place of one that is over, or was reloaded, another is
    begun: what is written next was not meant to be kept either. Raise SignedOut, StoreUnavailable."""
    held: TemporaryChat | None = st.session_state.get(_HELD)
    if held is None and is_asked_for():
        held = _begin(reads_facts=False)
    elif held and held.is_over:
        held = _begin(reads_facts=held.reads_facts, in_place_of=held)
        st.session_state.news = (
            "This temporary chat was deleted: the page was disconnected for too long."
        )
    return held


def began_meanwhile(drawn: TemporaryChat | None) -> ConversationId | None:
    """The temporary chat that the switch began after a page was *drawn* that was none."""
    held: TemporaryChat | None = st.session_state.get(_HELD)
    return held.id if held and drawn is None else None


def services_of(conversation_id: ConversationId) -> ChatServices:
    """Where this conversation is held. Raise SignedOut, StoreUnavailable, ChatIsOver."""
    person, held = find_person(), here()
    return held if held and held.id == conversation_id else person


def is_held(conversation_id: ConversationId) -> bool:
    """Whether this tab holds this conversation, and nobody else does."""
    held: TemporaryChat | None = st.session_state.get(_HELD)
    return held is not None and held.id == conversation_id


def show(message_id: MessageId | None) -> None:
    """Have this version of a reply be read: no address names what is held here. None: the newest."""
    st.session_state[_SHOWN] = message_id


def shown() -> MessageId | None:
    """The version that `show` was told."""
    return st.session_state.get(_SHOWN)


def end_if_left(page: Page) -> None:
    """End it where *page*, its address or a callback says that the reader is elsewhere. Before anything is drawn."""
    is_here = not page.url_path and is_asked_for()
    if (not is_here or "destination" in st.session_state) and (held := _end()):
        callbacks().leave(held.id)


def is_asked_for() -> bool:
    """Return whether the address is that of a temporary chat."""
    return _ADDRESS in st.query_params and not {"c", SPACE} & set(st.query_params)


def draw_switch(held: TemporaryChat | None, person: PersonServices) -> None:
    """Whether the chat that begins here is kept, and what one that is not may read."""
    st.session_state[_SWITCH] = held is not None
    with st.container(gap="xsmall", horizontal_alignment="center", key="temporary-switch"):
        st.toggle(f"{ICON} {words.TEMPORARY_CHAT}", key=_SWITCH, on_change=_switch)
        if held and person.store.profile.preferences().keeps_facts:
            st.session_state[_READS] = held.reads_facts
            st.toggle("Use my saved memories", key=_READS, on_change=_allow)


def draw_sign() -> None:
    """What this chat is, at its head; assets/page/temporary.js asks before its page is left."""
    with st.container(width="content", key="temporary-sign"):
        st.caption(f"{ICON} Not saved", width="content")


def has_switched_off() -> bool:
    """Whether what is typed is to be kept again, from just now on. Says so once."""
    return bool(st.session_state.pop(_SWITCHED, False))


def _switch() -> None:
    is_wanted = bool(st.session_state[_SWITCH])
    with keep_errors():
        _end()
        if is_wanted:
            _begin(reads_facts=False)
            st.query_params[_ADDRESS] = "1"
        else:
            st.query_params.pop(_ADDRESS, None)
        st.session_state[_SWITCHED] = not is_wanted


def _allow() -> None:
    is_allowed = bool(st.session_state[_READS])
    with keep_errors():
        if held := here():
            _begin(
                reads_facts=is_allowed, in_place_of=held
            )  # first: else what follows might be kept
            held.end()


def _begin(*, reads_facts: bool, in_place_of: TemporaryChat | None = None) -> TemporaryChat:
    begun = find_person().begin_temporary(
        reads_facts=reads_facts, is_there=tab_presence(), in_place_of=in_place_of
    )
    st.session_state[_HELD] = begun
    return begun


def _end() -> TemporaryChat | None:
    """The one that was ended, if there was one."""
    held: TemporaryChat | None = st.session_state.pop(_HELD, None)
    if held:
        held.end()
        for name in (_SHOWN, "seen_summary", "begun"):
            st.session_state.pop(name, None)
    return held
