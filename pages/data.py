"""The "Your data" page: the data in the browser, the server's memory and the store, how to clear it, and a full export."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime

import streamlit as st

from pages._parts import (
    account_end,
    browser,
    clear_browser,
    conversation_menu,
    frame,
    full_export,
    outcomes,
    proven_actions,
    safe_md,
    undo,
    usage_chart,
    words,
)
from pages._parts.elements import distinct, quiet_button, row
from pages._parts.layers import Layer, diagram
from pages._parts.proven_actions import Actions
from pages._parts.refusals import draw_failed_sign_out, draw_refused_change
from pages._session import ask_for, find_user
from services import bootstrap
from services.bootstrap import UserServices
from services.domain import ConversationId
from services.domain.accounts import ProofScope
from services.domain.data import StoredData
from services.domain.models import ModelState
from services.domain.usage import UsageReport

_BROWSER, _SERVER, _DATABASE = "This browser", "This server session", "Database"
_MODEL = "AI model"
_LISTED = 100  # the largest number of conversations that the user can choose from
_CLEAR_CONTEXT, _DROP = "clear-context", "drop-caches"
_SIGN_OUT = """
  <form method="post" action="/session/end" class="db-menu" data-person="{}">
    <button type="submit"><span class="db-icon" aria-hidden="true">logout</span>Sign out of this browser</button>
  </form>"""
_COOKIES = "One cookie keeps you signed in until you sign out; another marks this browser as one that you have used, for 90 days."
# the texts of a deployment without sign-in
_COOKIE = "A cookie keeps you signed in until you sign out."
_ALONE = "This Daybook is for one person and needs no password: its address opens it, on this computer only."
_TO_SET_ONE = (
    "To give it an email and a password, stop it, run `uv run python -m services.operate set-password EMAIL` with the same "
    "`DAYBOOK_STORE`, and start it with `DAYBOOK_SIGN_IN=local`."
)
# a plain link, because `st.page_link` may not find the page until the second run
_TO_ACCOUNT = '<a class="db-jump" href="/account" target="_self">Manage or delete your account</a>'


def _draw_diagram(user: UserServices, stored: StoredData, today: UsageReport) -> None:
    cached = user.conversations.cached_data()
    requests = sum(one.turns for one in today.purposes)
    tokens = usage_chart.tokens(today.days)
    server = [
        f"{words.count(cached.conversations, 'chat')} open: "
        f"{words.count(cached.messages, 'message')}, {words.size(cached.text_bytes)}",
        *([f"Search index: {words.size(user.search_bytes)}"] if user.search_bytes else []),
        "Not encrypted, in memory only",
    ]
    database = [
        words.count(stored.conversations, "chat"),
        words.count(stored.messages, "message"),
        words.count(stored.facts, "memory"),
        words.count(stored.spaces, "space"),
        words.size(stored.sealed_bytes),
        "Not encrypted" if bootstrap.current_app().is_plain else "Encrypted",
    ]
    under_way = len(user.chat.coming())
    is_local = bootstrap.current_app().health.model is not ModelState.REMOTE
    model = [
        words.count(requests, "request") + (f", {under_way} under way" if under_way else ""),
        f"{words.number(tokens[words.INPUT_TOKENS])} tokens sent",
        f"{words.number(tokens[words.OUTPUT_TOKENS])} received",
        "Runs on this server" if is_local else "The provider can read it",
    ]
    is_alone = bootstrap.current_app().is_alone
    cookies = "A cookie for the sign-in" if is_alone else "Cookies for the sign-in and the device"
    drawing = diagram(
        Layer(_BROWSER, ["Unsent drafts", "Not encrypted", cookies], "data-tab-figures"),
        Layer(_SERVER, server),
        Layer(_DATABASE, database),
        Layer(f"{_MODEL}, today", model),
    )
    browser.draw_svg(drawing, key="data-layers")


def _drop_caches() -> str:
    find_user().drop_caches()
    return "Server memory cleared."


def _draw_database(user: UserServices, stored: StoredData) -> None:
    until = "until you delete it"
    if days := user.account.retention_days:
        span = f"{words.number(days)} days after their last use"
        until += f", chats (pinned and archived ones too) for at most {span}"
    app = bootstrap.current_app()
    how = "as plain text" if app.is_plain else "encrypted"
    sentences = [f"Everything you keep is stored {how}, in {app.health.store}, {until}."]
    if not user.profile.preferences().searches_titles_only:
        sentences.append(
            f"After a search in messages, a copy of them is kept too ({how}), from which the search index is made."
        )
    if unread := app.unread_files(user.user_id):
        names = ", ".join(safe_md.label(name) for name in unread)
        sentences.append(
            f"Not read: {names}. A start reads JSON lists up to 10 MB, of messages up to 294 kB."
        )
    if user.account_bytes:
        used, most = words.size(stored.sealed_bytes), words.size(user.account_bytes)
        is_full = stored.sealed_bytes >= user.account_bytes
        advice = " It is full: delete chats or memories to write again." if is_full else ""
        sentences.append(f"Storage used: {used} of {most}.{advice}")
    if stored.archived:
        sentences.append(f"Archived: {words.count(stored.archived, 'chat')}.")
    if stored.destroyed_at:
        gone = words.moment(stored.destroyed_at)
        sentences.append(f"{words.count(stored.deleted, 'deleted chat')} will be gone by {gone}.")
    if stored.ledger_since:
        entries = words.count(stored.ledger_entries, "entry")
        sentences.append(f"Your cost record ({entries}, numbers only) is kept.")
    st.markdown(" ".join(sentences))
    with row("data-export"):
        full_export.draw_button()
        quiet_button(words.DELETE_CHATS, "delete", "delete-chats", ask_for, undo.chats_dialog)
    full_export.draw_progress()
    st.caption(
        f"A zip file with {words.count(stored.conversations, 'chat')} as JSON and Markdown, memories, spaces, preferences "
        "and usage, not encrypted. If the download fails, the file won't open; just export again."
    )


def _draw_model(user: UserServices, today: UsageReport) -> None:
    sent = "; ".join(
        f"{one.model}: {words.number(one.tokens_in)} tokens sent, {words.number(one.tokens_out)} received"
        for one in today.days
    )
    st.markdown(
        "Each request sends the model what it needs: messages, instructions and memories. Daybook does not add your "
        "email address."
    )
    st.text(f"Today: {sent or 'nothing'}. {usage_chart.days_begin()}")
    listed = user.conversations.recent(_LISTED)
    if not listed:
        return
    # with the time of creation, not of the last change, because a chat's label must not change while the page is open
    titles = distinct(
        {
            one.id: f"{conversation_menu.plain_title(one)} ({words.moment(one.created_at, has_date=True)})"
            for one in listed
        }
    )
    st.selectbox(
        "Clear the context of",
        titles,
        format_func=lambda chat_id: titles.get(chat_id, words.UNTITLED),
        key="to-clear",
    )
    _draw_action(words.CLEAR_CONTEXT, "restart_alt", _CLEAR_CONTEXT, _clear_context)
    st.caption("The model starts fresh from here in this chat. Your messages are kept.")


def _draw_action(label: str, icon: str, key: str, act: Callable[[], str]) -> None:
    """Draw a button, and its result beside it."""
    with row():
        quiet_button(label, icon, key, outcomes.act_at, key, act)
        outcomes.draw(key)


def _clear_context() -> str:
    user = find_user()
    # read here, not passed as an argument: the page may not have been redrawn since another chat was chosen
    chosen: ConversationId = st.session_state["to-clear"]
    user.conversations.start_anew(user.chat.open(chosen))
    return "Context cleared."


@contextmanager
def _section(title: str) -> Generator[None]:
    with st.container(gap="xsmall"):
        st.header(title, anchor=False)
        yield


def _draw_only_account(user: UserServices) -> None:
    """Draw what the Account page has on a deployment with sign-in: how to get in, and the form that deletes everything."""
    with _section(words.PASSWORD):
        # a Daybook that stores plain text refuses to start with passwords
        st.markdown(_ALONE if bootstrap.current_app().is_plain else f"{_ALONE} {_TO_SET_ONE}")
        st.html(_SIGN_OUT.format(user.conversations.user_id), width="content")
    with st.container(gap="xsmall"):
        if not proven_actions.is_form_open():
            draw_refused_change(st.query_params.get("reason", ""))
        account_end.draw(Actions(user, ProofScope.FULL))  # without sign-in, no proof is needed


with frame.page() as user:
    draw_failed_sign_out()  # before the parts that read the database
    today = datetime.now(UTC).date()
    stored, used = user.usage.stored(), user.usage.report(today, today)
    frame.draw_heading(words.YOUR_DATA, "Where your data is right now.")
    _draw_diagram(user, stored, used)
    with _section(_BROWSER):
        st.markdown(
            "This browser stores unsent drafts, your theme and whether Enter sends. Drafts are removed when you send "
            "them, when you sign out, or after 30 days. "
            f"{_COOKIE if bootstrap.current_app().is_alone else _COOKIES} Clearing deletes no cookie."
        )
        quiet_button(
            clear_browser.LABEL, "mop", "clear-browser", ask_for, clear_browser.clear_dialog
        )
    with _section(_SERVER):
        st.markdown(
            "While you are signed in, the server keeps your keys, memories, titles, open chats and, after a search, a "
            "search index in memory, unencrypted. It is cleared when you sign out, or 30 minutes after you close the last "
            "tab; of a deleted chat, ten seconds after Undo. “Clear” removes the text now, for all your devices on this "
            "server process; keys stay until you sign out. Text is loaded again when needed."
        )
        _draw_action("Clear server memory", "memory", _DROP, _drop_caches)
    with _section(_DATABASE):
        _draw_database(user, stored)
    with _section(_MODEL):
        _draw_model(user, used)
    if bootstrap.current_app().is_alone:
        _draw_only_account(user)
    else:
        with _section(words.ACCOUNT):
            st.html(_TO_ACCOUNT, width="content")
