"""The Account page: the user's email and its confirmation, a new email or password, passkeys, two-step
verification, sign-ins through providers, devices, recent activity, export and deletion.

Its forms are native HTML, because passwords and codes must not enter a Streamlit session. To change a sign-in method,
sign out other devices or delete the account, users need a recent proof of identity: a press on the action's button asks
for it first.
"""

from html import escape

import streamlit as st

from pages._parts import (
    account_end,
    audit_table,
    codes,
    devices,
    frame,
    full_export,
    identities,
    new_address,
    passkeys,
    proof,
    proven_actions,
    second_factor,
    words,
)
from pages._parts.form_fields import password_field, show_button
from pages._parts.proven_actions import Actions
from pages._parts.refusals import draw_failed_sign_out, draw_refused_change, refusal
from pages._session import show_errors
from services import bootstrap
from services.bootstrap import UserServices
from services.domain.accounts import SIGN_IN_STEPS, ProofScope
from services.domain.addresses import has_mailbox
from services.domain.mails import CodePurpose
from services.domain.sign_in_methods import SignInMethod

_PLACEHOLDER = (
    "You sign in with a placeholder, because your old email was removed from this account."
)
_CHANGE_IT = "Change it to your own email."
_STAYS = "It cannot be changed here, because this Daybook sends no emails. Keep it to sign in with."


def _form(email: str, button: str) -> str:
    action = proven_actions.form_address("/account/password", proven_actions.PASSWORD)
    # password managers read the account's name from the field with `autocomplete="username"`
    return f"""
      <form class="db-form" method="post" action="{action}">
        <input autocomplete="username" value="{escape(email)}" readonly hidden>
        {password_field(words.NEW_PASSWORD, "new-password")}
        {show_button("new-password")}
        <button type="submit">{button}</button>
      </form>"""


def _draw_confirmation(*, is_confirmed: bool) -> None:
    """Draw a badge that shows whether the email is confirmed and, if not, the forms that confirm it by a code."""
    if is_confirmed:
        st.badge("Confirmed", icon=":material/check:", color="green")
        return
    st.badge("Not confirmed", icon=":material/mail:", color="gray")
    forms, step = codes.CodeForms(CodePurpose.CONFIRM_ADDRESS, "/account"), codes.open_step()
    is_asked = codes.asked_purpose() == CodePurpose.CONFIRM_ADDRESS
    if is_asked and (refused := refusal(st.query_params.get("reason", ""))):
        st.error(f"Your email was not confirmed. {refused}")
    if is_asked and step:
        st.markdown(f"We sent a code to this email. {codes.SENT}")
        st.html(forms.redeem(step, "Confirm email"), width=384)
    else:
        st.markdown(_what_it_is_for())
        st.html(forms.send(words.SEND_CODE), width=384)


def _what_it_is_for() -> str:
    match _has(SignInMethod.PASSWORD), _has(SignInMethod.CODE):
        case True, True:
            return "Once it is confirmed, you can reset your password with a code sent to it."
        case False, True:
            return "Once it is confirmed, you can sign in with a code sent to it."
        case _:
            return "We will email you a code."


def _has(method: SignInMethod) -> bool:
    return method in bootstrap.current_app().methods


def _draw_outcome(scope: ProofScope) -> None:
    reason = st.query_params.get("reason", "")
    # an open form shows itself why it was refused
    if not proven_actions.is_form_open() and not proof.draw_outcome(reason, scope):
        draw_refused_change(reason)


def _draw_password(user: UserServices, actions: Actions) -> None:
    st.header(words.PASSWORD, anchor=False)
    if user.sign_in_details.has_password:
        button = "Change password"
        st.markdown("A new password signs you out on all other devices.")
    else:
        button = "Add password"
        st.markdown("You have no password yet. With one, you can also sign in with your email.")
    actions.draw_form(proven_actions.PASSWORD, button, _form(user.email, button))


def _draw_account(user: UserServices) -> None:
    if not has_mailbox(user.email):
        change = _CHANGE_IT if bootstrap.current_app().mailer else _STAYS
        st.warning(f"{_PLACEHOLDER} {change}")
    st.header(words.EMAIL, anchor=False)
    st.text(user.email)
    if new_address.is_open() and not user.is_of_provider:
        with show_errors():
            new_address.draw_forms(user, proof.scope_of(user.devices.all()))
        return
    with show_errors():
        listed = user.devices.all()
        actions = Actions.of(user, proof.scope_of(listed))
        if actions.draw_proof():
            return
        if bootstrap.current_app().mailer and has_mailbox(user.email):
            _draw_confirmation(is_confirmed=user.sign_in_details.is_confirmed)
        if user.is_of_provider:
            st.caption(new_address.OF_PROVIDER)
        else:
            new_address.draw_button()
        if not codes.asked_purpose():
            _draw_outcome(actions.scope)
        if _has(SignInMethod.PASSWORD) and not user.is_of_provider:
            _draw_password(user, actions)
        passkeys.draw(actions)
        second_factor.draw(actions)
        identities.draw(actions)
        devices.draw(listed, actions)
        _draw_end(actions)
        actions.draw_refusal_without_form()


def _draw_end(actions: Actions) -> None:
    """Draw the parts that every account has: recent activity, export and deletion."""
    st.header("Recent activity", anchor=False)
    if st.toggle("Show changes and failed attempts", key="show-activity"):
        # sign-ins are among the devices
        entries = actions.user.activity()
        shown = [entry for entry in entries if entry.action not in SIGN_IN_STEPS]
        audit_table.draw(shown, names_users=False)
    st.header(words.EXPORT, anchor=False)
    st.markdown("All chats, memories, spaces, preferences and usage as a zip file, not encrypted.")
    full_export.draw_button()
    full_export.draw_progress()
    account_end.draw(actions)


with frame.page() as user:
    about = "How you sign in, your devices and activity, and how to export or delete everything."
    frame.draw_heading(words.ACCOUNT, about)
    draw_failed_sign_out()  # before the parts that read the database
    _draw_account(user)
