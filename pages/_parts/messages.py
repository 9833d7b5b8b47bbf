"""Messages: a prompt on its tinted block, a reply on the bare page, and how a reply ended."""

from typing import NamedTuple

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages._parts import browser, safe_md, turns
from services.domain import Message, Outcome, Role, Thread
from services.errors import AppError

_UNVERIFIED = ":gray[:material/gpp_bad: This message could not be verified and is not shown.]"


class _Ending(NamedTuple):
    """How a reply ended that is not whole, in words and as a picture."""

    name: str
    icon: str
    sentence: str


_ENDINGS = {
    Outcome.STOPPED: _Ending("Stopped", ":material/stop_circle:", "You stopped this reply."),
    Outcome.FAILED: _Ending(
        "Broken off", ":material/cloud_off:", "The model broke off. What had come is kept."
    ),
    Outcome.INTERRUPTED: _Ending(
        "Interrupted",
        ":material/bolt:",
        "The server stopped in the middle of this reply. What had come is kept.",
    ),
}


def draw(message: Message, *, is_last: bool = False) -> None:
    """One message, whoever wrote it: text from elsewhere is made safe."""
    is_prompt = message.role is Role.USER
    with st.chat_message(message.role, width="content" if is_prompt else "stretch"):
        st.markdown(safe_md.body(message.body) if message.is_verified else _UNVERIFIED)
        ending = _ENDINGS.get(message.outcome)
        if ending and not is_last:  # below the last there is more to say: `draw_end`
            st.badge(ending.name, icon=ending.icon, color="orange", help=ending.sentence)


def draw_coming() -> DeltaGenerator:
    """The place of a reply that is coming, with room below for what will stand there."""
    with st.chat_message(Role.ASSISTANT):
        box = st.empty()
    st.space(32)
    return box


def draw_end(thread: Thread, failure: AppError | None) -> None:
    """What can be done after the last message: copy it or ask again; and why a reply is missing."""
    last = thread.branch()[-1]
    is_answered = last.role is Role.ASSISTANT and last.outcome is Outcome.COMPLETE
    with st.container(
        horizontal=True,
        vertical_alignment="center",
        gap=2 if is_answered else "small",
        key="acts-last" if is_answered else "missing-reply",
    ):
        if is_answered:
            browser.copy_button(last.body, key=f"copy-{last.id}")
        elif failure:
            st.error(failure.public, icon=":material/cloud_off:")
        elif ending := _ENDINGS.get(last.outcome):
            st.badge(ending.name, icon=ending.icon, color="orange")
            st.caption(ending.sentence, width="stretch")
        else:
            st.caption("No reply has come.", width="stretch")
        st.button(
            "Write again" if is_answered else "Retry",
            icon=":material/refresh:",
            type="tertiary" if is_answered else "secondary",
            key="retry",
            on_click=turns.retry,
            args=[thread.conversation.id],
        )
