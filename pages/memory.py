"""The memory page, on which users see, add, change and delete the facts that are stored about them."""

from dataclasses import replace
from datetime import UTC, datetime

import streamlit as st

from pages._parts import conversation_menu, facts, frame, sidebar, turns, words
from pages._parts.elements import draw_switch
from pages._session import find_user, open_dialog, show_errors, user_services
from pages._tab import tab
from services import bootstrap
from services.domain import Retrieval

_RECALL = words.policy_name(Retrieval())


def switch_memory(is_on: bool) -> None:
    find_user().profile.change(lambda now: now.with_memory(is_on, datetime.now(UTC)))


def switch_recall(is_on: bool) -> None:
    find_user().profile.change(lambda now: replace(now, recalls_elsewhere=is_on))


user = user_services()
sidebar.draw_top()
with show_errors():
    preferences = user.profile.preferences()
    is_on = bool(preferences.keeps_facts)
    kept = user.facts.facts()
    is_plain = bootstrap.current_app().is_plain
    how = "Stored as plain text like your chats." if is_plain else "Encrypted like your chats."
    frame.draw_heading(words.MEMORY, f"What Daybook remembers about you. {how}")
    with st.container(gap=2):
        draw_switch("Remember things about me", is_on, switch_memory)
        st.caption(
            f"Daybook saves what you say about yourself, and the model uses it in later chats. {facts.COST}"
            if is_on
            else "Nothing new is remembered, and saved memories are not used. Notes that you wrote for a chat or space still are."
        )
    recalls = preferences.recalls_elsewhere
    with st.container(gap=2):
        draw_switch("Let the model use my other chats", recalls, switch_recall)
        st.caption(
            f"{_RECALL} can also use related messages from your other chats. Chats in a space are used only within that space."
            if recalls
            else f"{_RECALL} uses only the current chat."
        )
    said = turns.draw_refusals(has_composer=False)
    facts.MEMORIES.draw_adding()
    if not is_on:
        st.caption("Memory is off. What you add is used once you turn it on.")
    if kept:
        facts.draw_all(user, kept)
    else:
        facts.draw_none(is_on=is_on)
    tab().callbacks.forget(said)
is_dialog_open = open_dialog()
conversation_menu.end_printing()
sidebar.draw_rest(user)
if not is_dialog_open:  # a rerun would close the dialog
    turns.await_news()
