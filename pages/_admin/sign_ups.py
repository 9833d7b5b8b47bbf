"""The tab of sign-ups: who may create an account, and invitations."""

from typing import Any, cast
from urllib.parse import urlsplit
from uuid import UUID

import pandas as pd  # pyright: ignore[reportMissingTypeStubs]
import streamlit as st

from pages._parts import words
from pages._parts.elements import draw_download, quiet_button, row
from pages._session import attempt, find_person
from services.bootstrap import PersonServices
from services.domain import AccountRole
from services.domain.accounts import Invitation, InvitationState, SignUps

_MODES = {
    SignUps.OPEN: ("Open", "Anyone can create an account."),
    SignUps.INVITED: ("By invitation", "An invitation is needed to create an account."),
    SignUps.CLOSED: ("Closed", "Nobody can create an account. Existing ones can sign in."),
}
_ANYONE = "Anyone with the link"
_LINK = "invitation-code"  # in the session state: shown until it is dismissed


def draw(person: PersonServices) -> None:
    """Draw the mode, the form of an invitation, its link, and the list."""
    mode = person.sign_ups.mode()
    key = f"sign-ups-{mode}"  # another once it is stored
    st.radio(
        "Who can create an account",
        _MODES,
        index=list(_MODES).index(mode),
        format_func=lambda one: _MODES[one][0],
        captions=[caption for _, caption in _MODES.values()],
        key=key,
        on_change=lambda: attempt(_set_mode, SignUps(st.session_state[key])),
    )
    with st.form("invitation-form"):
        with row(gap="small"):
            st.text_input("E-mail (optional)", key="invitation-email", width=260)
            st.selectbox(
                "Role", AccountRole, format_func=_role_name, key="invitation-role", width=170
            )
        st.form_submit_button("Create invitation", type="primary", on_click=attempt, args=[_invite])
    if code := st.session_state.get(_LINK):
        _draw_link(str(code))
    _draw_invitations(person.sign_ups.invitations())


def _draw_link(code: str) -> None:
    here = urlsplit(st.context.url or "")
    with st.container(border=True, key="invitation-link"):
        st.markdown("Copy this link now. It is shown only here, works once, and ends in 7 days.")
        st.code(f"{here.scheme}://{here.netloc}/?invite={code}", language=None, wrap_lines=True)
        quiet_button(words.DISMISS, "close", "dismiss-link", st.session_state.pop, _LINK)


def _draw_invitations(invitations: list[Invitation]) -> None:
    if not invitations:
        st.caption("No invitations yet.")
        return
    table = pd.DataFrame(
        {
            "For": one.email or _ANYONE,
            "Role": _role_name(one.role),
            "Status": one.state.value.capitalize(),
            "Created": one.created_at,
            "Expires": one.expires_at,
        }
        for one in invitations
    )
    draw_download("/export/invitations.csv")
    with st.container(key="invitations-table"):
        cast(Any, st).dataframe(  # its types are those of pandas, which are partly unknown
            cast(Any, table).style.format(dict.fromkeys(("Created", "Expires"), words.moment)),
            hide_index=True,
            row_height=38,
            alt="Invitations and their status",
        )
    unused = {one.id: one for one in invitations if one.state is InvitationState.OPEN}
    if not unused:
        return
    with row("invitation-actions"):
        chosen = st.selectbox(
            "Open invitation",
            unused,
            format_func=lambda its: _name(unused[its]),
            key="chosen-invitation",
            width=360,
        )
        quiet_button("Revoke", "block", "revoke-invitation", _revoke, chosen)


def _name(invitation: Invitation) -> str:
    return f"{invitation.email or _ANYONE} ({words.moment(invitation.created_at)})"


def _role_name(role: AccountRole) -> str:
    return str(role).capitalize()


def _set_mode(mode: SignUps) -> None:
    find_person().sign_ups.set_mode(mode)


def _invite() -> None:
    email, role = st.session_state["invitation-email"], st.session_state["invitation-role"]
    st.session_state[_LINK] = find_person().sign_ups.invite(email, AccountRole(role))
    st.session_state["invitation-email"] = ""


def _revoke(invitation: UUID) -> None:
    find_person().sign_ups.revoke(invitation)
