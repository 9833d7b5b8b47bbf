"""Elements that many pages draw: rows, frameless buttons, menus, tables, and a field for editing text in place."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Literal, NamedTuple, TypeVar

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages._parts import words
from pages._parts.form_fields import hidden_fields
from pages._session import attempt
from pages._tab import tab
from services.domain import Preferences, Space
from services.errors import ExportRunning, NewerVersion, Tampered, UnreadableInput

Choice = TypeVar("Choice")
_WORD_JOINER = "\u2060"  # an invisible character
Gap = Literal["xxsmall", "small"] | int | None


def row(key: str | None = None, gap: Gap = "small", *, wrap: bool = True) -> DeltaGenerator:
    """Return a container that places elements side by side."""
    return st.container(horizontal=True, vertical_alignment="center", gap=gap, wrap=wrap, key=key)


def right_row() -> DeltaGenerator:
    """Return a container that places buttons at the right edge."""
    return st.container(horizontal=True, horizontal_alignment="right")


def draw_cancel(key: str) -> None:
    """Draw the button that closes a dialog with a native form."""
    if st.button(words.CANCEL, key=key, type="tertiary"):
        st.rerun()


def empty_page(key: str, title: str, sentence: str, above: int = 120) -> DeltaGenerator:
    """Draw *title* and *sentence* in the middle of the page, below *above* free pixels; return their container."""
    page = st.container(key=key, horizontal_alignment="center", gap="xsmall")
    with page:
        if above:
            st.space(above)
        st.title(title, anchor=False, text_alignment="center")
        st.markdown(f":gray[{sentence}]", text_alignment="center")
    return page


def quiet_button(
    label: str,
    icon: str | None,
    key: str,
    act: Callable[..., object],
    *args: object,
    tip: str | None = None,
    shortcut: str | None = None,
    is_wide: bool = False,
) -> None:
    """Draw a frameless button with the Material Symbol *icon*; the page shows an AppError that *act* raises."""
    st.button(
        label,
        icon=f":material/{icon}:" if icon else None,
        key=key,
        type="tertiary",
        help=tip,
        shortcut=shortcut,
        width="stretch" if is_wide else "content",
        on_click=attempt,
        args=[act, *args],
    )


def key_showing(name: str, value: object) -> str:
    """Return a key for a field in a menu so that the field shows *value*: a new key if the field now has another value.

    A new key replaces the field. Setting its value in the session state would not work: while its menu is closed, a
    field ignores the set value, and sends its old value with the next run as if the user had chosen it again. Setting
    the value would also undo a choice that the user makes while the page is being drawn.
    """
    key, number = tab().field_keys.get(name, (name, 0))
    if st.session_state.get(key, value) != value:
        key, number = f"{name}-{number + 1}", number + 1
    tab().field_keys[name] = key, number
    return key


def distinct(labels: Mapping[Choice, str]) -> dict[Choice, str]:
    """Return *labels*, adding invisible characters to each label that equals an earlier one.

    Fields send only the label of the chosen option, and Streamlit takes the last of several equal labels.
    """
    found: dict[Choice, str] = {}
    for choice, label in labels.items():
        while label in found.values():
            label += _WORD_JOINER
        found[choice] = label
    return found


def draw_unread(document: Preferences | Space) -> None:
    """If *document* could not be read, draw a line that says why."""
    if document.is_newer:
        st.caption(f":material/update: {NewerVersion.public}")
    elif not document.is_verified:
        st.caption(f":material/gpp_bad: {Tampered.public}")


def popover(label: str, icon: str, key: str) -> DeltaGenerator:
    """Return a popover with a frameless button."""
    return st.popover(label, icon=f":material/{icon}:", type="tertiary", key=key)


def icon_button(label: str, icon: str, attributes: str) -> str:
    """Return the HTML of a button that shows only an icon."""
    return f'<button class="db-act" {attributes} aria-label="{label}" title="{label}" data-icon="{icon}"></button>'


def draw_wide_menu(label: str, icon: str, key: str, items: str, beside: str = "") -> None:
    """Draw a button as wide as the sidebar that opens a menu of *items* (assets/page/menu.js).

    *items*, *beside* (drawn after the button): HTML.
    """
    st.container(key=key).html(
        f'<button class="db-opener" data-place="{key}" data-icon="{icon}" aria-haspopup="menu"><span>{escape(label)}</span></button>'
        f"<template>{items}</template>{beside}"
    )


def download_form(
    address: str, fields: Mapping[str, str], content: str = "", attributes: str = ""
) -> str:
    """Return the HTML of a form that downloads from the URL *address* with *fields* as its query."""
    return (
        f'<form action="{address}" class="db-menu" data-running="{escape(ExportRunning.public)}" {attributes}>'
        f"{hidden_fields(fields)}{content}</form>"
    )


def draw_download(address: str, label: str = "Download CSV", **fields: str) -> None:
    """Draw a button that downloads from the URL *address* with *fields* as its query."""
    icon = '<span class="db-icon" aria-hidden="true">download</span>'
    button = f'<button type="submit">{icon}{label}</button>'
    st.html(download_form(address, fields, button), width="content")


def draw_metrics(figures: Mapping[str, str]) -> None:
    with row():
        for label, figure in figures.items():
            st.metric(label, figure, width="content")


def draw_refusal(sentence: str) -> None:
    """Draw the reason why an entry or action was refused; call this right after drawing the field or button."""
    st.html(f'<p role="alert" class="db-refusal">{escape(sentence)}</p>')


class GridRow(NamedTuple):
    """A row of a table: a label, which may be a link, and a figure for each column."""

    label: str
    figures: Sequence[str]
    link: str = ""


def draw_grid(corner: str, columns: Sequence[str], rows: Iterable[GridRow]) -> None:
    """Draw a table of plain text whose labels are never shortened."""
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in (corner, *columns))
    lines = "".join(
        f'<tr><th scope="row">{_label(row)}</th>'
        + "".join(f"<td>{escape(figure)}</td>" for figure in row.figures)
        + "</tr>"
        for row in rows
    )
    st.html(f'<div class="db-grid" tabindex="0"><table><tr>{heads}</tr>{lines}</table></div>')


def _label(row: GridRow) -> str:
    text = escape(row.label)
    return f'<a href="{escape(row.link)}" target="_self">{text}</a>' if row.link else text


def draw_switch(label: str, is_on: bool, act: Callable[[bool], object]) -> None:
    """Draw a switch; call *act* with the new value. The page shows an AppError that *act* raises."""
    # set in each run, because another tab may have changed the value, or *act* may have failed
    st.session_state[label] = is_on
    st.toggle(label, key=label, on_change=lambda: attempt(act, bool(st.session_state[label])))


def draw_choice(
    label: str,
    options: Mapping[Choice, tuple[str, str]],
    stored: Choice,
    act: Callable[[Choice], None],
) -> None:
    """Draw *options* (name and caption) as radio buttons, with *stored* selected; call *act* with a new choice.

    The page shows an AppError that *act* raises.
    """
    # a separate key for each stored value: otherwise the old value would stay selected
    key = f"{label}-{stored}"
    captions = [caption for _, caption in options.values()]

    def choose() -> None:
        chosen = st.session_state[key]
        st.session_state[key] = stored  # the stored value stays selected if *act* fails
        attempt(lambda: act(one_of(options, chosen)))

    st.radio(
        label,
        options,
        index=list(options).index(stored),
        format_func=lambda one: options[one][0],
        captions=captions if any(captions) else None,
        key=key,
        on_change=choose,
    )


def one_of(options: Iterable[Choice], value: object) -> Choice:
    """Return the option that equals *value*, a widget's value in a callback. Raise UnreadableInput if none does."""
    for option in options:
        if option == value:
            return option
    raise UnreadableInput


