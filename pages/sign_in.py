"""The sign-in and sign-up page: native forms that post to the app's own routes.

The forms are native, because a Streamlit script cannot set the session cookie, and passwords must not enter a Streamlit
session. Every URL of the app shows this page to users who are signed out, and the sign-in leads back to the same URL.
"""

from html import escape
from typing import NamedTuple
from urllib.parse import urlencode, urlsplit
from uuid import UUID

import streamlit as st

from pages._parts import about, browser, codes, factor, passkey_forms, providers, words
from pages._parts.form_fields import PasswordKind, password_field, show_button
from pages._parts.refusals import draw_form_title, refusal
from pages._tab import tab
from services import bootstrap
from services.domain.accounts import REDIRECT_PARAMETERS, SessionEnd, SignUps
from services.domain.mails import CodePurpose
from services.domain.sign_in_methods import SignInMethod
from services.errors import SignUpsClosed, Suspended

_CREATE, _WITH_PASSWORD = "Create account", "Sign in with a password"
_RESTART = "Restart Daybook to begin a new account, then open the address that it prints."
_ABOUT_NEW_ACCOUNTS = ("not-allowed", "closed", "confirm", "invitation", "no-invitation")
# the purpose of the code that completes a sign-up; a refused sign-up leads back with it, too
_SIGN_UP = "sign_up"
# values of the URL parameter `reason` after Supabase Auth's link that confirms an address (assets/page/link.js)
_FOLLOWED, _LINK_EXPIRED = "link-followed", "link-expired"
_EMAIL = """<label>Email<input name="email" type="email" autocomplete="username" required
          placeholder="you@example.org"></label>"""
# a field for password managers, which assets/page/address.js fills in
_ACCOUNT = '<input name="email" autocomplete="username" readonly hidden>'
_NEW_PASSWORD = (
    _ACCOUNT + password_field(words.NEW_PASSWORD, "new-password") + show_button("new-password")
)


# the text for taking back a former address, if passwords are switched off
_TAKE_BACK = (
    "If the email of your account was changed in the last three days, enter the one it had before. We will email "
    "you a code. It signs you out on all other devices."
)


class _Entry(NamedTuple):
    """The texts of a form for signing in with a mailed code; *fields*: the HTML of the fields that follow the code."""

    needs: frozenset[SignInMethod]
    purpose: CodePurpose
    link: str
    title: str
    sentence: str
    button: str
    fields: str
    sent: str = "If this email has an account, we sent a code to it."


_CODE, _PASSWORD = frozenset({SignInMethod.CODE}), frozenset({SignInMethod.PASSWORD})
_BY_PASSWORD = "password"  # noqa: S105 - value of the URL parameter `code` that shows the password form while passwords are off
_BY_CODE = {
    str(entry.purpose): entry
    for entry in (
        _Entry(
            _CODE,
            CodePurpose.SIGN_IN,
            "Sign in with a code",
            "Sign in with a code",
            "We will email you a code that signs you in once.",
            words.SIGN_IN,
            "",
        ),
        _Entry(
            _CODE | _PASSWORD,
            CodePurpose.RESET_PASSWORD,
            "Forgot your password?",
            words.RESET_YOURS,
            "We will email you a code, with which you choose a new password. It signs you out on all other devices.",
            words.RESET_PASSWORD,
            _NEW_PASSWORD,
        ),
        _Entry(
            _CODE,
            CodePurpose.RESTORE_ADDRESS,
            "Take back an email address",
            "Take back your email address",
            "If the email of your account was changed in the last three days, enter the one it had before. We will email "
            "you a code, with which you choose a new password. It signs you out on all other devices.",
            "Take back",
            _NEW_PASSWORD,
            "If an account had this email in the last three days, we sent a code to it.",
        ),
    )
}


