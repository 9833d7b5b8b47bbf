"""The forms for a second factor, which is asked for after the password or a mailed code, or in a proof of identity."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime
from html import escape
from uuid import UUID

import streamlit as st

from pages._parts import codes, passkey_forms, words
from pages._parts.form_fields import hidden_fields
from pages._parts.refusals import draw_form_title
from services.domain.accounts import SecondFactor

TITLE = "Enter the code of your authenticator app"
# the values of the URL parameter `code`, each for one form
_APP, _RECOVERY, _PASSKEY = "factor", "recovery", "passkey_factor"
# the value of `code` for the form of a password reset that asks only which methods to keep, not for a second factor
_KEPT = "kept"
_TITLES = {
    _APP: TITLE,
    _RECOVERY: "Enter a recovery code",
    _PASSKEY: words.USE_PASSKEY,
    _KEPT: words.RESET_YOURS,
}
_KINDS = {"passkey": words.PASSKEY, "identity": "Sign-in at a provider"}
_LINKS = {_PASSKEY: "Use a passkey", _APP: "Use the app", _RECOVERY: "Use a recovery code"}
_ENROL = "enrol_factor"  # the value of `code` for the form that leads to a setup key
_REASONS = {"factor", "wrong-factor"}  # reasons in the URL: the second factor was missing or wrong
_APP_FIELD = """<label>Code<input name="factor" type="text" inputmode="numeric" autocomplete="one-time-code" required
          maxlength="20" placeholder="123456"></label>"""
_RECOVERY_FIELD = """<label>Recovery code<input name="factor" type="text" autocomplete="off" autocapitalize="characters"
          spellcheck="false" required maxlength="60" placeholder="XXXX-XXXX-XXXX-XXXX-XXXX-XXXX"></label>"""
_PROOF_FIELD = """<label>Code of your authenticator app, or a recovery code<input name="factor" type="text"
          autocomplete="one-time-code" autocapitalize="none" spellcheck="false" required maxlength="60"></label>"""


def open_step() -> UUID | None:
    """Return the id of the step in the URL if `draw` has a form for this step, else None."""
    return codes.open_step() if codes.asked_purpose() in _TITLES else None


def open_enrolment() -> UUID | None:
    """Return the id of the step in the URL if it is a sign-in whose user must first set up a second factor, else None."""
    return codes.open_step() if codes.asked_purpose() == _ENROL else None


def draw_enrolment(step: UUID, back_to: str) -> None:
    """Draw the button that leads to the page with the setup key."""
    draw_form_title("Set up an authenticator app")
    st.markdown(
        "Two-step verification is required here. Set up an app on your phone, or a password manager, that "
        "shows codes for signing in. Then you are signed in."
    )
    of_sign_up = {name: st.query_params.get(name, "") for name in ("new", "invite")}
    st.html(f"""
      <form class="db-form" method="post" action="/factor/enrol">
        {hidden_fields({"step": step, "next": back_to} | of_sign_up)}
        {_of_step()}
        <button type="submit">Show setup key</button>
      </form>""")
    st.button(words.BACK_TO_SIGN_IN, type="tertiary", on_click=codes.go_to, args=[""])


def draw(step: UUID, back_to: str) -> None:
    """Draw the form for a code of the authenticator app, a passkey or a recovery code, as the URL asks."""
    form = codes.asked_purpose()
    if _is_reset():
        draw_form_title(words.RESET_YOURS)
        first = "" if form == _KEPT else f"{_TITLES[form]}. "
        st.markdown(f"{first}Your password changes after this step.")
    else:
        draw_form_title(_TITLES[form])
    if st.query_params.get("reason") == "slow" and form == _APP:
        st.markdown("A recovery code works at once.")
    if form == _RECOVERY:
        st.markdown("Each of the codes that you saved works once.")
    if form == _PASSKEY:
        st.markdown("Your fingerprint, face, screen lock or security key shows that it is you.")
    st.html(_passkey_form(step, back_to) if form == _PASSKEY else _form(step, back_to, form))
    with st.container(horizontal=True, horizontal_alignment="distribute"):
        for other in _offered():
            if form not in (other, _KEPT):
                st.button(_LINKS[other], type="tertiary", on_click=_switch, args=[other])
        st.button(words.BACK_TO_SIGN_IN, type="tertiary", on_click=codes.go_to, args=[""])


def _is_reset() -> bool:
    """Return True if the step in the URL is a password reset: its URL lists what the reset may keep."""
    return any(st.query_params.get(name) for name in ("added", "ways"))


def _offered() -> Sequence[str]:
    """Return the names of the forms among which the user can choose for the step in the URL."""
    match st.query_params.get("by", ""):
        case "passkey":
            return _PASSKEY, _RECOVERY
        case "both":
            return _PASSKEY, _APP, _RECOVERY
        case _:
            return _APP, _RECOVERY


def proof_field(factor: SecondFactor | None) -> str:
    """Return the HTML of the field for the second factor in a form for a proof; "" if no second factor is required."""
    if factor and not factor.since:  # the factor is a passkey, without an app
        return _RECOVERY_FIELD
    is_wanted = factor is not None or st.query_params.get("reason") in _REASONS
    return _PROOF_FIELD if is_wanted else ""


def _switch(form: str) -> None:
    """Make the next run show *form* for the same step. For use in callbacks."""
    for name in ("reason", "wait"):
        st.query_params.pop(name, None)
    st.query_params["code"] = form


def _form(step: UUID, back_to: str, form: str) -> str:
    field = {_APP: _APP_FIELD, _RECOVERY: _RECOVERY_FIELD}.get(form, "")
    return f"""
      <form class="db-form" method="post" action="/factor">
        {hidden_fields({"form": form, "step": step, "next": back_to})}
        {field}
        {_of_step()}
        <button type="submit">{words.RESET_PASSWORD if _is_reset() else words.SIGN_IN}</button>
      </form>"""


def _passkey_form(step: UUID, back_to: str) -> str:
    return passkey_forms.factor_form(back_to, hidden_fields({"entry": step}) + _of_step())


def _of_step() -> str:
    """Return the HTML that all forms of a step share: hidden fields, and checkboxes for the methods that a reset may keep."""
    values = {name: st.query_params.get(name, "") for name in ("by", "ways")}
    kept = dict[str, str]()  # labels of the methods that a reset may keep, by field name
    if added := _day(st.query_params.get("added", "")):
        values["added"] = str(added)
        kept["keeps"] = f"Authenticator app, added on {words.date_of(added)}"
    for way in values["ways"].split("~"):
        kind, _, rest = way.partition(".")
        at, _, _ = rest.partition(".")
        if kind in _KINDS and (when := _moment(at)):
            kept[f"keeps-{way}"] = f"{_KINDS[kind]}, added on {when}"
    return hidden_fields({name: value for name, value in values.items() if value}) + _kept(kept)


def _kept(kept: Mapping[str, str]) -> str:
    """Return HTML with a checkbox for each sign-in method that a password reset may keep; *kept*: the labels by field name.

    All boxes are ticked, except those that the user had unticked before the last entry was refused.
    """
    if not kept:
        return ""
    gone = st.query_params.get("gone", "").split("~")
    ticks = "".join(
        f"""<label><input type="checkbox" name="{escape(name)}" value="yes"{"" if name in gone else " checked"}>
            {escape(what)}</label>"""
        for name, what in kept.items()
    )
    has_factor = st.query_params.get("by") or st.query_params.get("added")
    last = (
        " Without a second step, two-step verification ends, unless it is required here."
        if has_factor
        else ""
    )
    return f"""<fieldset class="db-kept">
          <legend>Keep these sign-in methods</legend>
          {ticks}
          <small>Untick any you don't recognize; they are removed.{last}</small>
        </fieldset>"""


def _moment(text: str) -> str:
    """Return the time in *text* (in ISO format) in the browser's time zone, or "" if *text* is not a time."""
    with suppress(ValueError, OverflowError):
        return words.moment(datetime.fromisoformat(text), has_date=True)
    return ""


def _day(text: str) -> date | None:
    """Return the date that *text* contains in ISO format, or None if it is not a date."""
    with suppress(ValueError):
        return date.fromisoformat(text)
    return None
