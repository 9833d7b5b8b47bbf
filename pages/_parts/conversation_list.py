"""The list of conversations: those that are pinned, then the others by day; or the archive in its place."""

from collections.abc import Callable
from datetime import UTC, datetime
from html import escape
from itertools import groupby

import streamlit as st

from pages._parts import dialogs, rename, words
from pages._session import lead_to
from services.bootstrap import PersonServices
from services.domain import Conversation

# at first, and as many more on demand: what a list costs must not grow with what is kept
_ROWS = 30


def draw_filter() -> None:
    """The field whose words `draw` looks for."""
    st.text_input(
        "Filter titles",
        type="search",
        live=True,
        label_visibility="collapsed",
        placeholder="Filter titles",
        key="search",
        on_change=_draw_more,
        args=[0],
    )


def draw(person: PersonServices, opened: Conversation | None) -> None:
    """What the filter finds; without one the list or the archive, and *opened* in it, wherever it is kept."""
    count = int(st.session_state.get("rows", _ROWS))
    wanted = str(st.session_state.search).strip()
    is_archive = bool(st.session_state.get("is_archive"))
    with st.container(key="conversation-list", gap="small"):
        if wanted:
            found = person.conversations.titled(wanted, count + 1)
            _draw_page(
                found, count, opened, "No title matches. Try fewer words, or clear the field."
            )
        elif is_archive:
            _quiet_button("All conversations", "arrow_back", "leave-archive", _turn, False)
            found = person.conversations.recent(count + 1, is_archived=True)
            _draw_opened(opened, found[:count])
            _draw_page(
                found,
                count,
                opened,
                "Nothing is archived. The menu of a conversation puts it here.",
            )
        else:
            found = person.conversations.recent(count + 1)
            _draw_opened(opened, found[:count])
            _draw_page(found, count, opened, "Your conversations appear here, newest first.")
            _quiet_button("Archived", "archive", "archive", _turn, True)
        # the list's end, by which the browser knows that all of it is drawn, and for which words
        st.html(f'<i hidden data-found="{escape(wanted)}"></i>')


def _draw_opened(opened: Conversation | None, drawn: list[Conversation]) -> None:
    """*opened*, if it is not among those that are drawn anyway."""
    if opened and opened.id not in {conversation.id for conversation in drawn}:
        _draw_group("Open now", [opened], opened)


def _draw_page(
    found: list[Conversation], count: int, opened: Conversation | None, none_found: str
) -> None:
    """The first *count* of what was *found*, and the way to more."""
    now = datetime.now(UTC)
    for heading, group in groupby(found[:count], lambda each: _heading(each, now)):
        _draw_group(heading, list(group), opened)
    if not found:
        st.caption(none_found)
    if len(found) > count:
        _quiet_button("Older conversations", "expand_more", "older", _draw_more, count)


def _heading(conversation: Conversation, now: datetime) -> str:
    if conversation.is_archived:
        return "Archived"
    return "Pinned" if conversation.pinned_at else words.day(conversation.updated_at, now)


def _draw_group(heading: str, group: list[Conversation], opened: Conversation | None) -> None:
    with st.container(gap=None):
        st.caption(heading)
        for conversation in group:
            _draw_row(conversation, is_opened=opened is not None and conversation.id == opened.id)


def _draw_row(conversation: Conversation, *, is_opened: bool) -> None:
    name, menu = dialogs.title(conversation), f"menu-{conversation.id}"
    if rename.is_asked(conversation, menu):
        rename.draw_field(conversation)
        return
    is_news = conversation.is_unread and not is_opened
    with st.container(
        horizontal=True,
        vertical_alignment="center",
        gap=None,
        wrap=False,
        key=f"c-{conversation.id}",
    ):
        st.button(
            f"**{name}**" if is_news else name,
            icon=":material/mark_chat_unread:" if is_news else None,
            key=f"open-{conversation.id}",
            type="secondary" if is_opened else "tertiary",
            width="stretch",
            wrap=False,
            on_click=lead_to,
            args=[conversation.id],
        )
        dialogs.draw_menu(f"More: {name}", conversation, key=menu)


def _quiet_button(label: str, icon: str, key: str, act: Callable[..., None], *args: object) -> None:
    st.button(
        label,
        icon=f":material/{icon}:",
        key=key,
        type="tertiary",
        width="stretch",
        on_click=act,
        args=args,
    )


def _draw_more(count: int) -> None:
    st.session_state.rows = count + _ROWS


def _turn(to_archive: bool) -> None:
    st.session_state.is_archive = to_archive
    st.session_state.rows = _ROWS