def page() -> None:
    """Draw the sign-in page. Its forms lead back to the current URL after the sign-in."""
    # the reason why this tab had no session when it connected, or the id of a session that has ended since then
    ended = st.user.get("sid")
    unsent = tab().unsent  # the prompt that was being sent when the session ended
    is_reloading = ended and ended not in bootstrap.ENDS and not unsent
    if is_reloading:
        # the new connection sends the browser's cookie again, which may belong to a new session by now
        browser.reload()
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
        elif ended == SessionEnd.SUSPENDED and st.query_params.get("reason") != "suspended":
            st.error(Suspended.public)
        elif ended == SessionEnd.DELETED:
            st.info("This account was deleted.")
        elif ended and "reason" not in st.query_params:
            st.info("You were signed out. Sign in to continue where you were; your draft is kept.")
        is_own_deletion = st.query_params.get("reason") == "deleted"
        if is_own_deletion:
            st.info("Your account has been deleted. Thank you for using Daybook.")
        if not is_reloading:  # a reload would lose text typed into a form
            with st.container(key="login", border=True):
                if bootstrap.current_app().is_alone:
                    is_deleted = is_own_deletion or ended == SessionEnd.DELETED
                    where = f"Open {bootstrap.current_app().opening}. It opens your chats in any browser on this computer."
                    st.markdown(_RESTART if is_deleted else where)
                elif step := factor.open_step():
                    factor.draw(step, _here())
                elif step := factor.open_enrolment():
                    factor.draw_enrolment(step, _here())
                elif (step := _open_sign_up()) and _sends_codes():
                    _draw_sign_up_code(step)
                elif providers.is_by_code() and _sends_codes():
                    providers.draw_code(_here())
                elif entry := _entries().get(codes.asked_purpose()):
                    _draw_entry(entry)
                elif _asks_operators_password():
                    _draw_operators_password()
                else:
                    _draw_forms()
        with st.container(horizontal=True, gap="xsmall", vertical_alignment="top", wrap=False):
            icon = "lock_open" if bootstrap.current_app().is_plain else "lock"
            st.markdown(f":gray[:material/{icon}:]", width="content")
            st.caption(" ".join(about.protection()))


def _draw_forms() -> None:
    reason, code = st.query_params.get("reason", ""), st.query_params.get("invite", "")
    providers.draw_way_out()
    providers.draw_ways_in(_here(), code)
    sentence, mode = refusal(reason), bootstrap.current_app().sign_ups()
    is_closed = mode is SignUps.CLOSED
    has_form = not is_closed and bool(_methods() & (_CODE | _PASSWORD))
    names = [words.SIGN_IN, _CREATE] if has_form else [words.SIGN_IN]
    if code or not bootstrap.current_app().has_accounts():
        names.reverse()
    is_about_new = reason in _ABOUT_NEW_ACCOUNTS or codes.asked_purpose() == _SIGN_UP
    is_about_new &= reason != "taken"  # the user has to sign in instead
    concerned = _CREATE if is_about_new and has_form else words.SIGN_IN
    is_after_link = reason in (_FOLLOWED, _LINK_EXPIRED)
    first = concerned if sentence or is_after_link or is_about_new else names[0]
    tabs = dict(
        zip(names, st.tabs(names, default=first, key=f"tabs-{names.index(first)}"), strict=True)
    )
    if sentence:
        draw = tabs[concerned].info if reason == "confirm" else tabs[concerned].error
        draw(sentence)
    with tabs[words.SIGN_IN]:
        if is_after_link:
            _draw_end_of_link(is_expired=reason == _LINK_EXPIRED, has_form=has_form)
        _draw_sign_in(code, is_uninvited=reason == "uninvited")
    if is_closed and reason != "closed":
        tabs[words.SIGN_IN].caption(SignUpsClosed.public)
    if not has_form:
        return
    takes_code = bool(code) or mode is SignUps.INVITED
    if _takes_passwords():
        create = _form("/account", _CREATE, "new-password", code, takes_code=takes_code)
    else:
        tabs[_CREATE].markdown("We will email you a code. You need no password.")
        create = _form("/account", words.SEND_CODE, None, code, takes_code=takes_code)
    tabs[_CREATE].html(create)
    if bootstrap.current_app().next_is_admin():
        tabs[_CREATE].caption("You will be the admin.")


def _draw_end_of_link(*, is_expired: bool, has_form: bool) -> None:
    """Say what Supabase Auth's link did; *has_form*: True if the page has a form for a new account."""
    if not is_expired:
        st.info("If you followed the link, your address is confirmed. Sign in to continue.")
        return
    st.error(
        "This link has expired or was used before. If you cannot sign in, create your account again to get a new link."
    )
    if has_form:
        st.button(_CREATE, key="create-again", on_click=codes.go_to, args=[_SIGN_UP])


