"""The dialog "About": the version, what is protected, where to ask, and the keyboard shortcuts."""

import streamlit as st

from pages._parts import words
from services import bootstrap

KEYS = """
  <div class="db-menu">
    <button type="button" data-keys><span class="db-icon" aria-hidden="true">keyboard</span>Keyboard shortcuts</button>
  </div>"""
_FOR_ADMINS = "The README and the folder docs of this Daybook answer most questions."


@st.dialog(words.ABOUT, on_dismiss="rerun")
def about_dialog(*, is_admin: bool) -> None:
    app = bootstrap.current_app()
    st.markdown(f"Daybook {app.health.version}")
    seen = "Admins see accounts and totals, never chats."
    if app.is_alone:
        seen = "Daybook opens on this computer only, by its secret address."
    st.markdown("\n".join(f"* {line}" for line in (*protection(), seen)))
    st.markdown(_FOR_ADMINS if is_admin else "Questions? Ask your admin.")
    st.html(KEYS, width="content")


def protection() -> tuple[str, str]:
    """Return a sentence about messages that are stored, and one about messages that are in use."""
    stored = "Messages are stored as plain text."
    if not bootstrap.current_app().is_plain:
        stored = "Messages are encrypted before they are stored; a stolen database or backup shows none of them."
    return stored, "While you are signed in, the server and the AI model can read them."
