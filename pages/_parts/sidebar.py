"""The sidebar: a new chat, the conversations, and the account at its foot."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from html import escape
from pathlib import Path
from uuid import UUID

import streamlit as st

from pages._parts import (
    about,
    browser,
    conversation_list,
    fact_list,
    facts,
    models,
    news,
    preferences,
    space_dialogs,
    spaces,
    words,
)
from pages._parts.elements import draw_wide_menu, quiet_button
from pages._session import ask_for, attempt, show_errors
from pages._tab import tab
from services import bootstrap
from services.bootstrap import UserServices
from services.domain import AccountRole, Conversation, ConversationId, Space

ACCOUNT, ADMIN, DATA, USAGE = (f"pages/{name}.py" for name in ("account", "admin", "data", "usage"))
_PAGES = {  # by the names on the menu, of which the last is for admins only
    words.MEMORY: facts.MEMORY,
    words.USAGE: USAGE,
    words.YOUR_DATA: DATA,
    words.ACCOUNT: ACCOUNT,
    words.ADMIN: ADMIN,
}
_FOOT = f"""
  <button data-act="about" class="db-apart">{words.ABOUT}</button>
  <button data-keys>Keyboard shortcuts</button>"""
_SIGN_OUT_ITEM = '<button data-submits="sign-out">Sign out</button>'
_SIGN_OUT = (
    '<form method="post" action="/session/end" id="sign-out" data-person="{}" hidden></form>'
)


def draw_top() -> None:
    """Draw the top of the sidebar. Call this before the page is drawn, so that the page does not shift later."""
    with st.sidebar, st.container(key="sidebar-top"):
        quiet_button(
            words.NEW_CHAT,
            "edit_square",
            "new-chat",
            conversation_list.open_chat,
            None,
            shortcut="Ctrl+Shift+O",
            is_wide=True,
        )
        conversation_list.draw_filter()


def draw_rest(
    user: UserServices,
    opened: Conversation | None = None,
    space: Space | None = None,
    act_on_page: Callable[[Mapping[str, str]], None] | None = None,
) -> Sequence[Conversation] | None:
    """Draw the list of conversations and the account.

    *opened*: the open conversation, which is always in the list; *space*: the open space, whose conversations are listed;
    *act_on_page*: called with the request when a plain HTML button is pressed. Return the chats at the top of the list; None
    if it could not be read, or lists archived chats or results of the filter.
    """
    listed: conversation_list.Listed = {}
    found: Sequence[Conversation] | None = None
    facts.note_left(user, opened)

    def act(request: Mapping[str, str]) -> None:
        match request:
            case {"act": "preferences"}:
                ask_for(preferences.preferences_dialog)
            case {"act": "edit-space", "space": space_id}:
                named = {str(listed_space.id): listed_space for listed_space in spaces.every(user)}
                if space_id in named:
                    ask_for(space_dialogs.space_dialog, named[space_id])
            case {"act": "chat-instructions" | "chat-notes" as name, "chat": chat_id}:
                _ask_for_texts_of(user, name, chat_id)
            case {"act": "about"}:
                is_admin = user.account.role is AccountRole.ADMIN
                ask_for(partial(about.about_dialog, is_admin=is_admin))
            case _:
                conversation_list.act(listed, opened, request)
                if act_on_page:
                    act_on_page(request)

    with st.sidebar, show_errors():
        running = news.running(user, opened)
        listed, found = conversation_list.draw(user, opened, space, running)
        with st.container(key="account", gap=None):
            conversation_list.draw_foot(user, space)
            _draw_account(user)
        browser.apply_preferences(user.profile.preferences())
        news.watch(user, opened, space, found)
    with st.sidebar:
        browser.hear_acts(partial(attempt, act))
    return None if tab().is_archive else found


def _ask_for_texts_of(user: UserServices, name: str, chat_id: str) -> None:
    """Open the dialog with the instructions or notes of a conversation. The id comes from the browser, so it is checked."""
    with suppress(ValueError):
        for conversation in user.conversations.some([ConversationId(UUID(chat_id))]):
            is_notes = name == "chat-notes"
            ask_for(
                fact_list.notes_dialog if is_notes else preferences.instructions_dialog,
                conversation,
            )


def _draw_account(user: UserServices) -> None:
    account = user.account
    is_admin = account.role is AccountRole.ADMIN
    is_alone = bootstrap.current_app().is_alone
    lines, pages, foot = [models.line(user)], dict(_PAGES), _FOOT
    if is_alone:
        del pages[words.ACCOUNT]
    else:
        today, month = map(words.plain_used_of, account.limits[:2])
        email = f"{user.email}, admin" if is_admin else user.email
        lines = [email, f"Spent today: {today}", f"This month: {month}", *lines]
        foot += _SIGN_OUT_ITEM
    if not is_admin:
        del pages[words.ADMIN]
    links = "".join(f'<a href="/{Path(page).stem}">{label}</a>' for label, page in pages.items())
    items = "".join(f"<p>{escape(line)}</p>" for line in lines)
    items += f'<button data-act="preferences">{words.PREFERENCES}</button>{links}{foot}'
    name = words.YOU if is_alone else user.email.partition("@")[0]
    sign_out = "" if is_alone else _SIGN_OUT.format(user.conversations.user_id)
    draw_wide_menu(name, "account_circle", "account-menu", items, sign_out)
