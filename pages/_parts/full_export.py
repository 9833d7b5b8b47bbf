"""The export of everything that a user has: the button that downloads it, and its progress."""

import streamlit as st

from pages._parts import words
from pages._parts.elements import draw_download
from pages._session import find_user, show_errors
from pages._tab import tab
from services.bootstrap import FullExport


def draw_button() -> None:
    zone = st.context.timezone or "UTC"
    draw_download("/export/everything.zip", "Export everything", zone=zone)


def draw_progress() -> None:
    """Draw the progress of the latest export until it ends; draw nothing if a dialog is about to open."""
    with show_errors():
        # The fragment is drawn only while an export runs, because with each run of a fragment the browser sends the values
        # of all widgets. It is not drawn while a dialog is open, because the page is rerun at the end of the export, which
        # would close the dialog and lose what the user has typed or pressed there.
        if _running() and tab().dialog is None:
            _draw_bar()


@st.fragment(run_every=2.0)
def _draw_bar() -> None:
    with show_errors():
        export = _running()
        if export is None:
            st.rerun()
        share = export.done / export.total if export.total else 1.0
        of = f"{words.number(export.done)} of {words.count(export.total, 'chat')}"
        st.progress(share, f"Exporting: {of}")


def _running() -> FullExport | None:
    export = find_user().export
    return export if export and not export.is_over else None
