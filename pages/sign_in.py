"""The sign-in and sign-up page: native forms that post to the app's own routes.

The forms are native, because a Streamlit script cannot set the session cookie, and passwords must not enter a Streamlit
session. Every URL of the app shows this page to users who are signed out, and the sign-in leads back to the same URL.
"""

from html import escape
from typing import NamedTuple
from urllib.parse import urlencode, urlsplit
from uuid import UUID

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages._parts import about, browser, codes, factor, passkey_forms, providers, words
from pages._parts.form_fields import (
    PasswordKind,
    email_field,
    hidden_fields,
    password_field,
    show_button,
)
from pages._parts.refusals import draw_form_title, refusal
from pages._tab import tab
from services import bootstrap
from services.domain.accounts import REDIRECT_PARAMETERS, OpenInvitation, SessionEnd, SignUps
from services.domain.mails import HAS_INVITATION, UNDO_CHANGE, CodePurpose
from services.domain.sign_in_methods import SignInMethod
from services.errors import AppError, SignUpsClosed, Suspended

_CREATE, _WITH_PASSWORD = "Create account", "Sign in with a password"
_RESTART = "Restart Daybook to begin a new account, then open the address that it prints."
_ABOUT_NEW_ACCOUNTS = ("not-allowed", "closed", "confirm", "invitation", "no-invitation")
# the purpose of the code that completes a sign-up; a refused sign-up leads back with it, too
_SIGN_UP = "sign_up"
# value of the URL parameter `code` that shows the form for an invitation's code
_INVITATION = "invitation"
# values of the URL parameter `reason` after Supabase Auth's link that confirms an address (assets/page/link.js)
_FOLLOWED, _LINK_EXPIRED = "link-followed", "link-expired"
# the field that gets the focus after a refusal; after any other, it is the email
_REFUSED_FIELDS = {
    "wrong": "password",
    "weak": "password",
    "invitation": "invite",
    "no-invitation": "invite",
    "uninvited": "invite",
}
# a field for password managers, which assets/page/address.js fills in
_ACCOUNT = '<input name="email" autocomplete="username" readonly hidden>'
_NEW_PASSWORD = (
    _ACCOUNT + password_field(words.NEW_PASSWORD, "new-password") + show_button("new-password")
)


_ASK_ADMIN = "Forgot your password? Ask your admin to reset it."
# sentences about what the user has just done, keyed by the reason in the URL
_DONE = {
    "deleted": "Your account has been deleted. Thank you for using Daybook.",
    "left": "You are signed out.",
}
# the text for undoing a change of address, if passwords are switched off
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
            UNDO_CHANGE,
            UNDO_CHANGE,
            "If the email of your account was changed in the last three days, enter the one it had before. We will email "
            "you a code, with which you choose a new password. It signs you out on all other devices.",
            "Undo the change",
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
        with st.container(key="login", border=True):
            _draw_end(ended, unsent)
            if not is_reloading:  # a reload would lose text typed into a form
                if bootstrap.current_app().is_alone:
                    is_deleted = _reason() == "deleted" or ended == SessionEnd.DELETED
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
                elif codes.asked_purpose() == _INVITATION:
                    _draw_invitation_code()
                elif _asks_operators_password():
                    _draw_operators_password()
                else:
                    _draw_forms()
        with st.container(horizontal=True, gap="xsmall", vertical_alignment="top", wrap=False):
            icon = "lock_open" if bootstrap.current_app().is_plain else "lock"
            st.markdown(f":gray[:material/{icon}:]", width="content")
            st.caption(" ".join(about.protection()))


def _draw_end(ended: object, unsent: str) -> None:
    """Say how the last session ended; *ended*: as in `page`; *unsent*: the prompt that was being sent then."""
    reason = _reason()
    if unsent:
        st.warning(
            "You were signed out before this was sent. Sign in and your message will be waiting."
        )
        st.code(unsent, language=None, wrap_lines=True)
    elif ended == SessionEnd.SUSPENDED and reason != "suspended":
        st.error(Suspended.public)
    elif reason in _DONE:
        st.info(_DONE[reason])
    elif ended == SessionEnd.DELETED:
        st.info("This account was deleted.")
    elif ended and not reason:
        st.info("You were signed out. Sign in to continue where you were; your draft is kept.")


def _reason() -> str:
    return st.query_params.get("reason", "")


def _draw_forms() -> None:
    reason, code = _reason(), st.query_params.get("invite", "").strip()
    sentence, mode = refusal(reason), bootstrap.current_app().sign_ups()
    is_closed = mode is SignUps.CLOSED
    providers.draw_way_out()
    invitation = _draw_invitation(code, mode) if code and not is_closed else None
    providers.draw_ways_in(_here(), code)
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
    if has_form:
        _draw_create(tabs[_CREATE], code, invitation, mode)
    if invitation is None and (has_form or (providers.offered() and not is_closed)):
        _draw_way_of_the_invited(mode)


