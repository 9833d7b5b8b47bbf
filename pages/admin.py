"""The admin page: counts, costs and limits, never content."""

import streamlit as st

from pages._admin import audit, health, models, overview, settings, sign_ups, users
from pages._parts import frame, words
from pages._parts.elements import empty_page
from pages._session import go_to_conversation
from services.bootstrap import UserServices
from services.domain import AccountRole
from services.errors import AdminsOnly

_TABS = {
    "Overview": overview.draw,
    words.USERS: users.draw,
    "Models": models.draw,
    "Sign-ups": sign_ups.draw,
    words.SETTINGS: settings.draw,
    "Audit": audit.draw,
    "Health": health.draw,
}


def _draw_tabs(user: UserServices) -> None:
    frame.draw_heading(words.ADMIN, "Totals only: admins cannot read chats.")
    with st.container(key="wide-page"):
        tabs = st.tabs(list(_TABS), key="tab", on_change="rerun", bind="query-params")
    for tab, draw in zip(tabs, _TABS.values(), strict=True):
        if tab.open:
            with tab:
                draw(user)


with frame.page() as user:
    is_admin = user.account.role is AccountRole.ADMIN  # checked before any other read
    try:
        if is_admin:
            _draw_tabs(user)
    except AdminsOnly:  # the role was taken away a moment ago
        is_admin = False
    if not is_admin:
        with empty_page("admins-only", "Admins only", "Your account cannot open this page."):
            st.button("Back to your chats", key="way-out", on_click=go_to_conversation, args=[None])
