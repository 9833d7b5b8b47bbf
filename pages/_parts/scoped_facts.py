"""The notes of one space or one conversation, in a dialog: listed, added, changed, deleted and restored.

Callbacks act, and the next run of the dialog draws the result. A text that cannot be saved stays in the dialog; a text
that was changed in another tab is shown before it is replaced.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import uuid4

import streamlit as st

from pages._parts import safe_md, words
from pages._parts.elements import draw_changed_elsewhere, menu, quiet_button, right_row, row
from pages._session import ask_for, find_person, person_services, show_errors
from services.bootstrap import PersonServices
from services.domain import Conversation, ConversationId, Fact, FactId, SpaceId
from services.domain.limits import LONGEST_FACT
from services.errors import AppError, NotFound, SignedOut, Stale, StoreUnavailable

_NEW = "new-fact-text"


@dataclass(slots=True, kw_only=True)
class DialogState:
    """The state of an open dialog, and the outcome of its last action."""

    conversation_id: ConversationId | None = None  # whose notes they are,
    space_id: SpaceId | None = None  # or these
    gone: str  # the sentence where that was deleted
    edited: Fact | None = field(default=None, repr=False)  # as it is on screen
    deleted: Fact | None = field(default=None, repr=False)  # can be restored
    refusal: str = ""
    now: str = field(default="", repr=False)  # stored instead of what is on screen

    def has(self, fact: Fact) -> bool:
        """Return whether *fact* belongs to this space or conversation."""
        return (fact.conversation_id, fact.space_id) == (self.conversation_id, self.space_id)


def draw_sign(person: PersonServices, conversation: Conversation) -> None:
    """Draw a button for the notes of *conversation*, if there are any."""
    with suppress(StoreUnavailable):
        if any(fact.conversation_id == conversation.id for fact in person.store.facts.facts()):
            quiet_button(
                words.CHAT_NOTES,
                "fact_check",
                "own-facts",
                ask_for,
                dialog,
                conversation,
                tip="Used only in this chat.",
            )


@st.dialog(words.CHAT_NOTES, on_dismiss="rerun")
def dialog(conversation: Conversation) -> None:
    """Edit the notes of *conversation*."""
    person = person_services()
    state: DialogState | None = st.session_state.get("opened_facts")
    is_other = state is not None and state.conversation_id != conversation.id
    if state is None or is_other or _NEW not in st.session_state:  # just opened
        state = DialogState(conversation_id=conversation.id, gone=NotFound.public)
        st.session_state.opened_facts = state
    if is_other:  # a run that follows a reply keeps the widgets of the dialog before
        st.session_state[_NEW] = ""
    title = safe_md.label(conversation.title or words.UNTITLED)
    with show_errors():
        st.caption(f"Used only in “{title}”.")
        draw_refusal(state)
        draw(person, state)


def draw_refusal(state: DialogState) -> None:
    """Draw why the last action failed."""
    if state.refusal:
        st.warning(state.refusal)
    if state.now:
        draw_changed_elsewhere(state.now)


def draw(person: PersonServices, state: DialogState) -> None:
    """Draw the notes, and a field for another."""
    with st.container(gap="xxsmall", key="scoped-facts"):
        for fact in person.store.facts.facts():
            if state.has(fact):
                _draw_fact(fact, state)
    if state.deleted:
        with row():
            st.caption(f"Deleted “{safe_md.label(state.deleted.text)}”")
            quiet_button(words.UNDO, "undo", "restore-fact", act_in_dialog, _restore, state)
    with st.form("new-fact", border=False):
        st.text_input(
            "Add a note",
            max_chars=LONGEST_FACT,
            placeholder="Something the model should know",
            key=_NEW,
        )
        submit_button(words.ADD, _add, state, is_primary=False)


def _draw_fact(fact: Fact, state: DialogState) -> None:
    if state.edited and state.edited.id == fact.id:
        with st.form("edited-fact", border=False):
            st.text_area("Note", fact.text, max_chars=LONGEST_FACT, height=80, key=_key(fact))
            with right_row():
                args = [_leave, state]
                st.form_submit_button(
                    words.CANCEL, type="tertiary", on_click=act_in_dialog, args=args
                )
                st.form_submit_button("Save note", on_click=act_in_dialog, args=[_change, state])
        return
    with row(f"scoped-fact-{fact.id}", "xxsmall", wrap=False):
        st.markdown(safe_md.label(fact.text, LONGEST_FACT), width="stretch")
        menu(
            f"{words.MORE}: {safe_md.label(fact.text)}",
            [words.EDIT, words.DELETE],
            "more_horiz",
            f"menu-fact-{fact.id}",
            lambda chosen: act_in_dialog(_choose, state, fact, chosen),
        )


def submit_button(
    label: str,
    act: Callable[..., None] | None = None,
    state: DialogState | None = None,
    *,
    is_primary: bool = True,
) -> bool:
    """Draw the button of a form; return whether it was pressed."""
    with right_row():
        return st.form_submit_button(
            label,
            type="primary" if is_primary else "secondary",
            on_click=act_in_dialog if act else None,
            args=[act, state] if act else None,
        )


# --- actions ----------------------------------------------------------------------------------------------


def act_in_dialog(act: Callable[..., None], state: DialogState, *args: object) -> None:
    """Call *act* and have the dialog draw its AppError. A callback."""
    state.refusal = state.now = ""
    try:
        act(state, *args)
    except SignedOut:  # drawn by the next run
        return
    except NotFound:
        state.refusal = state.gone
    except AppError as error:
        state.refusal = error.public


def _choose(state: DialogState, fact: Fact, chosen: str) -> None:
    if chosen == words.EDIT:
        state.edited = fact
    else:
        find_person().store.facts.forget(fact.id)
        state.deleted = fact


def _leave(state: DialogState) -> None:
    state.edited = None


def _restore(state: DialogState) -> None:
    if state.deleted:  # else a double click
        find_person().store.facts.keep(state.deleted)
        state.deleted = None


def _add(state: DialogState) -> None:
    fact = Fact(
        id=FactId(uuid4()),
        text=str(st.session_state[_NEW]),
        since=datetime.now(UTC),
        conversation_id=state.conversation_id,
        space_id=state.space_id,
    )
    find_person().store.facts.keep(fact)
    st.session_state[_NEW] = ""


def _change(state: DialogState) -> None:
    seen, store = state.edited, find_person().store.facts
    if seen is None:
        return
    text = str(st.session_state[_key(seen)])
    try:
        store.keep(seen.rewritten(text, datetime.now(UTC)), replaces=seen)
    except Stale:
        state.edited = next((fact for fact in store.facts() if fact.id == seen.id), None)
        if state.edited:
            state.now = state.edited.text
        else:
            state.refusal = "This note was deleted in another tab. Add it again to keep it."
            st.session_state[_NEW] = text
    else:
        state.edited = None


def _key(fact: Fact) -> str:
    return f"fact-text-{fact.id}"
