"""What stands below the composer: the memory of the conversation, its meter, and Stop."""

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages._parts import memory, models
from pages._parts.turns import Turn
from services.chat import LiveTurn
from services.domain import Thread
from services.llm import ModelInfo
from services.memory import ContextPlan


def place_tools() -> DeltaGenerator:
    """The row for `draw_tools`."""
    return st.bottom.container(
        horizontal=True, vertical_alignment="center", gap="xxsmall", key="composer-tools"
    )


def draw_tools(
    info: ModelInfo, thread: Thread | None, plan: ContextPlan | None, turn: Turn | None
) -> None:
    """How the model remembers *thread*, or which model there is; and Stop while *turn* can be stopped."""
    if thread:
        memory.draw_policy(thread)
        memory.draw_meter(plan, info)
    else:
        st.caption(models.line(), width="stretch")
    st.space("stretch")
    if isinstance(turn, LiveTurn):  # another process's request cannot be ended from here
        st.button(
            "Stop",
            icon=":material/stop_circle:",
            type="tertiary",
            key="stop",
            shortcut="Escape",
            on_click=turn.stop,
        )
