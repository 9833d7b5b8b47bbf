"""The notice that the database is unreachable, shown on every page until the outage ends."""

from html import escape

import streamlit as st

from pages._parts import browser
from services import bootstrap
from services.errors import StoreUnavailable

_ABOUT_THE_PAGE = "Showing the last loaded version. Your drafts are kept. "


def draw() -> None:
    """Draw the notice during an outage; always draw the component that reruns the page when an outage begins or ends."""
    health = bootstrap.current_app().health
    is_away = health.is_database_away
    with st.container(key="outage"):
        if is_away:
            is_signed_in = st.user.get("sid") not in (None, *bootstrap.ENDS, bootstrap.UNKNOWN)
            st.html(
                f'<p role="status"><strong>{escape(health.outage or StoreUnavailable.outage)}</strong> '
                f"{_ABOUT_THE_PAGE if is_signed_in else ''}Reconnecting…</p>"
            )
        browser.watch_database(is_away=is_away)


def wait() -> None:
    """Draw the page of a tab whose user is unknown because the database was unreachable when the tab connected."""
    if not bootstrap.current_app().health.is_database_away:
        browser.reload()
    with st.container(key="unknown", horizontal_alignment="center", gap="xsmall"):
        st.space(120)
        st.title("Reconnecting…", anchor=False, text_alignment="center")
        st.markdown(":gray[You are still signed in.]", text_alignment="center")
