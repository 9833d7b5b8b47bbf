"""The forms by which signed-in users prove their identity: a password, a passkey, or a code mailed to a confirmed address.

They are native HTML forms, because no password or code may enter a Streamlit session.
"""

from collections.abc import Sequence
from html import escape
from urllib.parse import urlencode

import streamlit as st

from pages._parts import codes, factor, passkey_forms, providers, words
from pages._parts.form_fields import password_field, revealed, show_button
from pages._parts.refusals import refusal
from services.bootstrap import UserServices
from services.domain.accounts import Device, ProofScope
from services.domain.mails import CodePurpose

# reason code in the URL: a proof is missing. Where the forms for a proof are drawn, they say so themselves
MISSING = "prove"
_CONFIRMED = "Confirmed. You can make changes for the next ten minutes."
_IN_PART = "Confirmed, but not for all changes."
# shown after a partial proof (ProofScope.PART), where it is not enough
_SO_FAR = (
    "Your sign-in provider does not tell us when you signed in. That is enough to add a passkey, a first password or a first "
    "authenticator app, and to delete your account, but not for this change."
)
_OTHERWISE = "Confirm another way: with a password, a passkey or a code sent to your email."
_BY_CODE = "Have a code sent to your email."
_WITHOUT = (
    "Your account has no password, so this is not possible here. Ask your admin to set one: "
    "`uv run python -m services.operate set-password EMAIL`."
)


def scope_of(listed: Sequence[Device]) -> ProofScope:
    """Return the scope of the proof that the user has given on this device in the last ten minutes."""
    mine = [one for one in listed if one.is_this_one]
    if any(one.is_proven for one in mine):
        return ProofScope.FULL
    return ProofScope.PART if any(one.is_proven_in_part for one in mine) else ProofScope.NONE


def draw(user: UserServices, scope: ProofScope, why: str, then: str = "") -> None:
    """Draw the forms and the reason *why* a proof is asked for. The forms lead back to the Account page.

    *scope*: the scope of the recent proof (`scope_of`); *then*: the URL parameter `then` of the Account page. It names
    the step, or the purpose, of the form that the page shows again after the proof.
    """
    back_to = f"/account?{urlencode({'then': then})}" if then else "/account"
    st.header(words.CONFIRM_IDENTITY, anchor=False)
    own = user.sign_in_details
    takes_code = own.takes_code
    factor_field = factor.proof_field(own.factor)
    forms = codes.CodeForms(CodePurpose.PROVE, back_to)
    if takes_code and is_by_code() and (step := codes.open_step()):
        st.markdown("Enter the code in the email. Then you can make changes for ten minutes.")
        st.html(revealed(then, forms.redeem(step, words.CONFIRM, factor_field)), width=384)
        st.button(words.CANCEL, type="tertiary", on_click=codes.go_to, args=[""])
        return
    so_far = _SO_FAR if user.is_of_provider else f"{_SO_FAR} {_OTHERWISE}"
    st.markdown(so_far if scope is ProofScope.PART else f"{why} This is good for ten minutes.")
    ways: list[tuple[str, str]] = []  # the forms, each with the sentence above it
    if by_passkey := passkey_forms.proof_form(user, back_to):
        ways.append(("", by_passkey))
    if own.has_password:
        style = ' class="db-second"' if ways else ""
        by_password = _form(user.email, then, factor_field, style)
        ways.append(("Or enter your password." if ways else "", by_password))
    if takes_code:
        by_code = forms.send(words.SEND_CODE, is_second=bool(ways))
        ways.append(("Or have a code sent to your email." if ways else _BY_CODE, by_code))
    if by_provider := providers.proof_forms(user, then):
        ways.append(("", by_provider))
    if not ways:
        st.markdown(_WITHOUT)
    for number, (sentence, form) in enumerate(ways):
        if sentence:
            st.markdown(sentence)
        st.html(form if number else revealed(then, form), width=384)
    if then:
        st.button(words.CANCEL, type="tertiary", on_click=codes.go_to, args=[""])


def is_by_code() -> bool:
    """Return True if the URL asks for the form in which the mailed code is entered."""
    return codes.asked_purpose() == CodePurpose.PROVE


def draw_outcome(reason: str, scope: ProofScope) -> bool:
    """If *reason* or the URL is about a proof, show its result or the next step and return True; otherwise return False.

    A success is shown only if *scope*, the scope of the recent proof, confirms it.
    """
    if is_by_code():
        if refused := refusal(reason):
            st.error(refused)
        elif codes.open_step():
            st.info(f"We sent a code to your email. {codes.SENT}")
        return True
    if confirmed := confirmation(reason, scope):
        st.info(confirmed)
    elif reason == "wrong":
        st.error("Wrong password.")
    else:
        return False
    return True


def confirmation(reason: str, scope: ProofScope) -> str:
    """Return the sentence for *reason* if it is a proof, and *scope*, the scope of the recent proof, confirms it; else ""."""
    match reason, scope:
        case "proved", ProofScope.FULL:
            return _CONFIRMED
        case "proved-in-part", ProofScope.PART:
            return _IN_PART
        case _:
            return ""


def _form(email: str, then: str, factor_field: str, style: str) -> str:
    # password managers read the account's name from the field with `autocomplete="username"`
    return f"""
      <form class="db-form" method="post" action="/proof">
        <input type="hidden" name="then" value="{escape(then)}">
        <input autocomplete="username" value="{escape(email)}" readonly hidden>
        {password_field(words.PASSWORD, "current-password")}
        {show_button("current-password")}
        {factor_field}
        <button type="submit"{style}>{words.CONFIRM}</button>
      </form>"""
