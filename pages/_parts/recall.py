"""Whether what was said in other conversations is brought back in one."""

import streamlit as st

from pages._session import find_person, keep_errors

_SWITCH = "recalls-elsewhere"


def draw_switch(*, is_on: bool) -> None:
    """Whether other conversations are looked through, too."""
    st.session_state[_SWITCH] = is_on  # it may have been switched in another tab
    st.toggle("Look in my other conversations", key=_SWITCH, on_change=_switch)
    st.caption(
        "Where the memory policy is Retrieval, the model also sees what was said in other conversations and "
        "your prompt is about. A space keeps to itself."
        if is_on
        else "Where the memory policy is Retrieval, only the conversation itself is looked through."
    )


def _switch() -> None:
    with keep_errors():
        find_person().profile.recall_elsewhere(is_wanted=bool(st.session_state[_SWITCH]))
