"""The parts that all pages except the chat page share: sidebar, heading, dialogs and the refusals of callbacks."""

from collections.abc import Generator
from contextlib import contextmanager

import streamlit as st

from pages._parts import conversation_menu, sidebar, turns
from pages._session import open_dialog, show_errors, user_services
from pages._tab import tab
from services.bootstrap import UserServices


@contextmanager
def page() -> Generator[UserServices]:
    """Draw the sidebar, refusals and dialog around a page's content; yield the signed-in user's services."""
    user = user_services()
    sidebar.draw_top()
    with show_errors():
        yield user
    said = turns.draw_refusals(has_composer=False)
    is_dialog_open = open_dialog()
    conversation_menu.end_printing()
    sidebar.draw_rest(user)
    tab().callbacks.forget(said)
    if not is_dialog_open:  # a rerun would close the dialog
        turns.await_news()


def draw_heading(title: str, sentence: str) -> None:
    with st.container(gap=2):
        st.title(title, anchor=False)
        st.markdown(f":gray[{sentence}]")
