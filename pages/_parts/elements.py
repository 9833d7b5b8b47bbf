"""Elements that many pages draw: rows, quiet buttons, and a field in the place of what it changes."""

from collections.abc import Callable
from typing import Literal

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages._parts import words

Gap = Literal["xxsmall", "small"] | int | None


def row(key: str | None = None, gap: Gap = "small", *, wrap: bool = True) -> DeltaGenerator:
    """Return a container of elements side by side."""
    return st.container(horizontal=True, vertical_alignment="center", gap=gap, wrap=wrap, key=key)


def quiet_button(
    label: str,
    icon: str | None,
    key: str,
    act: Callable[..., None],
    *args: object,
    tip: str | None = None,
    shortcut: str | None = None,
    is_wide: bool = False,
) -> None:
    """Draw a button without a frame, with the Material Symbol *icon*."""
    st.button(
        label,
        icon=f":material/{icon}:" if icon else None,
        key=key,
        type="tertiary",
        help=tip,
        shortcut=shortcut,
        width="stretch" if is_wide else "content",
        on_click=act,
        args=args,
    )


def draw_field(
    noun: str, text: str, limit: int, key: str, save: Callable[..., None], subject: object
) -> None:
    """Draw *text* as a field: Enter or leaving it calls `save(subject, key)`, Escape keeps *text*.

    assets/page/title.js hears the keys. While the field is there, the session has an entry `editing-{noun}`.
    """
    name = f"editing-{noun}"
    with row(name, gap=None, wrap=False):
        st.text_input(
            noun.capitalize(),
            text,
            max_chars=limit,
            label_visibility="collapsed",
            key=key,
            on_change=save,
            args=[subject, key],
        )
        quiet_button(words.CANCEL, "close", f"leave-{noun}", st.session_state.pop, name, None)
