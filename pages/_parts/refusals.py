"""Error messages for native HTML forms: if the server refuses a form, it redirects with the reason in the URL."""

import streamlit as st

from services.domain.accounts import SIGN_IN_REASONS
from services.errors import StoreUnavailable, TooManyAttempts, WeakPassword

_JOINER = "\u2060"  # an invisible character
_LONGEST_WAIT = 86_400  # the longest wait that a page shows, in seconds


def refusal(reason: str) -> str | None:
    """Return the sentence of the error that *reason* names, with details from the URL; None if *reason* names no error."""
    match reason:
        case "slow":
            wait = st.query_params.get("wait", "")
            seconds = int(wait) if wait.isascii() and wait.isdigit() and len(wait) < 9 else 60
            return TooManyAttempts(min(seconds, _LONGEST_WAIT)).public
        case "weak":
            return WeakPassword(st.query_params.get("why", "")).public
        case _:
            error = SIGN_IN_REASONS.get(reason)
            # Markdown would make a link of the example of an address
            return error.public.replace("@", f"@{_JOINER}") if error else None


def refused_change(reason: str) -> str:
    """Return the sentence of the error that *reason* names, after a change of the account; "" if it names none."""
    if reason == "unavailable":  # the change may have been stored, although the response was lost
        maybe_saved = "Your change may not have been saved. Try again in a moment."
        return f"{StoreUnavailable.outage} {maybe_saved}"
    refused = refusal(reason)
    return f"Nothing was changed. {refused}" if refused else ""


def draw_refused_change(reason: str) -> None:
    if refused := refused_change(reason):
        st.error(refused)


def draw_failed_sign_out() -> None:
    """Say so if the URL says that the sign-out failed because the database was unreachable."""
    if st.query_params.get("reason") == "still-signed-in":
        st.error("You are still signed in: Daybook could not sign you out. Try again in a moment.")


def draw_form_title(title: str) -> None:
    """Draw the *title* of a form for signing in and, if the last entry was refused, the reason in the URL."""
    st.title(title, anchor=False)
    if sentence := refusal(st.query_params.get("reason", "")):
        st.error(sentence)
