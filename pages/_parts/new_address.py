"""The part of the Account page that changes the email address: forms for the new address and the code mailed to it."""

from contextlib import suppress
from uuid import UUID

import streamlit as st

from pages._parts import codes, proof, words
from pages._parts.form_fields import email_field, revealed
from pages._parts.refusals import refusal
from services import bootstrap
from services.bootstrap import UserServices
from services.domain.accounts import ProofScope
from services.domain.mails import CodePurpose
from services.domain.sign_in_methods import SignInMethod

MOVED = "moved"  # the reason in the URL after the email address was changed
_CHANGED = (
    "Email changed. Sign in with the new one from now on. If the old address was confirmed, we emailed it, too{}. "
    "Other devices stay signed in; sign them out below."
)
_UNDO = "; it can undo this for three days"
# the new address, which assets/page/address.js fills in
_SENT_TO = '<p class="db-sent-to" data-label="New email" hidden></p>'
OF_PROVIDER = "Your organization manages this email. Ask your admin to change it."
_NEW_OF_PROVIDER = "Your admin manages emails of this domain. Ask your admin to change it."
_TAKEN = "This is your email already, or that of another account."
_WHY = "Confirm it before you change your email."
_WHY_AGAIN = "Confirm it again. Then enter the code that we sent to your new email."
_PURPOSE = str(CodePurpose.NEW_ADDRESS)
_FORMS = codes.CodeForms(_PURPOSE, "/account")


def is_open() -> bool:
    """Return True if the URL asks for the forms of this module and the app can mail codes."""
    is_asked = codes.asked_purpose() == _PURPOSE or st.query_params.get("then") == _PURPOSE
    return (is_asked or _open_step() is not None) and _sends_codes()


def draw_button() -> None:
    """Draw the button that leads to the forms, and a message if the email address was just changed."""
    if st.query_params.get("reason") == MOVED:
        takes_back = SignInMethod.CODE in bootstrap.current_app().methods
        st.info(_CHANGED.format(_UNDO if takes_back else ""))
    if _sends_codes():
        st.button("Change email", key=f"open-{_PURPOSE}", on_click=codes.go_to, args=[_PURPOSE])


def draw_forms(user: UserServices, scope: ProofScope) -> None:
    """Draw the form for the new address, or for the code sent to it; without a full proof (*scope*), draw the forms
    for a proof.
    """
    reason, step = st.query_params.get("reason", ""), _open_step()
    own = {"taken": _TAKEN, "other-sign-in": _NEW_OF_PROVIDER}
    sentence = own.get(reason) or refusal(reason)
    if not proof.draw_outcome(reason, scope) and sentence and reason != proof.MISSING:
        st.error(sentence)
    if scope is not ProofScope.FULL:
        proof.draw(user, scope, _WHY_AGAIN if step else _WHY, str(step or _PURPOSE))
        return
    if step is None:
        st.markdown("We will send a code to your new email.")
        field = email_field("New email", "off")
        st.html(revealed(_PURPOSE, _FORMS.send(words.SEND_CODE, field)), width=384)
    else:
        st.markdown(f"If your new email can be used, we sent a code to it. {codes.SENT}")
        form = _SENT_TO + _FORMS.redeem(step, "Change email")
        st.html(revealed(_PURPOSE, form), width=384)
    st.button(words.CANCEL, type="tertiary", on_click=codes.go_to, args=[""])


def _open_step() -> UUID | None:
    """Return the id of the step for which a code was sent. While a proof is asked for, the URL parameter `then`
    contains the id.
    """
    if codes.asked_purpose() == _PURPOSE:
        return codes.open_step()
    with suppress(ValueError):
        return UUID(st.query_params.get("then", ""))
    return None


def _sends_codes() -> bool:
    return bootstrap.current_app().mailer is not None
