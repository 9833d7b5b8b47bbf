"""The list of conversations: the pinned ones, then the others by day; or the archive."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from html import escape
from itertools import groupby

import streamlit as st

from pages._parts import dialogs, elements, space_dialogs, spaces, words
from pages._parts.elements import row
from pages._session import go_to_conversation
from services.bootstrap import PersonServices
from services.domain import Conversation, Space, SpaceId

# at first, and as many more on demand: the cost of the list must not grow with the number of conversations
_ROWS = 30
_quiet_button = partial(elements.quiet_button, is_wide=True)


def draw_filter() -> None:
    """Draw the field that filters the list by title."""
    st.text_input(
        "Search titles",
        type="search",
        live=True,
        label_visibility="collapsed",
        placeholder="Search titles",
        key="search",
        on_change=_draw_more,
        args=[0],
    )


@dataclass(frozen=True, slots=True)
class _ListContext:
    """The context of a row."""

    opened: Conversation | None
    has_spaces: bool
    spaces: Mapping[SpaceId, str]  # names, where conversations of all spaces are listed


def draw(person: PersonServices, opened: Conversation | None, space: Space | None) -> None:
    """Draw the list, the archive or the results of the filter, of *space* alone if one is open.

    *opened* is always among them, except in the results.
    """
    every = spaces.every(person)
    names = {} if space else {one.id: spaces.name(one) for one in every}
    context = _ListContext(opened, bool(every), names)
    has_chooser = space_dialogs.draw_chooser(every, space, opened)
    space_id = space.id if space else None
    count = int(st.session_state.get("rows", _ROWS))
    wanted = str(st.session_state.search).strip()
    is_archive = bool(st.session_state.get("is_archive"))
    with st.container(key="conversation-list", gap="small"):
        if wanted:
            found = person.store.conversations.titled(wanted, count + 1, space_id=space_id)
            _draw_page(found, count, context, "No chats found.")
        elif is_archive:
            _quiet_button("Back", "arrow_back", "leave-archive", _turn, False)
            archived = [] if space else [one for one in every if one.is_archived]
            found = person.store.conversations.recent(
                count + 1, is_archived=True, space_id=space_id
            )
            _draw_opened(context, found[:count])
            if archived:
                _draw_archived_spaces(archived, opened)
            if found or not archived:
                _draw_page(found, count, context, "No archived chats.")
        else:
            found = person.store.conversations.recent(count + 1, space_id=space_id)
            _draw_opened(context, found[:count])
            none_found = "No chats in this space yet." if space else "No chats yet."
            _draw_page(found, count, context, none_found)
            with st.container(gap=None):
                _quiet_button("Archived", "archive", "archive", _turn, True)
                if not has_chooser:
                    _quiet_button(
                        words.NEW_SPACE, "create_new_folder", "new-space", space_dialogs.ask_for_new
                    )
        # the list's end, by which the browser knows that all of it is drawn, and for which words
        st.html(f'<i hidden data-found="{escape(wanted)}"></i>')


def _draw_opened(context: _ListContext, drawn: list[Conversation]) -> None:
    """Draw the open conversation unless it is among those *drawn*."""
    opened = context.opened
    if opened and opened.id not in {conversation.id for conversation in drawn}:
        _draw_group("Current chat", [opened], context)


def _draw_archived_spaces(archived: list[Space], opened: Conversation | None) -> None:
    with st.container(gap=None):
        st.caption("Archived spaces")
        for space in archived:
            _quiet_button(
                spaces.name(space), "folder", f"space-{space.id}", spaces.choose, space.id, opened
            )


def _draw_page(
    found: list[Conversation], count: int, context: _ListContext, none_found: str
) -> None:
    """Draw the first *count* of those *found*, and a button for more."""
    now = datetime.now(UTC)
    for heading, group in groupby(found[:count], lambda each: _heading(each, now)):
        _draw_group(heading, list(group), context)
    if not found:
        st.caption(none_found)
    if len(found) > count:
        _quiet_button(words.SHOW_MORE, "expand_more", "older", _draw_more, count)


def _heading(conversation: Conversation, now: datetime) -> str:
    if conversation.is_archived:
        return "Archived"
    return "Pinned" if conversation.pinned_at else words.day(conversation.updated_at, now)


def _draw_group(heading: str, group: list[Conversation], context: _ListContext) -> None:
    with st.container(gap=None):
        st.caption(heading)
        for conversation in group:
            _draw_row(conversation, context)


def _draw_row(conversation: Conversation, context: _ListContext) -> None:
    is_opened = context.opened is not None and conversation.id == context.opened.id
    name, menu = dialogs.title(conversation), f"menu-{conversation.id}"
    if dialogs.is_editing_title(conversation, menu):
        dialogs.draw_title_field(conversation)
        return
    is_news = conversation.is_unread and not is_opened
    label = f"**{name}**" if is_news else name
    if conversation.space_id and (space := context.spaces.get(conversation.space_id)):
        label += f" :gray[{space}]"
    with row(f"c-{conversation.id}", gap=None, wrap=False):
        st.button(
            label,
            icon=":material/mark_chat_unread:" if is_news else None,
            key=f"open-{conversation.id}",
            type="secondary" if is_opened else "tertiary",
            width="stretch",
            wrap=False,
            on_click=go_to_conversation,
            args=[conversation.id],
        )
        dialogs.draw_menu(
            f"{words.MORE}: {name}", conversation, key=menu, can_move=context.has_spaces
        )


def _draw_more(count: int) -> None:
    st.session_state.rows = count + _ROWS


def _turn(to_archive: bool) -> None:
    st.session_state.is_archive = to_archive
    st.session_state.rows = _ROWS
