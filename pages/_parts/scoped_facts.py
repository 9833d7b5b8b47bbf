"""The facts of one space or one conversation, in a dialog: listed, added, changed, deleted and brought back.

What is done in a dialog is done by callbacks, and what came of it is said by the dialog that is drawn next. What was
typed stays in it where it cannot be saved; what was changed elsewhere is replaced by nobody who has not seen it.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import uuid4

import streamlit as st

from pages._parts import safe_md, words
from pages._parts.elements import quiet_button, row
from pages._session import ask_for, find_person, person_services, show_errors
from services.bootstrap import PersonServices
from services.domain import Conversation, ConversationId, Fact, FactId, SpaceId
from services.domain.limits import LONGEST_FACT
from services.errors import AppError, NotFound, SignedOut, Stale, StoreUnavailable

_NEW = "new-fact-text"


@dataclass(slots=True, kw_only=True)
class Opened:
    """What its person has before them in a dialog, and what came of what they did."""

    conversation_id: ConversationId | None = None  # whose facts they are,
    space_id: SpaceId | None = None  # or these
    gone: str  # what is said where that is no longer there
    edited: Fact | None = field(default=None, repr=False)  # as they saw it
    deleted: Fact | None = field(default=None, repr=False)  # which can still be brought back
    refusal: str = ""
    now: str = field(default="", repr=False)  # what there is instead of what they saw

    def has(self, fact: Fact) -> bool:
        """Whether *fact* holds here and nowhere else."""
        return (fact.conversation_id, fact.space_id) == (self.conversation_id, self.space_id)


# --- a conversation's -----------------------------------------------------------------------------------


def draw_sign(person: PersonServices, conversation: Conversation) -> None:
    """That *conversation* has facts of its own, and the way to them."""
    with suppress(StoreUnavailable):
        if any(fact.conversation_id == conversation.id for fact in person.store.facts.facts()):
            quiet_button(
                words.CHAT_NOTES,
                "fact_check",
                "own-facts",
                ask_for,
                words.CHAT_NOTES,
                conversation,
                tip="Used only in this chat.",
            )


@st.dialog(words.CHAT_NOTES, on_dismiss="rerun")
def dialog(conversation: Conversation) -> None:
    """What the model is told in one conversation and in no other."""
    person = person_services()
    opened: Opened | None = st.session_state.get("opened_facts")
    is_other = opened is not None and opened.conversation_id != conversation.id
    if opened is None or is_other or _NEW not in st.session_state:  # it has just been opened
        opened = Opened(conversation_id=conversation.id, gone=NotFound.public)
        st.session_state.opened_facts = opened
    if is_other:  # a run that follows a reply lets what the dialog before it held stay
        st.session_state[_NEW] = ""
    title = safe_md.label(conversation.title or words.UNTITLED)
    with show_errors():
        st.caption(f"Used only in “{title}”.")
        draw_refusal(opened)
        draw(person, opened)


# --- what a dialog shows ----------------------------------------------------------------------------------


def draw_refusal(opened: Opened) -> None:
    """Why the last thing was not done."""
    if opened.refusal:
        st.warning(opened.refusal)
    if opened.now:
        st.code(opened.now, language=None, wrap_lines=True)


def draw(person: PersonServices, opened: Opened) -> None:
    """Every fact that holds here alone, and a field for another."""
    with st.container(gap="xxsmall", key="scoped-facts"):
        for fact in person.store.facts.facts():
            if opened.has(fact):
                _draw_fact(fact, opened)
    if opened.deleted:
        with row():
            st.caption(f"Deleted “{safe_md.label(opened.deleted.text)}”")
            quiet_button(words.UNDO, "undo", "restore-fact", attempt, _restore, opened)
    with st.form("new-fact", border=False):
        st.text_input(
            "Add a note",
            max_chars=LONGEST_FACT,
            placeholder="Something the model should know",
            key=_NEW,
        )
        submitted(words.ADD, _add, opened, is_primary=False)


def _draw_fact(fact: Fact, opened: Opened) -> None:
    if opened.edited and opened.edited.id == fact.id:
        with st.form("edited-fact", border=False):
            st.text_area("Note", fact.text, max_chars=LONGEST_FACT, height=80, key=_key(fact))
            with st.container(horizontal=True, horizontal_alignment="right"):
                st.form_submit_button(
                    words.CANCEL, type="tertiary", on_click=attempt, args=[_leave, opened]
                )
                st.form_submit_button("Save note", on_click=attempt, args=[_change, opened])
        return
    with row(f"scoped-fact-{fact.id}", "xxsmall", wrap=False):
        st.markdown(safe_md.label(fact.text, LONGEST_FACT), width="stretch")
        st.menu_button(
            f"{words.MORE}: {safe_md.label(fact.text)}",
            [words.EDIT, words.DELETE],
            key=f"menu-fact-{fact.id}",
            type="tertiary",
            icon=":material/more_horiz:",
            on_click=attempt,
            args=[_choose, opened, fact],
        )


def submitted(
    label: str,
    act: Callable[..., None] | None = None,
    opened: Opened | None = None,
    *,
    is_primary: bool = True,
) -> bool:
    """A form's button, and whether it was pressed."""
    with st.container(horizontal=True, horizontal_alignment="right"):
        return st.form_submit_button(
            label,
            type="primary" if is_primary else "secondary",
            on_click=attempt if act else None,
            args=[act, opened] if act else None,
        )


# --- what is done -----------------------------------------------------------------------------------------


def attempt(act: Callable[..., None], opened: Opened, *args: object) -> None:
    """Do it; what is refused, the dialog says. A callback."""
    opened.refusal = opened.now = ""
    try:
        act(opened, *args)
    except SignedOut:  # which is drawn next
        return
    except NotFound:
        opened.refusal = opened.gone
    except AppError as error:
        opened.refusal = error.public


def _choose(opened: Opened, fact: Fact) -> None:
    if st.session_state[f"menu-fact-{fact.id}"] == words.EDIT:
        opened.edited = fact
    else:
        find_person().store.facts.forget(fact.id)
        opened.deleted = fact


def _leave(opened: Opened) -> None:
    opened.edited = None


def _restore(opened: Opened) -> None:
    if opened.deleted:  # else a double click
        find_person().store.facts.keep(opened.deleted)
        opened.deleted = None


def _add(opened: Opened) -> None:
    fact = Fact(
        id=FactId(uuid4()),
        text=str(st.session_state[_NEW]),
        since=datetime.now(UTC),
        conversation_id=opened.conversation_id,
        space_id=opened.space_id,
    )
    find_person().store.facts.keep(fact)
    st.session_state[_NEW] = ""


def _change(opened: Opened) -> None:
    seen, kept = opened.edited, find_person().store.facts
    if seen is None:
        return
    text = str(st.session_state[_key(seen)])
    try:
        kept.keep(seen.rewritten(text, datetime.now(UTC)), replaces=seen)
    except Stale:
        opened.edited = next((fact for fact in kept.facts() if fact.id == seen.id), None)
        if opened.edited:
            opened.refusal, opened.now = words.CHANGED_ELSEWHERE, opened.edited.text
        else:
            opened.refusal = "This note was deleted in another tab. Add it again to keep it."
            st.session_state[_NEW] = text
    else:
        opened.edited = None


def _key(fact: Fact) -> str:
    return f"fact-text-{fact.id}"
