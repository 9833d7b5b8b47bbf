"""The buttons of the Account page for actions that need a recent proof of identity.

A press leads to the proof first if there is none, and back to the open form or dialog. The URL parameter `then` names the
action meanwhile, and as long as its form is open.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from uuid import UUID

import streamlit as st

from pages._parts import codes, outcomes, proof, words
from pages._parts.elements import draw_cancel, draw_switch, quiet_button
from pages._parts.form_fields import revealed
from pages._parts.refusals import draw_refused_change, refused_change
from pages._session import ask_for, find_user
from pages._tab import Outcome
from services.bootstrap import UserServices
from services.domain.accounts import ProofScope
from services.errors import ProofNeeded

PASSWORD, PASSKEY, APP, IDENTITY, END = "password", "passkey", "app", "identity", "end"
# actions whose form is drawn in the page, not in a dialog
_FORMS = (PASSWORD, PASSKEY, APP, IDENTITY, END)
_WHY = "Confirm it first. Then go on where you were."


@dataclass(frozen=True, slots=True)
class Actions:
    """The actions of *user*, as far as the *scope* of the recent proof allows."""

    user: UserServices
    scope: ProofScope
    # the action to whose button the user has come back in this run, from its proof or after a refusal
    opens: str = ""
    # the actions whose forms, or the buttons that open them, are drawn
    drawn: set[str] = field(default_factory=set[str])

    @classmethod
    def of(cls, user: UserServices, scope: ProofScope) -> "Actions":
        """Return the actions; the URL parameter `then` of a dialog is removed once the proof is given."""
        actions, name = cls(user, scope), _asked()
        if name in _FORMS or not name or not actions.is_proven(name):
            return actions
        reason = st.query_params.pop("reason", "")
        del st.query_params["then"]
        news = proof.confirmation(reason, scope)
        outcomes.keep(Outcome(name, news=news, refusal=refused_change(reason)))
        return cls(user, scope, name)

    def draw_proof(self) -> bool:
        """If the URL asks for an action whose proof is missing, draw the forms for the proof, and return True."""
        name, reason = _asked(), st.query_params.get("reason", "")
        if not (name or proof.is_by_code()) or self.is_proven(name):
            return False
        if not proof.draw_outcome(reason, self.scope) and reason != proof.MISSING:
            draw_refused_change(reason)
        proof.draw(self.user, self.scope, _WHY, name)
        return True

    def draw_form(self, name: str, label: str, form: str) -> None:
        """Draw the button *label*; or, if the URL names this action, the *form* (HTML) and why it was refused, if it was."""
        self.drawn.add(name)
        if _asked() != name:
            st.button(label, key=f"open-{name}", on_click=ask, args=[name])
            return
        reason = st.query_params.get("reason", "")
        if not proof.draw_outcome(reason, self.scope):
            draw_refused_change(reason)
        st.html(revealed(name, form), width=384)
        st.button(words.CANCEL, type="tertiary", on_click=codes.go_to, args=[""])

    def draw_refusal_without_form(self) -> None:
        """Draw why a form was refused that is not offered any more. Call this after all forms."""
        if _asked() in _FORMS and _asked() not in self.drawn:
            draw_refused_change(st.query_params.get("reason", ""))
        if self.opens and self.opens not in self.drawn:
            outcomes.draw(self.opens)

    def draw_dialog(
        self, label: str, icon: str, key: str, dialog: Callable[..., None], *args: object
    ) -> None:
        """Draw a button that opens *dialog*; after the proof that was given for it, open the dialog."""
        self.draw_act(label, icon, key, ask_for, dialog, *args)
        if key == self.opens:
            ask_for(dialog, *args)

    def draw_act(
        self, label: str, icon: str, key: str, act: Callable[..., object], *args: object
    ) -> None:
        """Draw a button that calls *act*; after a proof it has to be pressed again."""
        self.drawn.add(key)
        quiet_button(label, icon, key, _act, key, act, *args)

    def draw_switch(
        self, label: str, key: str, dialog: Callable[..., None], form_id: UUID, *, is_on: bool
    ) -> None:
        """Draw a switch that opens *dialog* with the new value and *form_id*; after the proof for it, open the dialog."""
        self.drawn.add(key)
        with st.container(key=key):
            draw_switch(label, is_on, lambda is_on: _act(key, ask_for, dialog, is_on, form_id))
        if key == self.opens:
            ask_for(dialog, not is_on, form_id)

    def is_proven(self, name: str) -> bool:
        """Return True if the recent proof is enough for the action *name*; a partial one is for what adds or deletes."""
        own = self.user.sign_in_details
        adds = {
            PASSKEY: True,
            END: True,
            PASSWORD: not own.has_password,
            APP: own.factor is None,
        }
        is_part_enough = adds.get(name, False) and self.scope is ProofScope.PART
        return is_part_enough or self.scope is ProofScope.FULL


def draw_dialog_form(name: str, path: str, content: str) -> None:
    """Draw the form of a dialog, which posts *content* (HTML) to *path*, and how the proof or form before it ended."""
    outcomes.draw(name)
    address = form_address(path, name)
    st.html(f'<form class="db-form" method="post" action="{address}">{content}</form>')
    draw_cancel(f"cancel-{name}")


def form_address(path: str, name: str) -> str:
    """Return the URL below *path* to which the form of the action *name* posts; after a refusal, the page shows it again."""
    return f"{path}?then={name}"


def is_form_open() -> bool:
    """Return True if the URL names an action whose form is open."""
    return _asked() in _FORMS


def _asked() -> str:
    return st.query_params.get("then", "")


def _act(name: str, act: Callable[..., object], *args: object) -> None:
    """Call *act*; if the action *name* has no recent proof by now, ask for the proof instead. For use in callbacks."""
    codes.go_to("")
    outcomes.forget()
    user = find_user()
    with suppress(ProofNeeded):  # the proof may become too old meanwhile
        if Actions(user, proof.scope_of(user.devices.all())).is_proven(name):
            act(*args)
            return
    ask(name)


def ask(name: str) -> None:
    """Make the next run show the form of the action *name*, or the proof for it. For use in callbacks."""
    codes.go_to("")
    st.query_params["then"] = name
