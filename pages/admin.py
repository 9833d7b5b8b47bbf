"""The admin page: counts, costs and limits, never the content of chats."""

import streamlit as st

from pages._admin import audit, health, models, overview, settings, sign_ups, users
from pages._parts import frame, words
from pages._parts.elements import empty_page
from pages._session import go_to_conversation
from services import bootstrap
from services.bootstrap import UserServices
from services.domain import AccountRole
from services.errors import AdminsOnly

_SIGN_UPS = "Sign-ups"
_OF_SEVERAL_USERS = (words.USERS, _SIGN_UPS)
_TABS = {
    "Overview": overview.draw,
    words.USERS: users.draw,
    "Models": models.draw,
    _SIGN_UPS: sign_ups.draw,
    words.SETTINGS: settings.draw,
    "Audit": audit.draw,
    "Health": health.draw,
}


def _draw_tabs(user: UserServices) -> None:
    frame.draw_heading(words.ADMIN, "Totals only: admins cannot read chats.")
    shown = dict(_TABS)
    if bootstrap.current_app().is_alone:
        for name in _OF_SEVERAL_USERS:
            del shown[name]
    with st.container(key="wide-page"):
        tabs = st.tabs(list(shown), key="tab", on_change="rerun", bind="query-params")
    for tab, draw in zip(tabs, shown.values(), strict=True):
        if tab.open:
            with tab:
                draw(user)


with frame.page() as user:
    is_admin = user.account.role is AccountRole.ADMIN  # checked before anything else is read
    try:
        if is_admin:
            _draw_tabs(user)
    except AdminsOnly:  # the user lost the role a moment ago
        is_admin = False
    if not is_admin:
        with empty_page("admins-only", "Admins only", "Your account cannot open this page."):
            st.button("Back to your chats", key="way-out", on_click=go_to_conversation, args=[None])
