"""Parts of dialogs: saving a document unless another tab has changed it meanwhile, and confirming a deletion."""

from collections.abc import Callable
from typing import TypeVar, cast

import streamlit as st

from pages._parts import words
from pages._parts.elements import draw_plain_text, right_row
from pages._session import run_to_end, tell
from pages._tab import tab
from services.errors import AppError, SignedOut, Stale

Document = TypeVar("Document")


def seen_at_opening(key: str, now: Document) -> Document:
    """Return the document that was stored when the dialog with the field *key* was opened.

    In the first run of a dialog, that is *now*; once `save` has drawn a newer version, the newer version is returned.
    """
    # true if the dialog was just opened: its field is new, or the field remains from an earlier dialog without its document
    if key not in st.session_state or tab().seen[0] != key or tab().seen[1] is None:
        tab().seen = key, now
    return cast(Document, tab().seen[1])


def is_submitted(label: str = words.SAVE) -> bool:
    """Draw the buttons *label* and Cancel of a dialog's form; return True if *label* was pressed."""
    # the stylesheet places the buttons from right to left
    with st.container(horizontal=True, key="form-buttons"):
        # this button comes first, because Enter presses the first button of a form
        is_pressed = st.form_submit_button(label, type="primary")
        if st.form_submit_button(words.CANCEL):
            st.rerun()
    return is_pressed


def save(
    act: Callable[[], None],
    reread: Callable[[], Document],
    as_text: Callable[[Document], str],
    news: str | None = None,
) -> None:
    """Call *act*, which replaces the document that the user saw; then close the dialog and show *news*.

    If another tab has replaced the document meanwhile, draw the new version; saving again replaces that version.
    """
    try:
        with run_to_end():
            act()
            if news:
                tell(news)
    except SignedOut:
        raise
    except Stale:
        now = reread()
        tab().seen = tab().seen[0], now
        st.warning(words.CHANGED_ELSEWHERE)
        draw_plain_text(as_text(now))
    except AppError as error:
        st.error(error.public)
    else:
        st.rerun()


def is_confirmed(label: str, key: str) -> bool:
    """Draw the button Cancel and a red button *label*; return True if *label* was pressed."""
    with right_row():
        if st.button(words.CANCEL, key="cancel-deletion"):
            st.rerun()
        return st.button(label, type="primary", key=f"danger-{key}")
