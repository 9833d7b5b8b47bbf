"""A database that is away: said on every page, asked about by the browser, and over by itself.

What was read stays on the page, what is typed stays in the browser, and a reply that is coming waits in memory.
"""

import streamlit as st

from pages._parts import browser
from services import bootstrap

_ABOUT_THE_PAGE = "You see what was loaded last; your drafts are kept. "


def draw() -> None:
    """The line that says so, while it is so; and the watch that draws the page anew when that changes."""
    is_away = bootstrap.server_health().is_database_away
    with st.container(key="outage"):
        if is_away:
            is_signed_in = st.user.get("sid") not in (None, bootstrap.ENDED, bootstrap.UNKNOWN)
            st.html(
                '<p role="status"><strong>Daybook cannot reach its database.</strong> '
                f"{_ABOUT_THE_PAGE if is_signed_in else ''}Reconnecting…</p>"
            )
        browser.watch_database(is_away=is_away)


def wait() -> None:
    """Until it is known who sits here: a tab says so once, when it connects, and nobody could tell then."""
    if not bootstrap.server_health().is_database_away:
        browser.reload()
    with st.container(key="unknown", horizontal_alignment="center", gap="xsmall"):
        st.space(120)
        st.title("Reconnecting…", anchor=False, text_alignment="center")
        st.markdown(":gray[You are still signed in.]", text_alignment="center")
