"""Native forms for mailed codes. They post to /code and /code/redeem, so that no code enters a Streamlit session."""

from dataclasses import dataclass, field
from uuid import UUID

import streamlit as st

from pages._parts.form_fields import hidden_fields

SENT = "The code is good for ten minutes. Check your spam folder if the email does not arrive."
# the address that a code was sent to, which assets/page/address.js fills in
SENT_TO = '<p class="db-sent-to" hidden></p>'
_ANOTHER = "Send a new code"
_WAIT = "You can request one a minute. A new code replaces the last one."


@dataclass(frozen=True, slots=True)
class CodeForms:
    """The forms for codes of one *purpose* (named as in the URL); the forms lead back to the page *back_to*."""

    purpose: str
    back_to: str = field(repr=False)

    def send(self, button: str, fields: str = "", *, is_second: bool = False) -> str:
        """Return the HTML of the form that requests a code; *fields*: the HTML of its input fields.

        *is_second*: give the button the secondary style, because another form on the page has the main button.
        """
        kind = ' class="db-second"' if is_second else ""
        return f"""
      <form class="db-form" method="post" action="/code">
        {self._hidden()}
        {fields}
        <button type="submit"{kind}>{button}</button>
      </form>"""

    def redeem(self, step: UUID, button: str, fields: str = "") -> str:
        """Return the HTML of the form in which a code is entered, and of the form that requests another code."""
        return f"""
      <form class="db-form" method="post" action="/code/redeem">
        {self._hidden(step)}
        <label>Code<input name="code" type="text" inputmode="numeric" autocomplete="one-time-code" required
          maxlength="20" placeholder="12345678"></label>
        {fields}
        <button type="submit">{button}</button>
      </form>
      <form class="db-form" method="post" action="/code">
        {self._hidden(step)}
        <button type="submit" class="db-second" aria-describedby="another-code">{_ANOTHER}</button>
        <small id="another-code">{_WAIT}</small>
      </form>"""

    def _hidden(self, step: UUID | None = None) -> str:
        values = {"purpose": self.purpose, "next": self.back_to} | ({"step": step} if step else {})
        # if a sign-up has to be begun again, it still needs its invitation
        if invitation := st.query_params.get("invite"):
            values["invite"] = invitation
        return hidden_fields(values)


def asked_purpose() -> str:
    """Return the purpose of codes that the URL names, or "" if the URL names none."""
    return st.query_params.get("code", "")


def open_step() -> UUID | None:
    """Return the id of the step in the URL, for which a code was sent, or None if the URL has none."""
    try:
        return UUID(st.query_params.get("step", ""))
    except ValueError:
        return None


def go_to(purpose: str) -> None:
    """Make the next run show the forms of *purpose*, or none of these forms if it is "". For use in callbacks."""
    query = "reason", "wait", "why", "new", "step", "code", "by", "added", "ways", "gone", "then"
    for name in query:
        st.query_params.pop(name, None)
    if purpose:
        st.query_params["code"] = purpose
