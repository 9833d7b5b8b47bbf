"""The admin page: counts, costs and limits, never content."""

import streamlit as st

from pages._admin import audit, health, models, overview, people, settings, sign_ups
from pages._parts import sidebar, turns, words
from pages._parts.elements import empty_page
from pages._session import (
    callbacks,
    go_to_conversation,
    open_dialog,
    person_services,
    show_errors,
)
from services.bootstrap import PersonServices
from services.domain import AccountRole

_TABS = {
    "Overview": overview.draw,
    words.USERS: people.draw,
    words.MODELS: models.draw,
    words.SIGN_UPS: sign_ups.draw,
    "Settings": settings.draw,
    "Audit": audit.draw,
    "Health": health.draw,
}


def _draw_tabs(person: PersonServices) -> None:
    st.set_page_config(layout="wide")
    with st.container(gap=2):
        st.title(words.ADMIN, anchor=False)
        st.markdown(":gray[Totals only: admins cannot read chats.]")
    tabs = st.tabs(list(_TABS), key="tab", on_change="rerun", bind="query-params")
    for tab, draw in zip(tabs, _TABS.values(), strict=True):
        if tab.open:
            with tab:
                draw(person)


def _draw_refusal() -> None:
    with empty_page("admins-only", "Admins only", "Your account cannot open this page."):
        st.button("Back to your chats", key="way-out", on_click=go_to_conversation, args=[None])


person = person_services()
sidebar.draw_top()
with show_errors():
    if person.account.role is AccountRole.ADMIN:  # asked before anything else is
        _draw_tabs(person)
    else:
        _draw_refusal()
said = turns.draw_refusals(has_composer=False)
open_dialog()
sidebar.draw_rest(person)
callbacks().forget(said)
