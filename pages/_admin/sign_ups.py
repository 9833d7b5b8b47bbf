"""The sign-ups tab: the rules for creating an account, and invitations."""

from collections.abc import Mapping
from urllib.parse import urlsplit
from uuid import UUID

import streamlit as st

from pages._parts import editing, outcomes, tables, words
from pages._parts.elements import (
    distinct,
    draw_choice,
    draw_download,
    draw_switch,
    quiet_button,
    row,
)
from pages._session import ask_for, find_user, show_errors
from pages._tab import MadeInvitation, tab
from services import bootstrap
from services.bootstrap import UserServices
from services.domain import AccountRole
from services.domain.accounts import Invitation, SignUps
from services.domain.addresses import LONGEST_ADDRESS, checked_address
from services.domain.mails import Invited
from services.errors import BadInput, NotFound

_MODES = {
    SignUps.OPEN: "Anyone can create an account.",
    SignUps.INVITED: "People need an invitation.",
    SignUps.CLOSED: "Nobody can create an account. Existing users can still sign in.",
}
_CONFIRM = "Confirm email addresses"
_CONFIRMED_ELSEWHERE = (
    "Supabase Auth confirms addresses itself. To confirm them with codes from Daybook, switch off Confirm email in Supabase, "
    "under Authentication, Sign In / Providers."
)
_MAIL_LIMITS = "(At most one email an hour to an address, and 20 a day.)"
_ANYONE = "Anyone with the link"
_REVOKE = "Revoke"


def draw(admin: UserServices) -> None:
    """Draw the sign-up mode, the switch for confirmation codes, a new invitation's form or link, and all invitations."""
    modes = {mode: (words.SIGN_UP_MODES[mode], caption) for mode, caption in _MODES.items()}
    draw_choice("Who can create an account", modes, mode := admin.sign_ups.mode(), _set_mode)
    if bootstrap.current_app().mailer:
        _draw_confirmation(admin)
    if made := tab().invitation:
        # the link is drawn in place of the form, so that a double click creates only one invitation
        _draw_link(made)
    elif mode is SignUps.CLOSED:
        st.caption("Invitations cannot be used while sign-ups are closed.")
    else:
        with st.form("invitation-form"):
            with row():
                st.text_input(
                    "Email (optional)",
                    max_chars=LONGEST_ADDRESS,
                    key="invitation-email",
                    width=260,
                )
                key, form = "invitation-role", str.capitalize
                st.selectbox("Role", AccountRole, format_func=form, key=key, width=170)
            outcomes.draw("invitation")
            create = "Create invitation"
            args = ["invitation", _invite]
            st.form_submit_button(create, type="primary", on_click=outcomes.act_at, args=args)
    if invitations := admin.sign_ups.invitations():
        _draw_invitations(invitations)
    else:
        st.caption("No invitations yet.")


def _draw_confirmation(admin: UserServices) -> None:
    """Draw the switch for codes that confirm email addresses; it is disabled while Supabase Auth confirms them."""
    if admin.sign_ups.is_confirmed_elsewhere():
        st.toggle(_CONFIRM, disabled=True, key="confirm-elsewhere")
        st.caption(_CONFIRMED_ELSEWHERE)
        return
    stored = admin.sign_ups.confirms_by_code()
    draw_switch(_CONFIRM, stored, _confirm)
    st.caption(
        "New users enter a code that is emailed to them before their account is created."
        if stored
        else "People can create an account with an address that is not theirs."
    )


def _draw_link(made: MadeInvitation) -> None:
    here = urlsplit(st.context.url or "")
    with st.container(border=True, key="invitation-link"):
        if made.is_mailed:
            st.text(f"The code is being emailed to {made.email}.")
        elif made.email and bootstrap.current_app().mailer:
            st.text(f"Not emailed to {made.email}. {_MAIL_LIMITS}")
        st.markdown("Copy this link now: it is shown only once, works once and expires in 7 days.")
        st.code(
            f"{here.scheme}://{here.netloc}/?invite={made.code}", language=None, wrap_lines=True
        )
        quiet_button(words.DISMISS, "close", "dismiss-link", _dismiss)


def _draw_invitations(invitations: list[Invitation]) -> None:
    draw_download("/export/invitations.csv")
    rows = [
        {
            "For": one.email or _ANYONE,
            "Role": one.role.capitalize(),
            "Status": one.state.capitalize(),
            "Created": one.created_at,
            "Expires": one.expires_at,
        }
        for one in invitations
    ]
    tables.draw(rows, "invitations-table", "Invitations and their status")
    unused = distinct(
        {
            one.id: f"{one.email or _ANYONE} ({one.role.capitalize()}, {words.moment(one.created_at)})"
            for one in invitations
            if one.state == "open"
        }
    )
    if unused:
        with row("invitation-actions"):
            label, name = "Open invitation", unused.__getitem__
            st.selectbox(label, unused, format_func=name, key="chosen-invitation", width=520)
            quiet_button(_REVOKE, "block", "revoke-invitation", _ask_to_revoke, unused)


def _set_mode(mode: SignUps) -> None:
    find_user().sign_ups.set_mode(mode)


def _confirm(is_on: bool) -> None:
    find_user().sign_ups.confirm_by_code(is_on=is_on)


def _invite() -> str:
    if tab().invitation:
        return ""
    typed, role = st.session_state["invitation-email"].strip(), st.session_state["invitation-role"]
    email, user = checked_address(typed) if typed else None, find_user()
    code = user.sign_ups.invite(email or "", AccountRole(role))
    host = urlsplit(st.context.url or "").netloc
    invited = Invited(code=code, host=host, by=user.email)
    process = bootstrap.current_app()
    is_mailed = email is not None and process.mail_invitation(email, invited, user.user_id)
    tab().invitation = MadeInvitation(code, email, is_mailed)
    st.session_state["invitation-email"] = ""
    return ""


def _dismiss() -> None:
    tab().invitation = None


def _ask_to_revoke(labels: Mapping[UUID, str]) -> None:
    # read here, not passed as an argument: the page may not have been redrawn since another invitation was chosen
    chosen: UUID = st.session_state["chosen-invitation"]
    if label := labels.get(chosen):
        ask_for(revoke_dialog, chosen, label)


@st.dialog("Revoke invitation?", width="small", on_dismiss="rerun")
@show_errors()
def revoke_dialog(invitation: UUID, label: str) -> None:
    """Ask for confirmation, because the second click of a double click would revoke the next invitation of the list."""
    st.text(label)
    st.caption("Its link will no longer work.")
    if editing.is_confirmed(_REVOKE, "revoke-invitation"):
        try:
            find_user().sign_ups.revoke(invitation)
        except NotFound:
            raise BadInput("This invitation was used or revoked already.") from None
        st.rerun()
