"""Signing in and making an account: native forms that post to the app's own routes.

No script can set a cookie, so none is asked to; passwords never touch a Streamlit session. Every address
of the app shows this page to who is signed out, and leads back to itself.
"""

from html import escape
from urllib.parse import urlencode, urlsplit

import streamlit as st

from pages._parts import browser, words
from services import bootstrap
from services.domain.limits import PASSWORD_CHARACTERS
from services.errors import SIGN_IN_REASONS, TooManyAttempts, WeakPassword

_CREATE = "Create account"
_ABOUT_NEW_ACCOUNTS = ("weak", "address", "not-allowed", "closed", "confirm")
_LONGEST_WAIT = 86_400  # seconds


def page() -> None:
    """Sign in or make an account, then go on to where this address leads."""
    ended = st.user.get("sid")  # the session that has ended; ENDED: before this tab connected
    unsent = st.session_state.get("unsent")  # what was in the composer then
    if ended and ended != bootstrap.ENDED and not unsent:
        browser.reload()  # the cookie may open another by now, which only a new connection finds out
    middle = st.container(horizontal_alignment="center", key="sign-in-page")
    with middle.container(width=384, gap="medium"):
        st.space(56)
        with st.container(gap="xsmall", horizontal_alignment="center"):
            st.image("assets/logo.svg", width=168, alt="Daybook")
            st.markdown(":gray[Private AI chat]", width="content")
        if unsent:
            st.warning(
                "You were signed out before this was sent. Sign in and your message will be waiting."
            )
            st.code(unsent, language=None, wrap_lines=True)
        elif ended and "reason" not in st.query_params:
            st.info("You were signed out. Sign in to continue where you were; your draft is kept.")
        with st.container(key="login", border=True):
            _draw_forms()
        with st.container(horizontal=True, gap="xsmall", vertical_alignment="top", wrap=False):
            st.markdown(":gray[:material/lock:]", width="content")
            st.caption(
                "Messages are encrypted before they are stored; a stolen database or backup shows "
                "none of them. While you are signed in, the server and the AI model can read them."
            )


def _draw_forms() -> None:
    reason = st.query_params.get("reason", "")
    is_new = reason in _ABOUT_NEW_ACCOUNTS
    names = [words.SIGN_IN, _CREATE] if bootstrap.has_accounts() else [_CREATE, words.SIGN_IN]
    is_about_old = reason in SIGN_IN_REASONS and not is_new
    chosen = _CREATE if is_new else words.SIGN_IN if is_about_old else names[0]
    tabs = dict(zip(names, st.tabs(names, default=chosen), strict=True))
    sign_in, create = tabs[words.SIGN_IN], tabs[_CREATE]
    if sentence := _sentence(reason):
        place = create if is_new else sign_in
        if reason == "confirm":
            place.info(sentence)
        else:
            place.error(sentence)
    sign_in.html(_form("/session", words.SIGN_IN, "current-password"))
    create.html(_form("/account", _CREATE, "new-password", PASSWORD_CHARACTERS))


def _form(action: str, verb: str, password: str, least: int = 0) -> str:
    rule = f'minlength="{least}" aria-describedby="password-rule"' if least else ""
    hint = (
        f'<small id="password-rule">At least {least} characters. A short sentence works well.</small>'
        if least
        else ""
    )
    return f"""
      <form class="db-form" method="post" action="{action}">
        <input type="hidden" name="next" value="{escape(_here())}">
        <label>E-mail<input name="email" type="email" autocomplete="username" required
          placeholder="you@example.org"></label>
        <label>Password<input name="password" type="password" autocomplete="{password}" required {rule}></label>
        {hint}
        <button type="submit">{verb}</button>
      </form>"""


def _here() -> str:
    """This address, without what was said about the last attempt."""
    query = {
        name: value
        for name, value in st.query_params.to_dict().items()
        if name not in ("reason", "wait", "why")
    }
    path = urlsplit(st.context.url or "").path or "/"
    return f"{path}?{urlencode(query)}" if query else path


def _sentence(reason: str) -> str | None:
    """The sentence for *reason*: that of its error."""
    match reason:
        case "slow":
            wait = st.query_params.get("wait", "")
            seconds = int(wait) if wait.isascii() and wait.isdigit() and len(wait) < 9 else 60
            return TooManyAttempts(min(seconds, _LONGEST_WAIT)).public
        case "weak":
            return WeakPassword(st.query_params.get("why", "").split(",")).public
        case _:
            return SIGN_IN_REASONS[reason].public if reason in SIGN_IN_REASONS else None
