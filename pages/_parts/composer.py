"""The row below the composer: memory policy, context meter, model, and Stop."""

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages._parts import memory, models, preferences, words
from pages._parts.elements import quiet_button
from pages._parts.turns import Turn
from pages._session import ask_for
from services import bootstrap
from services.bootstrap import Chat, Setup
from services.domain import NewConversation, Thread
from services.domain.context import ContextPlan
from services.domain.models import ModelState


def place_tools() -> DeltaGenerator:
    """The row for `draw_tools`."""
    return st.bottom.container(
        horizontal=True,
        vertical_alignment="center",
        gap="xxsmall",
        wrap=False,
        key="composer-tools",
    )


def draw_tools(
    chat: Chat,
    thread: Thread | None,
    setup: Setup,
    plan: ContextPlan | None,
    turn: Turn | None,
    new: NewConversation,
) -> None:
    """Draw the memory policy and model of *thread*, or of a conversation that begins as *new*, and Stop while a
    *turn* is coming."""
    model = bootstrap.server_health().model
    memory.draw_policy(chat, thread, chat.choices.policy_of(new, setup.space))
    if not thread:
        label = words.CUSTOM_INSTRUCTIONS if new.instructions else words.INSTRUCTIONS
        key = "new-own-instructions" if new.instructions else "new-instructions"
        quiet_button(label, "sticky_note_2", key, ask_for, preferences.instructions_dialog, None)
    else:
        memory.draw_unsent(chat, thread, plan)
        memory.draw_meter(chat, thread, setup, plan)
    if thread or model in (ModelState.REMOTE, ModelState.READY):
        models.draw_picker(chat, thread, setup)
    else:
        st.caption(models.line(chat), width="stretch")
    st.space("stretch")
    if turn:
        quiet_button("Stop", "stop_circle", "stop", turn.stop, shortcut="Escape")
