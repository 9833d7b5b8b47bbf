"""The sidebar: a new chat, the conversations, and the account at its foot."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial

import streamlit as st
from streamlit.errors import StreamlitPageNotFoundError

from pages._parts import (
    about,
    browser,
    conversation_list,
    facts,
    models,
    news,
    preferences,
    safe_md,
    words,
)
from pages._parts.elements import popover, quiet_button
from pages._session import ask_for, attempt, show_errors
from pages._tab import tab
from services import bootstrap
from services.bootstrap import UserServices
from services.domain import AccountRole, Conversation, Space
from services.domain.accounts import Account

ACCOUNT, ADMIN, DATA, USAGE = (f"pages/{name}.py" for name in ("account", "admin", "data", "usage"))
_LINKS = (  # the last link is for admins only
    (facts.MEMORY, words.MEMORY, "bookmarks"),
    (USAGE, words.USAGE, "bar_chart"),
    (DATA, words.YOUR_DATA, "stacks"),
    (ACCOUNT, words.ACCOUNT, "manage_accounts"),
    (ADMIN, words.ADMIN, "shield_person"),
)
_SIGN_OUT = """
  <form method="post" action="/session/end" class="db-menu" id="sign-out" data-person="{}">
    <button type="submit"><span class="db-icon" aria-hidden="true">logout</span>Sign out</button>
  </form>"""


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
        conversation_list.act(listed, opened, request)
        if act_on_page:
            act_on_page(request)

    with st.sidebar, show_errors():
        running = news.running(user, opened)
        listed, found = conversation_list.draw(user, opened, space, running)
        with st.container(key="account", gap=None):
            conversation_list.draw_foot(user, space)
            _draw_account(user)
        browser.set_theme(user.profile.preferences().theme)
        news.watch(user, opened, space, found)
    with st.sidebar:
        browser.hear_acts(partial(attempt, act))
    return None if tab().is_archive else found


def _draw_account(user: UserServices) -> None:
    account = user.account
    is_admin = account.role is AccountRole.ADMIN
    is_alone = bootstrap.current_app().is_alone
    # only the part before the @ is shown, because Markdown would turn a whole email address into a link
    name = words.YOU if is_alone else safe_md.label(user.email.partition("@")[0])
    menu = popover(name, "account_circle", "account-menu", is_wide=True)
    with menu.container(gap=14, width=232, key="account-panel"):
        if not is_alone:
            st.text(f"{user.email}, admin" if is_admin else user.email)
            st.caption(_spent(account))
        st.caption(models.line(user))
        dialog = preferences.preferences_dialog
        quiet_button(words.PREFERENCES, "tune", "preferences", ask_for, dialog, is_wide=True)
        # Streamlit may not find the pages until the next run, because this run has registered them
        with suppress(StreamlitPageNotFoundError):
            for page, label, icon in _LINKS if is_admin else _LINKS[:-1]:
                if not (is_alone and page == ACCOUNT):
                    st.page_link(page, label=label, icon=f":material/{icon}:", width="stretch")
        show = partial(about.about_dialog, is_admin=is_admin)
        quiet_button(words.ABOUT, "info", "about", ask_for, show, is_wide=True)
        sign_out = "" if is_alone else _SIGN_OUT.format(user.conversations.user_id)
        st.html(about.KEYS + sign_out)


def _spent(account: Account) -> str:
    today, month = map(words.used_of, account.limits[:2])
    return f"Spent today: {today}  \nThis month: {month}"
