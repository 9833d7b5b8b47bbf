"""Native HTML forms that use or create a passkey.

assets/page/passkey.js shows their buttons and fills them in. Their data never enters a Streamlit session.
"""

from html import escape
from urllib.parse import urlsplit

import streamlit as st

from pages._parts import words
from pages._parts.form_fields import hidden_fields
from services import bootstrap
from services.bootstrap import UserServices
from services.domain.passkeys import LONGEST_PASSKEY_NAME, RelyingParty, relying_party
from services.domain.sign_in_methods import SignInMethod


def sign_in_form(back_to: str) -> str:
    """Return the HTML of the form for signing in with a passkey; "" if passkeys are switched off."""
    if not is_on():
        return ""
    return _form("get", "sign_in", back_to, "Sign in with a passkey", is_second=True)


def factor_form(back_to: str, fields: str) -> str:
    """Return the HTML of the form for a passkey as a second factor; *fields*: the HTML of the sign-in's hidden fields."""
    return _form("get", "factor", back_to, words.USE_PASSKEY, fields)


def proof_form(user: UserServices, back_to: str) -> str:
    """Return the HTML of the form for a proof of identity by passkey; "" if *user* has no passkey that works here."""
    party = party_here()
    if (
        not is_on()
        or user.is_of_provider
        or not any(party and one.rp_id == party.id for one in user.sign_in_details.passkeys)
    ):
        return ""
    return _form("get", "proof", back_to, "Confirm with a passkey")


def add_form(name: str, fields: str, back_to: str) -> str:
    """Return the HTML of the form that adds a passkey; *name*: a suggested name; *fields*: HTML of further fields."""
    return _form("create", "add", back_to, words.ADD_PASSKEY, f"{name_field(name)}{fields}")


def name_field(name: str, field: str = "passkey_name") -> str:
    """Return the HTML of a form field called *field*, for the name of a passkey or of another sign-in method."""
    # *field* must not be "name": Streamlit's sanitizer removes such a field, which would shadow the form's property `name`
    return f"""<label>Name<input name="{field}" value="{escape(name)}" required autocomplete="off"
          data-limit="{LONGEST_PASSKEY_NAME}"></label>"""


def is_on() -> bool:
    """Return True if users can sign in with passkeys on this deployment."""
    return SignInMethod.PASSKEY in bootstrap.current_app().methods


def party_here() -> RelyingParty | None:
    """Return the relying party for the page's URL, or None if browsers offer no passkeys at this URL."""
    here = urlsplit(st.context.url or "")
    return relying_party(bootstrap.current_app().public_url, here.scheme, here.netloc)


def _form(
    kind: str, use: str, back_to: str, label: str, fields: str = "", *, is_second: bool = False
) -> str:
    """Return the HTML of a form that assets/page/passkey.js fills in; *kind*: "create" or "get"."""
    style = ' class="db-second"' if is_second else ""
    return f"""
      <form class="db-form" method="post" action="/passkey" data-passkey="{kind}">
        {hidden_fields({"use": use, "next": back_to})}
        <input type="hidden" name="step">
        <input type="hidden" name="answer">
        {fields}
        <button type="submit"{style} hidden>{label}</button>
      </form>"""
