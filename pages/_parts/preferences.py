"""What a person tells the model to be, here or everywhere, and which model is their usual one.

What was typed stays in the dialog where it cannot be saved: nobody should type it twice.
"""

import streamlit as st

from pages._session import person_services, show_errors
from services.domain import Conversation
from services.errors import Tampered
from services.store.profile import LONGEST_INSTRUCTIONS

_UNVERIFIED = (
    ":material/gpp_bad: What was stored here could not be verified. Please tell an operator."
)


@st.dialog("Instructions", on_dismiss="rerun")
def instructions_dialog(conversation: Conversation) -> None:
    """What the model is told in one conversation."""
    person = person_services()
    with show_errors():
        try:
            now = person.conversations.instructions(conversation.id)
        except Tampered:
            st.caption(_UNVERIFIED)
            now = ""
        with st.form("instructions", border=False):
            text = _text_area(
                "What the model is told here, before anything is said",
                now,
                "Empty: your own instructions from Preferences, if you have some",
                key=f"instructions-{conversation.id}",
            )
            if _saved():
                person.conversations.set_instructions(conversation.id, text)
                st.rerun()
        if now is not None and st.button(
            "Use my own instead", icon=":material/undo:", type="tertiary", key="use-my-own"
        ):
            person.conversations.set_instructions(conversation.id, "")
            st.rerun()


@st.dialog("Preferences", on_dismiss="rerun")
def preferences_dialog() -> None:
    """What holds for all conversations that have no choice of their own."""
    person = person_services()
    with show_errors():
        now, usual = person.profile.preferences(), person.chat.setup(None).info.name
        names = [offer.info.name for offer in person.chat.models]
        if not now.is_verified:
            st.caption(_UNVERIFIED)
        with st.form("preferences", border=False):
            name = usual
            if len(names) > 1:
                name = st.selectbox(
                    "Your default model",
                    names,
                    index=names.index(usual),
                    key="default-model",
                )
            text = _text_area(
                "What the model is told, where a conversation says nothing else",
                now.instructions,
                "Empty: what this Daybook tells it",
                key="my-instructions",
            )
            if _saved():
                if name != usual:
                    person.profile.set_model(name)
                if text != (now.instructions or ""):
                    person.profile.set_instructions(text)
                st.rerun()


def _text_area(label: str, now: str | None, placeholder: str, key: str) -> str:
    return st.text_area(
        label,
        now or "",
        height=220,
        max_chars=LONGEST_INSTRUCTIONS,
        placeholder=placeholder,
        key=key,
    )


def _saved() -> bool:
    with st.container(horizontal=True, horizontal_alignment="right"):
        return st.form_submit_button("Save", type="primary")
