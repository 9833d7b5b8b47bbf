"""The part of the Account page that deletes the account, after the user has typed its email address to confirm.

On a deployment without sign-in, the user types a confirmation word instead, or both if the account has an address.
"""

import streamlit as st

from services import bootstrap
from services.bootstrap import UserServices
from services.domain.accounts import DELETE_WORD
from services.domain.addresses import NO_ADDRESS

_WRONG_EMAIL = "email"  # reason code in the URL: the email or the word was mistyped
_DELETE_ACCOUNT = "Delete account"
_NOT_DELETED = "Your account was not deleted."


def draw(user: UserServices, *, is_proven: bool) -> None:
    """Draw a text about deletion, the form that deletes the account and, if the last deletion was refused, the reason.

    *is_proven*: True if the user has given a recent proof; without a proof, the form is not drawn.
    """
    st.header(_DELETE_ACCOUNT, anchor=False)
    st.markdown(
        "Deletes your account and all chats, memories, spaces and settings, immediately, on all devices. Running "
        "replies stop. Kept: cost and account records (numbers only), and anything in older database backups. "
        "**This cannot be undone.** Export first what you want to keep."
    )
    is_refused = st.query_params.get("reason") == _WRONG_EMAIL
    if is_proven:
        st.html(_form(user, is_refused=is_refused), width=384)
    else:
        st.caption("To delete it, first confirm that it is you, above.")
    if is_refused:
        is_alone = bootstrap.current_app().is_alone
        typed = f"Type “{DELETE_WORD}” to confirm, and your email if it is asked for."
        st.error(f"{_NOT_DELETED} {typed if is_alone else 'Enter the email of this account.'}")


def _form(user: UserServices, *, is_refused: bool) -> str:
    address = """<label>Type your email to confirm<input name="address" type="email" autocomplete="off" required></label>"""
    word = f"""<label>Type “{DELETE_WORD}” to confirm<input name="word" autocomplete="off" required></label>"""
    # assets/page/reveal.js scrolls to the form, because after a refusal, the page opens at its top
    reveal = ' data-reveal="refused"' if is_refused else ""
    return f"""
      <form class="db-form" method="post" action="/account/end" data-person="{user.conversations.user_id}"{reveal}>
        {address if user.email != NO_ADDRESS else ""}
        {word if bootstrap.current_app().is_alone else ""}
        <button type="submit" class="db-danger">{_DELETE_ACCOUNT}</button>
      </form>"""
