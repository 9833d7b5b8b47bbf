"""The export of everything that a user has: the button that downloads it, and its progress."""

import streamlit as st

from pages._parts import words
from pages._parts.elements import draw_download
from pages._session import find_user, show_errors


def draw_button() -> None:
    zone = st.context.timezone or "UTC"
    draw_download("/export/everything.zip", "Export everything", zone=zone)


@st.fragment(run_every=2.0)
def draw_progress() -> None:
    """Draw the progress of the export that was begun last."""
    with show_errors():
        export = find_user().export
        if export and not export.is_over:
            share = export.done / export.total if export.total else 1.0
            of = f"{words.number(export.done)} of {words.count(export.total, 'chat')}"
            st.progress(share, f"Exporting: {of}")