def _draw_sign_in(invitation: str, *, is_uninvited: bool) -> None:
    """Draw the form for a password or, if passwords are off, for requesting a code; below the form, draw links to other forms."""
    links = {purpose: entry.link for purpose, entry in _entries().items()}
    if _takes_passwords():
        st.html(
            _form(
                "/session", words.SIGN_IN, "current-password", invitation, takes_code=is_uninvited
            )
        )
    else:
        links[_BY_PASSWORD] = _WITH_PASSWORD
        if by_code := _entries().get(CodePurpose.SIGN_IN):
            del links[CodePurpose.SIGN_IN]
            st.markdown(by_code.sentence)
            st.html(codes.CodeForms(by_code.purpose, _here()).send(words.SEND_CODE, _EMAIL))
    if by_passkey := passkey_forms.sign_in_form(_here()):
        st.html(by_passkey)
    if links:
        with st.container(horizontal=True, horizontal_alignment="distribute"):
            for purpose, link in links.items():
                st.button(link, type="tertiary", on_click=codes.go_to, args=[purpose])


def _asks_operators_password() -> bool:
    """Return True if passwords are off, and the URL asks for a password or says that the password was wrong."""
    is_asked = codes.asked_purpose() == _BY_PASSWORD or st.query_params.get("reason") == "wrong"
    return is_asked and not _takes_passwords()


def _draw_operators_password() -> None:
    """Draw the form for a password that an operator has set. Such a password works even if sign-in with passwords is off."""
    draw_form_title(_WITH_PASSWORD)
    st.markdown("Only a password that your admin has set for you works here.")
    st.html(_form("/session", words.SIGN_IN, "current-password", "", takes_code=False))
    st.button(words.BACK_TO_SIGN_IN, type="tertiary", on_click=codes.go_to, args=[""])


def _entries() -> dict[str, _Entry]:
    """Return the available forms for signing in with a mailed code, by purpose."""
    on = {purpose: entry for purpose, entry in _BY_CODE.items() if entry.needs <= _methods()}
    if on and not _takes_passwords():
        restore = on[CodePurpose.RESTORE_ADDRESS]
        on[CodePurpose.RESTORE_ADDRESS] = restore._replace(sentence=_TAKE_BACK, fields="")
    return on


def _takes_passwords() -> bool:
    return SignInMethod.PASSWORD in _methods()


def _methods() -> frozenset[SignInMethod]:
    return bootstrap.current_app().methods


def _draw_entry(entry: "_Entry") -> None:
    """Draw the forms for signing in with a mailed code: first for the email and, once a code was sent, for the code."""
    forms, step = codes.CodeForms(entry.purpose, _here()), codes.open_step()
    draw_form_title(entry.title)
    if step is None:
        st.markdown(entry.sentence)
        st.html(forms.send(words.SEND_CODE, _EMAIL))
    else:
        st.markdown(f"{entry.sent} {codes.SENT}")
        st.html(codes.SENT_TO + forms.redeem(step, entry.button, entry.fields))
    st.button(words.BACK_TO_SIGN_IN, type="tertiary", on_click=codes.go_to, args=[""])


def _open_sign_up() -> UUID | None:
    """Return the id of the step in the URL if the step is a sign-up that waits for its code, else None."""
    return codes.open_step() if codes.asked_purpose() == _SIGN_UP else None


def _draw_sign_up_code(step: UUID) -> None:
    """Draw the form for the code of a sign-up; it looks the same if the email already has an account."""
    draw_form_title("Confirm your email")
    st.markdown(
        "We sent you an email. Enter the code in it to create your account. If you already have an account, the email "
        f"says so. {codes.SENT}"
    )
    st.html(codes.SENT_TO + codes.CodeForms(_SIGN_UP, _here()).redeem(step, _CREATE))
    st.button(words.BACK_TO_SIGN_IN, type="tertiary", on_click=codes.go_to, args=[""])


def _sends_codes() -> bool:
    return bootstrap.current_app().mailer is not None


def _form(
    action: str, verb: str, password: PasswordKind | None, code: str, *, takes_code: bool
) -> str:
    fields = ""
    if password:
        fields = password_field(words.PASSWORD, password) + show_button(password)
    invite = f'<input type="hidden" name="invite" value="{escape(code)}">'
    if takes_code:
        invite = f"""<label>Invitation code<input name="invite" value="{escape(code)}" autocomplete="off"
          required></label>"""
    return f"""
      <form class="db-form" method="post" action="{action}">
        <input type="hidden" name="next" value="{escape(_here())}">
        {_EMAIL}
        {fields}
        {invite}
        <button type="submit">{verb}</button>
      </form>"""


def _here() -> str:
    """Return the path and query of the current URL, without the parameters of the sign-in page itself."""
    query = st.query_params.to_dict()
    for name in REDIRECT_PARAMETERS:
        query.pop(name, None)
    path = urlsplit(st.context.url or "").path or "/"
    return f"{path}?{urlencode(query)}" if query else path
