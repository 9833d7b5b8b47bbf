"""The part of the page Account that sets up two-step verification, replaces its app, renews its recovery codes and removes it.

What changes it is a native form that posts to a route, which answers with what is shown once.
"""

from uuid import UUID, uuid4

import streamlit as st

from pages._parts import words
from pages._parts.devices import OTHERS_FIELD
from pages._parts.elements import quiet_button, row
from pages._session import ask_for
from services.bootstrap import UserServices
from services.domain.accounts import FEW_RECOVERY_CODES, RECOVERY_CODES, SecondFactor

REMOVED = "factor-removed"  # the reason in the address once it is removed
_REMOVED = "Two-step verification is off. Signing in asks for no code from your app any more."
_REPLACE, _NEW_CODES = "Replace authenticator app", "New recovery codes"
_TURN_OFF = "Turn off two-step verification"
_FORM = "factor-form"


def draw_outcome(reason: str) -> bool:
    """Say that the factor was removed, if *reason* says so; return False if it is about something else."""
    if reason == REMOVED:
        st.info(_REMOVED)
    return reason == REMOVED


def draw(user: UserServices, *, is_proven: bool) -> None:
    """Draw the factor of *user*, and what changes it, the latter only after a proof (*is_proven*)."""
    st.subheader(words.TWO_STEP, anchor=False)
    if user.factor:
        _draw_factor(user.factor, is_proven=is_proven)
        return
    st.markdown(
        "Signing in then asks for your password and for a code from an authenticator app, for example on your phone."
    )
    if is_proven:
        # of the page, so that a reload of the answer is told from another press
        st.session_state.setdefault(_FORM, uuid4())
        button = '<button type="submit">Set up</button>'
        st.html(_form("/account/factor", st.session_state[_FORM], button), width=384)


def _draw_factor(factor: SecondFactor, *, is_proven: bool) -> None:
    left = f"{words.number(factor.codes_left)} of {words.number(RECOVERY_CODES)} left"
    with st.container(key="second-factor", gap="small"):
        for name, detail in (
            ("Authenticator app", f"Added {words.moment(factor.since, has_date=True)}"),
            (
                "Recovery codes",
                f"{left}. Make new ones soon." if factor.codes_left <= FEW_RECOVERY_CODES else left,
            ),
        ):
            with st.container(gap=None):
                st.text(name)
                st.caption(detail)
        if is_proven:
            with row():
                quiet_button("Replace app", "sync", "replace-factor", _ask_for_replacement)
                quiet_button(_NEW_CODES, "refresh", "new-codes", _ask_for_codes)
                quiet_button("Turn off", "no_encryption", "remove-factor", ask_for, remove_dialog)


def _ask_for_replacement() -> None:
    ask_for(replace_dialog, uuid4())


@st.dialog(_REPLACE, width="small", on_dismiss="rerun")
def replace_dialog(form_id: UUID) -> None:
    """Ask before the key of another app is shown."""
    st.markdown(
        "You get a setup key for the new app and new recovery codes. Your current app and codes keep working until you enter "
        "a code from the new app."
    )
    st.html(
        _form("/account/factor/replace", form_id, '<button type="submit">Set up new app</button>')
    )
    _draw_cancel()


def _ask_for_codes() -> None:
    ask_for(codes_dialog, uuid4())


@st.dialog(_NEW_CODES, width="small", on_dismiss="rerun")
def codes_dialog(form_id: UUID) -> None:
    """Ask before new recovery codes are made."""
    st.markdown(
        "The old codes stop working. The new ones are shown once, so have a place ready to save them."
    )
    button = f'{OTHERS_FIELD}<button type="submit">Make new codes</button>'
    st.html(_form("/account/factor/codes", form_id, button))
    _draw_cancel()


@st.dialog(_TURN_OFF, width="small", on_dismiss="rerun")
def remove_dialog() -> None:
    """Ask before the factor is removed."""
    st.markdown(
        "Signing in will ask for your password alone. Your app makes no more codes that work here, and your recovery codes "
        "stop working."
    )
    button = f'{OTHERS_FIELD}<button type="submit" class="db-danger">Turn off</button>'
    st.html(_form("/account/factor/remove", uuid4(), button))
    _draw_cancel()


def _draw_cancel() -> None:
    if st.button(words.CANCEL, key="cancel-factor", type="tertiary"):
        st.rerun()


def _form(action: str, form_id: UUID, content: str) -> str:
    return f"""
      <form class="db-form" method="post" action="{action}">
        <input type="hidden" name="once" value="{form_id}">
        {content}
      </form>"""