def draw_plain_text(text: str) -> None:
    """Draw *text* as it is, not as Markdown, with wrapped lines and a button that copies it."""
    st.code(text, language=None, wrap_lines=True)


def draw_field(
    noun: str,
    text: str,
    limit: int,
    key: str,
    save: Callable[..., None],
    leave: Callable[[], None],
    subject: object,
    save_key: str,
) -> None:
    """Draw a field for editing *text*: Save, Enter or leaving the field calls `save(subject, text)`, Escape calls *leave*.

    *save_key*: the key of the button Save. Pressing it also leaves the field, so *save* may be called twice.
    assets/page/title.js handles Enter and Escape.
    """

    def act() -> None:
        attempt(save, subject, str(st.session_state[key]))

    with row(f"editing-{noun}", gap=None, wrap=False):
        st.text_input(
            noun.capitalize(),
            text,
            max_chars=limit,
            label_visibility="collapsed",
            key=key,
            on_change=act,
        )
        # for assets/page/paste.js: Streamlit does not say the limit of a narrow field
        st.html(f'<i hidden data-most="{limit}"></i>')
        st.button(words.SAVE, icon=":material/check:", key=save_key, type="tertiary", on_click=act)
        quiet_button(words.CANCEL, "close", f"leave-{noun}", leave)
