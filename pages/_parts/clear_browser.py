"""The dialog that deletes what Daybook has stored in this browser."""

import streamlit as st

from pages._parts.elements import draw_cancel
from pages._session import show_errors

LABEL = "Clear this browser"
# assets/page/data.js handles the button
_BUTTON = f"""
  <div class="db-form"><button type="button" class="db-danger" data-clear-tab>{LABEL}</button></div>"""


@st.dialog(f"{LABEL}?", width="small", on_dismiss="rerun")
@show_errors()
def clear_dialog() -> None:
    """Ask for confirmation before the data in this browser is deleted."""
    st.markdown("Deletes the unsent drafts of all tabs, the theme, and whether Enter sends.")
    st.html(_BUTTON)
    draw_cancel("cancel-clear")
