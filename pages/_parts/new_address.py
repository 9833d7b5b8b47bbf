"""The part of the page Account that changes the email address: forms for the new one, and for the code mailed to it."""

from html import escape

import streamlit as st

from pages._parts import codes, factor, words
from pages._parts.passwords import password_field, show_button
from services import bootstrap
from services.domain.mails import CodePurpose

MOVED = "moved"  # the reason in the address once it is done
_CHANGED = (
    "Email changed. Sign in with the new one from now on. If the old one was confirmed, we told it, "
    "and it can be taken back for three days, on the sign-in page. Your other devices stay signed in: "
    "sign them out below if you do not know them."
)
_SENTENCES = {
    "wrong": "Your email was not changed. The password is wrong.",
    "prove": "Your email was not changed. You entered your password more than ten minutes ago, so start again.",
    "taken": "This is your email already, or that of another account.",
}
_FORMS = codes.CodeForms(CodePurpose.NEW_ADDRESS, "/account")
_PURPOSE = str(CodePurpose.NEW_ADDRESS)


def is_open() -> bool:
    """Return True if the address asks for these forms, and codes can be mailed."""
    return codes.asked_purpose() == _PURPOSE and _sends_codes()


def draw_button() -> None:
    """Draw what leads to the forms, and the news that the address was changed."""
    if st.query_params.get("reason") == MOVED:
        st.info(_CHANGED)
    if _sends_codes():
        st.button("Change email", on_click=codes.go_to, args=[_PURPOSE])


def draw_forms(email: str, refused: str | None, *, has_factor: bool) -> None:
    """Draw the form for the new address, or once a code was sent, that for the code.

    *refused*: why it was refused; *has_factor*: true: a second factor belongs to the proof.
    """
    if sentence := _SENTENCES.get(st.query_params.get("reason", ""), refused):
        st.error(sentence)
    if (step := codes.open_step()) is None:
        st.markdown("We will send a code to your new email.")
        fields = f"""
        <input autocomplete="username" value="{escape(email)}" readonly hidden>
        <label>New email<input name="email" type="email" autocomplete="off" required
          placeholder="you@example.org"></label>
        {password_field(words.PASSWORD, "password", "current-password")}
        {show_button("current-password")}
        {factor.proof_field(has_factor=has_factor)}"""
        st.html(_FORMS.send(words.SEND_CODE, fields), width=384)
    else:
        st.markdown(f"If your new email can be used, we sent a code to it. {codes.SENT}")
        st.html(_FORMS.redeem(step, "Change email"), width=384)
    st.button(words.CANCEL, type="tertiary", on_click=codes.go_to, args=[""])


def _sends_codes() -> bool:
    return bootstrap.current_app().mailer is not None
