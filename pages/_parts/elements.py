"""Elements that many pages draw: rows, quiet buttons, menus, and a field in the place of what it changes."""

from collections.abc import Callable, Iterable
from typing import Literal

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages._parts import words

Gap = Literal["xxsmall", "small"] | int | None


def row(key: str | None = None, gap: Gap = "small", *, wrap: bool = True) -> DeltaGenerator:
    """Return a container of elements side by side."""
    return st.container(horizontal=True, vertical_alignment="center", gap=gap, wrap=wrap, key=key)


def right_row() -> DeltaGenerator:
    """Return a container of buttons at the right edge."""
    return st.container(horizontal=True, horizontal_alignment="right")


def empty_page(key: str, title: str, sentence: str, top: int = 120) -> DeltaGenerator:
    """Draw *title* and *sentence* centered, *top* pixels below the element before; return their container."""
    page = st.container(key=key, horizontal_alignment="center", gap="xsmall")
    with page:
        st.space(top)
        st.title(title, anchor=False, text_alignment="center")
        st.markdown(f":gray[{sentence}]", text_alignment="center")
    return page


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


def popover(label: str, icon: str, key: str, *, is_wide: bool = False) -> DeltaGenerator:
    """Return a popover whose button has no frame."""
    width = "stretch" if is_wide else "content"
    return st.popover(label, icon=f":material/{icon}:", type="tertiary", width=width, key=key)


def menu(
    label: str,
    options: Iterable[str],
    icon: str,
    key: str,
    act: Callable[..., None],
    *args: object,
    is_wide: bool = False,
) -> None:
    """Draw a menu whose button has no frame. What was chosen is in the session state under *key*."""
    st.menu_button(
        label,
        list(options),
        icon=f":material/{icon}:",
        key=key,
        type="tertiary",
        width="stretch" if is_wide else "content",
        wrap=False if is_wide else None,
        on_click=act,
        args=args,
    )


def draw_plain_text(text: str) -> None:
    """Draw *text* as it is, wrapped, with a button that copies it."""
    st.code(text, language=None, wrap_lines=True)


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
