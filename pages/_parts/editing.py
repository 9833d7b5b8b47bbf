"""Parts of dialogs: saving a document unless another tab has changed it since the dialog opened; confirmation."""

from collections.abc import Callable
from typing import TypeVar, cast

import streamlit as st

from pages._parts import words
from pages._parts.elements import draw_plain_text, right_row
from pages._session import tell
from pages._tab import tab
from services.errors import AppError, SignedOut, Stale

Document = TypeVar("Document")


def seen_at_opening(key: str, now: Document) -> Document:
    """Return the document that was stored when the dialog with the field *key* was opened.

    Before the field is drawn that is *now*; after `save` it is the document that `save` drew.
    """
    # a field without a seen document is left from the dialog that created it, which has just closed
    if key not in st.session_state or tab().seen[0] != key or tab().seen[1] is None:
        tab().seen = key, now
    return cast(Document, tab().seen[1])


def is_submitted(label: str = words.SAVE) -> bool:
    """Draw the buttons of a dialog's form; return True if *label* was pressed. Cancel closes the dialog."""
    # the stylesheet draws them from right to left
    with st.container(horizontal=True, key="form-buttons"):
        # the first button of a form is pressed by Enter
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
    """Call *act*, which replaces the document that was seen, close the dialog, and tell the *news*.

    If another tab has replaced the document since, draw that one: saving again replaces it.
    """
    try:
        act()
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
        if news:
            tell(news)
        st.rerun()


def is_confirmed(label: str, key: str) -> bool:
    """Draw Cancel, and *label* as the button of a deletion; return True if that was pressed."""
    with right_row():
        if st.button(words.CANCEL, key="cancel-deletion"):
            st.rerun()
        return st.button(label, type="primary", key=f"danger-{key}")
