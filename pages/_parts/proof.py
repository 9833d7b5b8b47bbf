"""The form that proves again who is signed in. It is a native one, because no password enters a Streamlit session."""

from html import escape

import streamlit as st

from pages._parts import factor, words
from pages._parts.passwords import password_field, show_button
from services.bootstrap import UserServices

_CONFIRMED = "Confirmed. You can make changes for the next ten minutes."
_WITHOUT = (
    "Your account has no password, so this is not possible here. Ask your admin to set one: "
    "`uv run python -m services.operate set-password EMAIL`."
)


def draw(user: UserServices, page: str, why: str) -> None:
    """Draw the form, with the reason *why* it is asked; it leads back to the address *page*."""
    st.subheader(words.CONFIRM_IDENTITY, anchor=False)
    st.markdown(f"{why} This is good for ten minutes.")
    if user.has_password:
        field = factor.proof_field(has_factor=user.factor is not None)
        st.html(_form(user.email, page, field), width=384)
    else:
        st.markdown(_WITHOUT)


def draw_outcome(reason: str) -> bool:
    """Say how a proof ended, if *reason* says so; return False if it is about something else."""
    match reason:
        case "proved":
            st.info(_CONFIRMED)
        case "wrong":
            st.error("Wrong password.")
        case _:
            return False
    return True


def _form(email: str, page: str, factor_field: str) -> str:
    # password managers read the account from the field with the autocomplete `username`
    return f"""
      <form class="db-form" method="post" action="/proof">
        <input autocomplete="username" value="{escape(email)}" readonly hidden>
        <input name="next" value="{escape(page)}" type="hidden">
        {password_field(words.PASSWORD, "password", "current-password")}
        {show_button("current-password")}
        {factor_field}
        <button type="submit">{words.CONFIRM}</button>
      </form>"""
