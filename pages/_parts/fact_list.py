"""An editable list of facts: all facts on the memory page, or the notes of one chat or space in a dialog.

A fact is edited in place. If another tab has changed it meanwhile, the new text is shown before it can be replaced.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4

import streamlit as st

from pages._parts import safe_md, undo, words
from pages._parts.elements import draw_field, quiet_button, row
from pages._session import ask_for, attempt, find_user, show_errors, user_services
from pages._tab import tab
from services.bootstrap import UserServices
from services.domain import Conversation, ConversationId, Fact, FactId, SpaceId
from services.domain.limits import LONGEST_FACT, checked_fact
from services.errors import (
    AppError,
    BadInput,
    NotFound,
    SignedOut,
    SpaceGone,
    Stale,
    StoreUnavailable,
)


@dataclass(frozen=True, slots=True)
class FactList:
    """A list of facts on screen. *noun*: the word for a fact in this list, unique among the lists of a page."""

    noun: str = "note"
    placeholder: str = "Something the model should know"
    conversation_id: ConversationId | None = None  # the conversation that new facts belong to
    space_id: SpaceId | None = None  # the space that new facts belong to

    def draw_adding(self) -> None:
        """Draw the field that adds a fact."""
        with (
            st.form(f"add-{self.noun}", border=False),
            st.container(horizontal=True, vertical_alignment="bottom", wrap=False),
        ):
            st.text_input(
                f"Add a {self.noun}",
                key=self._new_key,
                max_chars=LONGEST_FACT,
                placeholder=self.placeholder,
            )
            st.form_submit_button(words.ADD, on_click=attempt, args=[self._add])

    def facts(self, user: UserServices) -> list[Fact]:
        """Return the facts of this chat or space."""
        scope = self.conversation_id, self.space_id
        return [one for one in user.facts.facts() if (one.conversation_id, one.space_id) == scope]

    def draw_in_dialog(self, user: UserServices) -> None:
        """Draw the facts of this chat or space, the Undo button, the errors of callbacks, and the field for a new fact."""
        with st.container(key="notes", gap=None):
            for fact in self.facts(user):
                self.draw_row(fact)
        undo.draw_facts(self.conversation_id, self.space_id)
        refusals = [refusal for refusal in tab().callbacks.refusals if not refusal.prompt]
        for refusal in refusals:
            st.warning(refusal.sentence)
        tab().callbacks.forget(refusals)
        self.draw_adding()

    def draw_row(self, fact: Fact, draw_source: Callable[[Fact], None] | None = None) -> None:
        """Draw *fact*, its buttons and, below it, its source; if the fact is being edited, draw a field instead."""
        key = f"{self.noun}-{fact.id}"
        seen, refusal = tab().edited_facts.get(self.noun, (None, ""))
        with row(f"fact-{key}", 2, wrap=False):
            if seen and seen.id == fact.id:
                with st.container(gap="xsmall"):
                    self._draw_field(fact, key)
                    if refusal:
                        st.warning(refusal)
                    if fact != seen:
                        st.caption(f"Current version: {safe_md.label(fact.text, LONGEST_FACT)}")
                return
            with st.container(gap=None, width="stretch"):
                st.markdown(safe_md.label(fact.text, LONGEST_FACT))
                if draw_source:
                    with row(gap="xxsmall"):
                        draw_source(fact)
            name = safe_md.label(fact.text, 40)
            quiet_button(f"{words.EDIT}: {name}", "edit", f"edit-{key}", self._edit, fact)
            quiet_button(
                f"{words.DELETE}: {name}", "delete", f"delete-{key}", undo.delete_fact, fact
            )

    @property
    def _new_key(self) -> str:
        # the key is the same in all runs, so that a rerun keeps the text in the field
        return f"new-{self.noun}-{self.conversation_id or self.space_id or ''}".removesuffix("-")

    def _draw_field(self, fact: Fact, key: str) -> None:
        # the key of Save contains the fact's version: pressing Save first leaves the field, which also saves. If the
        # page then shows a newer version, the press must not replace that version before the user has seen it.
        save_key, limit = f"save-{self.noun}-{fact.since.timestamp()}", LONGEST_FACT
        acts = self._save, self._leave
        draw_field(self.noun, fact.text, limit, f"text-{key}", *acts, fact, save_key)

    def _edit(self, fact: Fact) -> None:
        _, refusal = tab().edited_facts.get(self.noun, (None, ""))
        tab().edited_facts[self.noun] = fact, ""
        if refusal:  # this method closes the other fact's field, at which this refusal was drawn
            raise BadInput(refusal)

    def _leave(self) -> None:
        tab().edited_facts.pop(self.noun, None)

    def _add(self) -> None:
        fact = Fact(
            id=FactId(uuid4()),
            text=str(st.session_state[self._new_key]),
            since=datetime.now(UTC),
            conversation_id=self.conversation_id,
            space_id=self.space_id,
        )
        try:
            find_user().facts.keep(fact)
        except NotFound:
            raise SpaceGone if self.space_id else NotFound from None
        st.session_state[self._new_key] = ""

    def _save(self, fact: Fact, text: str) -> None:
        """Replace the text of *fact* by *text*; if this is refused, keep the reason, which is then drawn at the field.

        Pressing Save also leaves the field, and Streamlit calls this method for both events at the same time, in two
        threads.
        """
        edited, facts = tab().edited_facts, find_user().facts
        seen = self._seen(fact) or fact
        try:
            if text != fact.text:  # storing the same text again would only drop the fact's source
                facts.keep(fact.rewritten(text, datetime.now(UTC)), replaces=fact)
        except Stale as error:
            now = {each.id: each.text for each in facts.facts()}
            if fact.id not in now:
                st.session_state[self._new_key] = text
                sentence = f"This {self.noun} was deleted in another tab. Add it again to keep it."
                raise BadInput(sentence) from None
            if now[fact.id] != checked_fact(text):
                edited[self.noun] = seen, error.public
                return
        except SignedOut:
            raise
        except AppError as error:
            edited[self.noun] = seen, error.public
            return
        if self._seen(fact):  # false if another fact's field was opened meanwhile
            self._leave()

    def _seen(self, fact: Fact) -> Fact | None:
        """Return *fact* as it was when its field was opened; None if its field is not open."""
        seen, _ = tab().edited_facts.get(self.noun, (None, ""))
        return seen if seen and seen.id == fact.id else None


def draw_sign(user: UserServices, conversation: Conversation) -> None:
    """Draw a button that opens the notes of *conversation*, if there are any."""
    with suppress(StoreUnavailable):
        if any(fact.conversation_id == conversation.id for fact in user.facts.facts()):
            label, tip = words.CHAT_NOTES, "Used only in this chat."
            args = ask_for, notes_dialog, conversation
            quiet_button(label, "fact_check", "own-facts", *args, tip=tip)


@st.dialog(words.CHAT_NOTES, on_dismiss="rerun")
@show_errors()
def notes_dialog(conversation: Conversation) -> None:
    """Edit the notes of *conversation*."""
    title = safe_md.label(conversation.title or words.UNTITLED)
    st.caption(f"Used only in “{title}”.")
    FactList(conversation_id=conversation.id).draw_in_dialog(user_services())
