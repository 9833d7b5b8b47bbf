"""The sidebar: a new chat, the conversations, and the account at its foot."""

from collections.abc import Callable, Mapping
from functools import partial
from html import escape
from pathlib import Path

import streamlit as st

from pages._parts import (
    browser,
    conversation_list,
    facts,
    models,
    news,
    preferences,
    words,
)
from pages._parts.elements import draw_wide_menu, quiet_button
from pages._session import ask_for, attempt, go_to_conversation, show_errors
from services.bootstrap import UserServices
from services.domain import AccountRole, Conversation, Space
from services.domain.addresses import NO_ADDRESS

ACCOUNT, ADMIN, DATA, USAGE = (f"pages/{name}.py" for name in ("account", "admin", "data", "usage"))
_PAGES = {  # by the names on the menu, of which the last is for admins only
    words.MEMORY: facts.MEMORY,
    words.USAGE: USAGE,
    words.YOUR_DATA: DATA,
    words.ACCOUNT: ACCOUNT,
    words.ADMIN: ADMIN,
}
_FOOT = """
  <button data-keys class="db-apart">Keyboard shortcuts</button>
  <button data-submits="sign-out">Sign out</button>"""
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
            go_to_conversation,
            None,
            shortcut="Ctrl+Shift+O",
            is_wide=True,
        )
        conversation_list.draw_filter()


def draw_rest(
    user: UserServices,
    opened: Conversation | None = None,
    space: Space | None = None,
    act_on_message: Callable[[Mapping[str, str]], None] | None = None,
) -> None:
    """Draw the list of conversations and the account.

    *opened*: the open conversation, which is always in the list; *space*: the open space, whose conversations are listed;
    *act_on_message*: called with the request when a button of the open conversation is pressed.
    """
    listed: conversation_list.Listed = {}
    facts.note_left(user, opened)

    def act(request: Mapping[str, str]) -> None:
        match request:
            case {"act": "preferences"}:
                ask_for(preferences.preferences_dialog)
            case _:
                conversation_list.act(listed, opened, request)
                if act_on_message:
                    act_on_message(request)

    with st.sidebar, show_errors():
        running = news.running(user, opened)
        listed, found = conversation_list.draw(user, opened, space, running)
        _draw_account(user)
        browser.set_theme(user.profile.preferences().theme)
        news.watch(user, opened, space, found)
    with st.sidebar:
        browser.hear_acts(partial(attempt, act))


def _draw_account(user: UserServices) -> None:
    account = user.account
    is_admin = account.role is AccountRole.ADMIN
    is_alone = user.email == NO_ADDRESS
    today, month = (words.used_of(limit).replace("\\$", "$") for limit in account.limits[:2])
    lines = [f"Spent today: {today}", f"This month: {month}", models.line(user)]
    if not is_alone:
        lines.insert(0, f"{user.email}, admin" if is_admin else user.email)
    links = "".join(
        f'<a href="/{Path(page).stem}">{label}</a>'
        for label, page in [*_PAGES.items()][: None if is_admin else -1]
    )
    items = "".join(f"<p>{escape(line)}</p>" for line in lines)
    items += f'<button data-act="preferences">{words.PREFERENCES}</button>{links}{_FOOT}'
    name = words.YOU if is_alone else user.email.partition("@")[0]
    sign_out = _SIGN_OUT.format(user.conversations.user_id)
    draw_wide_menu(name, "account_circle", "account-menu", items, sign_out)
