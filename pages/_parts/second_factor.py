"""The part of the Account page for two-step verification: it sets up an app or a passkey, replaces the app, makes new
recovery codes, and turns the verification off.

Its forms are native HTML forms. They post to routes outside Streamlit, which show setup keys and recovery codes once.
"""

from collections.abc import Iterator
from uuid import UUID, uuid4

import streamlit as st

from pages._parts import proven_actions, words
from pages._parts.devices import OTHERS_FIELD
from pages._parts.elements import draw_cancel, row
from pages._parts.form_fields import hidden_fields
from pages._parts.proven_actions import Actions, draw_dialog_form
from pages._session import find_user
from services.domain.accounts import FEW_RECOVERY_CODES, RECOVERY_CODES, SecondFactor
from services.errors import FactorRequired

_ASK = "Ask for a passkey as my second step"
_REPLACE, _NEW_CODES = "Replace authenticator app", "New recovery codes"
_TURN_OFF = "Turn off two-step verification"
# names of actions, as in `Actions`
_PASSKEY, _REPLACED, _CODES, _OFF = "ask-passkey", "replace-factor", "new-codes", "remove-factor"
_FORM = "factor-form"
_SHOWN = "You get a setup key for your app, then recovery codes. Both are shown once."


def draw(actions: Actions) -> None:
    """Draw the second factor of the user, and the buttons that change it."""
    st.header(words.TWO_STEP, anchor=False)
    own = actions.user.sign_in_details
    factor = own.factor
    if factor:
        _draw_factor(factor, actions)
    else:
        st.markdown(
            "Signing in then also asks for a code from an authenticator app, for example on your phone."
        )
    if factor is None or not factor.since:
        # if the user reloads the response, the browser sends this id again, by which the server recognises the repetition
        st.session_state.setdefault(_FORM, uuid4())
        label = "Set up an authenticator app too" if factor else "Set up"
        action = proven_actions.form_address("/account/factor", proven_actions.APP)
        button = '<button type="submit">Show setup key</button>'
        form_id = hidden_fields({"once": st.session_state[_FORM]})
        form = f'<form class="db-form" method="post" action="{action}">{form_id}{button}</form>'
        actions.draw_form(proven_actions.APP, label, f"<p>{_SHOWN}</p>{form}")
    is_asked = factor is not None and factor.asks_passkey
    if is_asked or own.passkeys:
        actions.draw_switch(_ASK, _PASSKEY, passkey_dialog, uuid4(), is_on=is_asked)


@st.dialog(_ASK, width="small", on_dismiss="rerun")
def passkey_dialog(is_on: bool, form_id: UUID) -> None:
    """Ask for confirmation before a passkey becomes required (*is_on*), or optional, as the second step of sign-ins."""
    factor = find_user().sign_in_details.factor
    has_app = factor is not None and factor.since is not None
    if not is_on and not has_app and is_refused("Set up an authenticator app first."):
        return
    if is_on:
        st.markdown(
            "On a device without your passkey you then sign in with a recovery code or your authenticator app. If you have no "
            "recovery codes yet, you get them now: they are shown once, so have a place ready to save them."
        )
        button = f'{OTHERS_FIELD}<button type="submit">Turn on</button>'
        _draw_form(_PASSKEY, "/account/factor/passkey", form_id, button)
    else:
        st.markdown(
            "Your passkeys stay. Without an authenticator app, Daybook will ask for no second step, and your recovery codes "
            "stop working."
        )
        button = f'{OTHERS_FIELD}<button type="submit" class="db-danger">Turn off</button>'
        _draw_form(_PASSKEY, "/account/factor/passkey/off", form_id, button)


def _draw_factor(factor: SecondFactor, actions: Actions) -> None:
    with st.container(key="second-factor", gap="small"):
        for name, detail in _parts(factor):
            with st.container(gap=None):
                st.text(name)
                st.caption(detail)
        with row():
            if factor.since:
                actions.draw_dialog("Replace app", "sync", _REPLACED, replace_dialog, uuid4())
            actions.draw_dialog(_NEW_CODES, "refresh", _CODES, codes_dialog, uuid4())
            if factor.since:
                asks = factor.asks_passkey
                off = "Turn off app" if asks else "Turn off"
                actions.draw_dialog(off, "no_encryption", _OFF, remove_dialog, asks)


def _parts(factor: SecondFactor) -> Iterator[tuple[str, str]]:
    """Yield the name of each part of the second factor (app, passkey, recovery codes) and a text about it."""
    if factor.since:
        yield "Authenticator app", words.added(factor.since)
    if factor.asks_passkey:
        yield words.PASSKEY, "Asked for as your second step"
    left = f"{words.number(factor.codes_left)} of {words.number(RECOVERY_CODES)} left"
    is_few = factor.codes_left <= FEW_RECOVERY_CODES
    yield "Recovery codes", f"{left}. Make new ones soon." if is_few else left


@st.dialog(_REPLACE, width="small", on_dismiss="rerun")
def replace_dialog(form_id: UUID) -> None:
    """Ask for confirmation before the setup key for another app is shown."""
    st.markdown(
        "You get a setup key for the new app and new recovery codes. Your current app and codes keep working until you enter "
        "a code from the new app."
    )
    button = '<button type="submit">Set up new app</button>'
    _draw_form(_REPLACED, "/account/factor/replace", form_id, button)


@st.dialog(_NEW_CODES, width="small", on_dismiss="rerun")
def codes_dialog(form_id: UUID) -> None:
    """Ask for confirmation before new recovery codes are made."""
    st.markdown(
        "The old codes stop working. The new ones are shown once, so have a place ready to save them."
    )
    button = f'{OTHERS_FIELD}<button type="submit">Make new codes</button>'
    _draw_form(_CODES, "/account/factor/codes", form_id, button)


@st.dialog(_TURN_OFF, width="small", on_dismiss="rerun")
def remove_dialog(asks_passkey: bool = False) -> None:
    """Ask for confirmation before the authenticator app is removed."""
    if not asks_passkey and is_refused("You can replace the app."):
        return
    st.markdown(
        "Signing in will ask for a passkey as your second step. Your app makes no more codes that work here."
        if asks_passkey
        else "Daybook will ask for no second step. Your app makes no more codes that work here, and your recovery codes stop "
        "working."
    )
    button = f'{OTHERS_FIELD}<button type="submit" class="db-danger">Turn off</button>'
    _draw_form(_OFF, "/account/factor/remove", uuid4(), button)


def is_refused(advice: str) -> bool:
    """If the deployment requires a second step, draw that the last one cannot be removed, and *advice*; return True then."""
    is_required = find_user().factor_rule.is_required()
    if is_required:
        st.markdown(f"{FactorRequired.public} {advice}")
        draw_cancel("cancel-factor")
    return is_required


def _draw_form(name: str, path: str, form_id: UUID, button: str) -> None:
    draw_dialog_form(name, path, hidden_fields({"once": form_id}) + button)
