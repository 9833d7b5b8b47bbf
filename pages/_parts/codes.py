"""Native forms for codes by mail, which post to /code and /code/redeem: no code enters a Streamlit session."""

from dataclasses import dataclass, field
from html import escape
from uuid import UUID

import streamlit as st

SENT = "The code is good for ten minutes. Check your spam folder if the email does not arrive."
_ANOTHER = "Send a new code"
_WAIT = "You can request one a minute. A new code replaces the last one."


@dataclass(frozen=True, slots=True)
class CodeForms:
    """The forms of one purpose of codes: what it is called in the address, and the page that they lead back to."""

    purpose: str
    back_to: str = field(repr=False)

    def send(self, button: str, fields: str = "", *, is_second: bool = False) -> str:
        """Return the HTML of the form that has a code sent; *fields*: what it asks for, as HTML.

        *is_second*: another form on the page has the main button.
        """
        kind = ' class="db-second"' if is_second else ""
        return f"""
      <form class="db-form" method="post" action="/code">
        {self._hidden()}
        {fields}
        <button type="submit"{kind}>{button}</button>
      </form>"""

    def redeem(self, step: UUID, button: str, fields: str = "") -> str:
        """Return the HTML of the form for a code, and of the one that has another code sent."""
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
        if invitation := st.query_params.get("invite"):  # of a sign-up that begins anew
            values["invite"] = invitation
        return "".join(
            f'<input type="hidden" name="{name}" value="{escape(str(value))}">'
            for name, value in values.items()
        )


def asked_purpose() -> str:
    """Return the purpose of codes in the address; "" for none."""
    return st.query_params.get("code", "")


def open_step() -> UUID | None:
    """Return the step in the address for which a code was sent."""
    try:
        return UUID(st.query_params.get("step", ""))
    except ValueError:
        return None


def go_to(purpose: str) -> None:
    """Make the next run show the forms of *purpose*; "": none. For callbacks."""
    for name in ("reason", "wait", "why", "step", "code", "by", "added", "ways", "then"):
        st.query_params.pop(name, None)
    if purpose:
        st.query_params["code"] = purpose
