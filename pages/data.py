"""The page "Your data": what each layer holds, what clears it, the export of everything, and deleting the account."""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial

import streamlit as st

from pages import sign_in
from pages._parts import browser, conversation_menu, sidebar, turns, undo, words
from pages._parts.elements import draw_download, quiet_button, row
from pages._parts.layers import Layer, diagram
from pages._session import (
    ask_for,
    callbacks,
    find_person,
    open_dialog,
    person_services,
    show_errors,
)
from services.bootstrap import PersonServices
from services.domain import Conversation, ConversationId
from services.domain.data import StoredData
from services.domain.usage import UsageReport

_LISTED = 100  # to choose one from
_CLEAR_TAB = """
  <div class="db-menu"><button type="button" data-clear-tab>
    <span class="db-icon" aria-hidden="true">mop</span>Clear this browser
  </button></div>"""
_DELETE = f"""
  <form class="db-form" method="post" action="/account/end">
    <label>Your e-mail<input name="address" type="email" autocomplete="off" required></label>
    <label>Password<input name="password" type="password" autocomplete="current-password" required></label>
    <button type="submit" class="db-danger">{words.DELETE_ACCOUNT}</button>
  </form>"""


def _draw_diagram(person: PersonServices, stored: StoredData, today: UsageReport) -> None:
    held = person.store.conversations.held()
    sent = sum(one.turns for one in today.purposes)
    tokens = [
        words.number(sum(getattr(one, name) for one in today.days))
        for name in ("tokens_in", "tokens_out")
    ]
    browser.draw_svg(
        diagram(
            Layer("This browser", ["Unsent drafts", "Not encrypted"], "data-tab-figures"),
            Layer(
                "This server session",
                [
                    f"{words.count(held.conversations, 'chat')} open: "
                    f"{words.count(held.messages, 'message')}, {words.size(held.text_bytes)}",
                    "Not encrypted, in memory only",
                ],
            ),
            Layer(
                "Database",
                [
                    words.count(stored.conversations, "chat"),
                    words.count(stored.messages, "message"),
                    f"{words.count(stored.facts, 'memory')}, {words.count(stored.spaces, 'space')}",
                    f"{words.size(stored.sealed_bytes)}, encrypted",
                ],
            ),
            Layer(
                "AI model, today",
                [
                    words.count(sent, "request"),
                    f"{tokens[0]} tokens sent",
                    f"{tokens[1]} received",
                    "Not encrypted for it",
                ],
            ),
        ),
        key="data-layers",
    )


def _draw_tab() -> None:
    st.subheader("This browser", anchor=False)
    st.markdown(
        "Unsent drafts and the theme are in this browser's storage. A draft stays until you send it or sign out, "
        "for 30 days at most. Clearing deletes the drafts of all tabs."
    )
    st.html(_CLEAR_TAB, width="content")


def _draw_server() -> None:
    st.subheader("This server session", anchor=False)
    st.markdown(
        "While you are signed in, the server holds your keys, opened chats and memories in RAM, not encrypted: until you "
        "sign out, or half an hour after you close the last tab. Clearing drops the chats and memories, for all your "
        "devices; they are read again when you need them."
    )
    quiet_button("Clear server memory", "memory", "drop-caches", _drop_caches)


def _drop_caches() -> None:
    find_person().drop_caches()
    st.toast("Server memory cleared.")


def _draw_database(stored: StoredData) -> None:
    st.subheader("Database", anchor=False)
    sentences = ["Everything you keep is stored encrypted until you delete it."]
    if stored.archived:
        sentences.append(f"{words.number(stored.archived)} of the chats are archived.")
    if stored.destroyed_at:
        gone = words.moment(stored.destroyed_at)
        sentences.append(f"{words.count(stored.deleted, 'deleted chat')} will be gone by {gone}.")
    if stored.ledger_since:
        entries = words.count(stored.ledger_entries, "entry")
        sentences.append(f"The record of costs has {entries}: numbers only, and it is kept.")
    st.markdown(" ".join(sentences))
    with row("data-export"):
        _draw_export("Export everything")
        quiet_button(words.DELETE_CHATS, "delete", "delete-chats", ask_for, undo.chats_dialog)
    _draw_progress()
    st.caption(
        f"One zip file: {words.count(stored.conversations, 'chat')} as JSON and Markdown, memories, spaces, preferences "
        "and usage, not encrypted. If the download fails, the file does not open: start again."
    )


def _draw_export(label: str) -> None:
    draw_download("/export/everything.zip", label, zone=st.context.timezone or "UTC")


@st.fragment(run_every=2.0)
def _draw_progress() -> None:
    """Draw how far the export is that was begun last."""
    with show_errors():
        export = find_person().export
        if export and not export.is_over:
            share = export.done / export.total if export.total else 1.0
            of = f"{words.number(export.done)} of {words.count(export.total, 'chat')}"
            st.progress(share, f"Exporting: {of}")


def _draw_model(person: PersonServices, today: UsageReport) -> None:
    st.subheader("AI model", anchor=False)
    sent = "; ".join(
        f"{one.model}: {words.number(one.tokens_in)} tokens sent, {words.number(one.tokens_out)} received"
        for one in today.days
    )
    st.markdown("The model reads what a request needs, and is not told who you are.")
    st.text(f"Today (UTC): {sent or 'nothing'}.")
    listed = {one.id: one for one in person.store.conversations.recent(_LISTED)}
    if listed:
        _draw_clearing(list(listed.values()))


def _draw_clearing(listed: Sequence[Conversation]) -> None:
    """Draw the choice of a chat whose context is cleared."""
    titles = {one.id: conversation_menu.plain_title(one) for one in listed}
    chosen = st.selectbox(
        "Chat to clear",
        list(titles),
        format_func=lambda its: titles.get(its, words.UNTITLED),
        key="to-clear",
    )
    quiet_button(words.CLEAR_CONTEXT, "restart_alt", "clear-context", _clear_context, chosen)
    st.caption("The model starts fresh from here in this chat. Your messages stay.")


def _clear_context(conversation_id: ConversationId) -> None:
    conversations = find_person().store.conversations
    conversations.start_anew(conversations.thread(conversation_id))
    st.toast("Context cleared.")


def _draw_account() -> None:
    st.subheader(words.DELETE_ACCOUNT, anchor=False)
    st.markdown(
        "Deletes your account with all chats, memories, spaces and settings, on all devices and at once; replies that are "
        "being written stop. What stays: the record of costs and of changes to the account, as numbers without text, and "
        "what older backups of the database hold. **This cannot be undone.**"
    )
    _draw_export("Export everything first")
    st.html(_DELETE, width=384)


person = person_services()
sidebar.draw_top()
with show_errors():
    today = datetime.now(UTC).date()
    stored, used = person.store.usage.stored(), person.store.usage.report(today, today)
    with st.container(gap=2):
        st.title(words.YOUR_DATA, anchor=False)
        st.markdown(":gray[Where your data is right now, and how to export or delete it.]")
    if refused := sign_in.refusal(st.query_params.get("reason", "")):
        st.error(f"Your account was not deleted. {refused}")
    _draw_diagram(person, stored, used)
    for draw in (
        _draw_tab,
        _draw_server,
        partial(_draw_database, stored),
        partial(_draw_model, person, used),
        _draw_account,
    ):
        with st.container(gap="xsmall"):
            draw()
said = turns.draw_refusals(has_composer=False)
open_dialog()
sidebar.draw_rest(person)
callbacks().forget(said)
