"""The list of conversations: those that are pinned, then the others by day; or the archive in its place."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from html import escape
from itertools import groupby

import streamlit as st

from pages._parts import dialogs, elements, rename, spaces, words
from pages._parts.elements import row
from pages._session import go_to_conversation
from services.bootstrap import PersonServices
from services.domain import Conversation, Space, SpaceId

# at first, and as many more on demand: what a list costs must not grow with what is kept
_ROWS = 30
_quiet_button = partial(elements.quiet_button, is_wide=True)


def draw_filter() -> None:
    """The field whose words `draw` looks for."""
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
class _Beside:
    """What a row has to know of what is beside it."""

    opened: Conversation | None
    has_spaces: bool
    spaces: Mapping[SpaceId, str]  # their names, where conversations of all are listed


def draw(person: PersonServices, opened: Conversation | None, space: Space | None) -> None:
    """What the filter finds; without one the list or the archive, and *opened* in it, wherever it is kept.

    Of *space* alone, if one is chosen.
    """
    every = spaces.every(person)
    names = {} if space else {one.id: spaces.name(one) for one in every}
    beside = _Beside(opened, bool(every), names)
    has_chooser = spaces.draw_chooser(every, space, opened)
    space_id = space.id if space else None
    count = int(st.session_state.get("rows", _ROWS))
    wanted = str(st.session_state.search).strip()
    is_archive = bool(st.session_state.get("is_archive"))
    with st.container(key="conversation-list", gap="small"):
        if wanted:
            found = person.store.conversations.titled(wanted, count + 1, space_id=space_id)
            _draw_page(found, count, beside, "No chats found.")
        elif is_archive:
            _quiet_button("Back", "arrow_back", "leave-archive", _turn, False)
            archived = [] if space else [one for one in every if one.is_archived]
            found = person.store.conversations.recent(
                count + 1, is_archived=True, space_id=space_id
            )
            _draw_opened(beside, found[:count])
            if archived:
                _draw_archived_spaces(archived, opened)
            if found or not archived:
                _draw_page(found, count, beside, "No archived chats.")
        else:
            found = person.store.conversations.recent(count + 1, space_id=space_id)
            _draw_opened(beside, found[:count])
            none_found = "No chats in this space yet." if space else "No chats yet."
            _draw_page(found, count, beside, none_found)
            with st.container(gap=None):
                _quiet_button("Archived", "archive", "archive", _turn, True)
                if not has_chooser:
                    _quiet_button(
                        words.NEW_SPACE, "create_new_folder", "new-space", spaces.ask_for_new
                    )
        # the list's end, by which the browser knows that all of it is drawn, and for which words
        st.html(f'<i hidden data-found="{escape(wanted)}"></i>')


def _draw_opened(beside: _Beside, drawn: list[Conversation]) -> None:
    """What is open, if it is not among those that are *drawn* anyway."""
    opened = beside.opened
    if opened and opened.id not in {conversation.id for conversation in drawn}:
        _draw_group("Current chat", [opened], beside)


def _draw_archived_spaces(archived: list[Space], opened: Conversation | None) -> None:
    with st.container(gap=None):
        st.caption("Archived spaces")
        for space in archived:
            _quiet_button(
                spaces.name(space), "folder", f"space-{space.id}", spaces.choose, space.id, opened
            )


def _draw_page(found: list[Conversation], count: int, beside: _Beside, none_found: str) -> None:
    """The first *count* of what was *found*, and the way to more."""
    now = datetime.now(UTC)
    for heading, group in groupby(found[:count], lambda each: _heading(each, now)):
        _draw_group(heading, list(group), beside)
    if not found:
        st.caption(none_found)
    if len(found) > count:
        _quiet_button(words.SHOW_MORE, "expand_more", "older", _draw_more, count)


def _heading(conversation: Conversation, now: datetime) -> str:
    if conversation.is_archived:
        return "Archived"
    return "Pinned" if conversation.pinned_at else words.day(conversation.updated_at, now)


def _draw_group(heading: str, group: list[Conversation], beside: _Beside) -> None:
    with st.container(gap=None):
        st.caption(heading)
        for conversation in group:
            _draw_row(conversation, beside)


def _draw_row(conversation: Conversation, beside: _Beside) -> None:
    is_opened = beside.opened is not None and conversation.id == beside.opened.id
    name, menu = dialogs.title(conversation), f"menu-{conversation.id}"
    if rename.is_asked(conversation, menu):
        rename.draw_title_field(conversation)
        return
    is_news = conversation.is_unread and not is_opened
    label = f"**{name}**" if is_news else name
    if conversation.space_id and (space := beside.spaces.get(conversation.space_id)):
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
            f"{words.MORE}: {name}", conversation, key=menu, can_move=beside.has_spaces
        )


def _draw_more(count: int) -> None:
    st.session_state.rows = count + _ROWS


def _turn(to_archive: bool) -> None:
    st.session_state.is_archive = to_archive
    st.session_state.rows = _ROWS
