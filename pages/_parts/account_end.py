"""The part of the Account page that deletes the account, after the user has typed its email address to confirm.

On a deployment without sign-in, the user types a confirmation word instead, or both if the account has an address.
"""

import streamlit as st

from pages._parts import proven_actions
from pages._parts.proven_actions import Actions
from services import bootstrap
from services.bootstrap import UserServices
from services.domain.accounts import DELETE_WORD
from services.domain.addresses import NO_ADDRESS

_WRONG_EMAIL = "email"  # reason code in the URL: the email or the word was mistyped
_DELETE_ACCOUNT = "Delete account"
_NOT_DELETED = "Your account was not deleted."


def draw(actions: Actions) -> None:
    """Draw a text about deletion, the button that opens its form and, if the last deletion was refused, the reason."""
    st.header(_DELETE_ACCOUNT, anchor=False)
    st.markdown(
        "Deletes your account and all chats, memories, spaces and settings, immediately, on all devices. Running "
        "replies stop. Kept: cost and account records (numbers only), and anything in older database backups. "
        "**This cannot be undone.** Export first what you want to keep."
    )
    if st.query_params.get("reason") == _WRONG_EMAIL:
        is_alone = bootstrap.current_app().is_alone
        typed = f"Type “{DELETE_WORD}” to confirm, and your email if it is asked for."
        st.error(f"{_NOT_DELETED} {typed if is_alone else 'Enter the email of this account.'}")
    actions.draw_form(proven_actions.END, _DELETE_ACCOUNT, _form(actions.user))


def _form(user: UserServices) -> str:
    address = """<label>Type your email to confirm<input name="address" type="email" autocomplete="off" required></label>"""
    word = f"""<label>Type “{DELETE_WORD}” to confirm<input name="word" autocomplete="off" required></label>"""
    action = proven_actions.form_address("/account/end", proven_actions.END)
    return f"""
      <form class="db-form" method="post" action="{action}" data-person="{user.conversations.user_id}">
        {address if user.email != NO_ADDRESS else ""}
        {word if bootstrap.current_app().is_alone else ""}
        <button type="submit" class="db-danger">{_DELETE_ACCOUNT}</button>
      </form>"""
