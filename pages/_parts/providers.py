"""Single sign-on providers: links on the sign-in page, forms for codes that such a sign-in requires, and forms for proofs.

The links and forms lead to routes outside Streamlit.
"""

from collections.abc import Sequence
from html import escape
from urllib.parse import urlencode

import streamlit as st

from pages._parts import codes, words
from pages._parts.refusals import draw_form_title
from services import bootstrap
from services.bootstrap import UserServices
from services.domain.single_sign_on import OfferedProvider

TITLE = "Sign-in providers"
# the purpose of codes that are mailed to an address which was entered in this tab
_ADDRESS = "address_of_identity"
# the purposes of the codes that a sign-in through a provider may require
_PURPOSES = ("link_identity", _ADDRESS)


def offered() -> tuple[OfferedProvider, ...]:
    """Return the providers through which users can sign in to this deployment."""
    return bootstrap.current_app().providers


def draw_ways_in(back_to: str, invitation: str) -> None:
    """Draw a link to sign in through each provider, above the page's forms."""
    if not offered():
        return
    values = {"next": back_to} | ({"invite": invitation} if invitation else {})
    query = urlencode(values)
    links = "".join(
        f'<a href="/oidc/{one.name}?{escape(query)}" target="_self">Continue with {escape(one.label)}</a>'
        for one in offered()
    )
    st.html(f'<nav class="db-ways" aria-label="{TITLE}">{links}</nav>')


def draw_way_out() -> None:
    """After a sign-out, draw a link that also signs the user out of the provider through which they had signed in."""
    name = st.query_params.get("left", "")
    for one in offered():
        if one.name == name:
            st.markdown("You are signed out of Daybook.")
            link = f'<a href="/oidc/{one.name}/end" target="_self">Sign out of {escape(one.label)}, too</a>'
            st.html(f'<nav class="db-ways" aria-label="{words.SIGN_OUT}">{link}</nav>')


def is_by_code() -> bool:
    """Return True if the URL asks for the form for a code that a sign-in through a provider requires."""
    return codes.asked_purpose() in _PURPOSES


def draw_code(back_to: str) -> None:
    """Draw the form for the code that a sign-in through a provider requires."""
    step = codes.open_step()
    draw_form_title("Enter the code")
    if step:
        st.markdown(f"We sent you an email with a code. {codes.SENT}")
        purpose = codes.asked_purpose()
        sent_to = codes.SENT_TO if purpose == _ADDRESS else ""
        st.html(sent_to + codes.CodeForms(purpose, back_to).redeem(step, words.SIGN_IN))
    st.button(words.BACK_TO_SIGN_IN, type="tertiary", on_click=codes.go_to, args=[""])


def proving(user: UserServices) -> list[OfferedProvider]:
    """Return the providers through which *user* can prove their identity."""
    issuers = {one.identity.issuer for one in user.sign_in_details.identities}
    return [one for one in offered() if one.issuer in issuers]


def proof_forms(user: UserServices, then: str) -> str:
    """Return the HTML of a form for each provider through which *user* can prove their identity; *then*: as in `proof.draw`."""
    return forms("prove", proving(user), "Confirm with", then)


def forms(act: str, to: Sequence[OfferedProvider], verb: str, then: str = "") -> str:
    """Return the HTML of a form for each provider; the button shows *verb* and the provider's label."""
    hidden = f'<input type="hidden" name="then" value="{escape(then)}">' if then else ""
    return "".join(
        f"""
      <form class="db-form" method="post" action="/oidc/{one.name}/{act}">
        {hidden}
        <button type="submit" class="db-second">{verb} {escape(one.label)}</button>
      </form>"""
        for one in to
    )
