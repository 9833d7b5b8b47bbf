"""The row below the composer: memory policy, context meter, model, and Stop."""

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages._parts import browser, memory, models, preferences, words
from pages._parts.elements import quiet_button
from pages._session import ask_for
from services import bootstrap
from services.bootstrap import ChatParts, ThreadView
from services.domain import NewConversation
from services.domain.models import ModelState


def place_tools() -> DeltaGenerator:
    """Create and return the empty row that `draw_tools` fills."""
    return st.bottom.container(
        horizontal=True,
        vertical_alignment="center",
        gap="xxsmall",
        wrap=False,
        key="composer-tools",
    )


def draw_tools(services: ChatParts, view: ThreadView, new: NewConversation) -> None:
    """Draw the menus for a conversation's memory policy and model and, while a reply streams, the Stop button.

    *new*: the choices for a new conversation.
    """
    model = bootstrap.current_app().health.model
    memory.draw_policy(services, view)
    if view.is_new:
        label = words.CUSTOM_INSTRUCTIONS if new.instructions else words.INSTRUCTIONS
        key = "new-own-instructions" if new.instructions else "new-instructions"
        quiet_button(label, "sticky_note_2", key, ask_for, preferences.instructions_dialog, None)
        if new.model or new.policy or new.instructions:
            browser.mark_choices()
    else:
        memory.draw_unsent(services, view)
        memory.draw_meter(view)
    if not view.is_new or model in (ModelState.REMOTE, ModelState.READY):
        models.draw_picker(services, view)
    else:
        models.draw_line(services)
    st.space("stretch")
    if view.turn:
        quiet_button("Stop", "stop_circle", "stop", view.turn.stop, shortcut="Escape")