def _draw_create(
    place: DeltaGenerator, code: str, invitation: OpenInvitation | None, mode: SignUps
) -> None:
    """Draw the form for a new account; *invitation*: the open one with *code*, if any."""
    email, takes_code = (invitation and invitation.email) or "", mode is SignUps.INVITED
    if _takes_passwords():
        create = _form("/account", _CREATE, "new-password", code, email, takes_code=takes_code)
    else:
        place.markdown("We will email you a code. You need no password.")
        create = _form("/account", words.SEND_CODE, None, code, email, takes_code=takes_code)
    place.html(create)
    if bootstrap.current_app().next_is_admin():
        place.caption("You're the first user, so you'll be the admin.")


def _draw_invitation(code: str, mode: SignUps) -> OpenInvitation | None:
    """Say who sent the open invitation with *code*, and return it; else, say why not. A tab is told of each code once."""
    asked, found = tab().asked_invitation
    if code != asked:
        network = str(st.user.get("network") or "")
        try:
            found = bootstrap.current_app().open_invitation(code, network)
        except AppError as error:
            st.warning(f"The invitation could not be checked. {error.public}")
            return None
        tab().asked_invitation = code, found
    if found:
        st.text(f"{found.invited_by} invites you.")
    else:
        without = ", or create an account without it" if mode is SignUps.OPEN else ""
        st.warning(
            f"This invitation cannot be used. Ask whoever invited you for a new one{without}."
        )
    return found


def _draw_way_of_the_invited(mode: SignUps) -> None:
    if not bootstrap.current_app().has_accounts():  # the first account needs no invitation
        return
    if mode is SignUps.INVITED:
        st.caption("No account yet? You need an invitation: ask an admin of this Daybook for one.")
    st.button(HAS_INVITATION, type="tertiary", on_click=codes.go_to, args=[_INVITATION])


def _draw_invitation_code() -> None:
    """Draw the form for an invitation's code. It leads to the page that the invitation's link leads to."""
    draw_form_title("Use your invitation")
    st.html(f"""
      <form class="db-form">
        {hidden_fields(_query())}
        {_invitation_field()}
        <button type="submit">Continue</button>
      </form>""")
    st.button(words.BACK_TO_SIGN_IN, type="tertiary", on_click=codes.go_to, args=[""])


def _invitation_field(state: str = "") -> str:
    return f'<label>Invitation code<input name="invite"{state} autocomplete="off" required></label>'


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
    entries = _entries()
    links = {purpose: entry.link for purpose, entry in entries.items()}
    if CodePurpose.RESET_PASSWORD in entries:
        del links[CodePurpose.RESTORE_ADDRESS]  # the form for a new password leads to it
    if _takes_passwords():
        st.html(
            _form(
                "/session", words.SIGN_IN, "current-password", invitation, takes_code=is_uninvited
            )
        )
    else:
        links[_BY_PASSWORD] = _WITH_PASSWORD
        if by_code := entries.get(CodePurpose.SIGN_IN):
            del links[CodePurpose.SIGN_IN]
            st.markdown(by_code.sentence)
            st.html(codes.CodeForms(by_code.purpose, _here()).send(words.SEND_CODE, email_field()))
    if by_passkey := passkey_forms.sign_in_form(_here()):
        st.html(by_passkey)
    if links:
        with st.container(horizontal=True, horizontal_alignment="distribute"):
            for purpose, link in links.items():
                st.button(link, type="tertiary", on_click=codes.go_to, args=[purpose])
    is_asked = bootstrap.current_app().has_accounts() and CodePurpose.RESET_PASSWORD not in entries
    if is_asked and _takes_passwords():
        st.caption(_ASK_ADMIN)


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
        st.html(forms.send(words.SEND_CODE, email_field()))
        if entry.purpose is CodePurpose.RESET_PASSWORD:
            restore = CodePurpose.RESTORE_ADDRESS
            st.button(UNDO_CHANGE, type="tertiary", on_click=codes.go_to, args=[restore])
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
    action: str,
    verb: str,
    password: PasswordKind | None,
    code: str,
    email: str = "",
    *,
    takes_code: bool,
) -> str:
    def state(field: str) -> str:
        is_refused = refusal(_reason()) and _REFUSED_FIELDS.get(_reason(), "email") == field
        return 'aria-invalid="true"' if is_refused else ""

    fields = ""
    if password:
        fields = password_field(words.PASSWORD, password, state("password")) + show_button(password)
    invite = f'<input type="hidden" name="invite" value="{escape(code)}">'
    if takes_code:
        invite = _invitation_field(f' value="{escape(code)}" {state("invite")}')
    return f"""
      <form class="db-form" method="post" action="{action}">
        <input type="hidden" name="next" value="{escape(_here())}">
        {email_field(state=f'value="{escape(email)}" {state("email")}')}
        {fields}
        {invite}
        <button type="submit">{verb}</button>
      </form>"""


def _here() -> str:
    """Return the path and query of the current URL, without the parameters of the sign-in page itself."""
    query, path = _query(), urlsplit(st.context.url or "").path or "/"
    return f"{path}?{urlencode(query)}" if query else path


def _query() -> dict[str, str]:
    query = st.query_params.to_dict()
    return {name: value for name, value in query.items() if name not in REDIRECT_PARAMETERS}
