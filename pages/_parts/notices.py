"""Notices about sign-ins and changed sign-in methods, shown to the account's user on every page until dismissed."""

from collections.abc import Collection, Mapping, Sequence
from html import escape
from uuid import UUID

import streamlit as st

from pages._parts import words
from pages._parts.elements import quiet_button, row
from pages._session import find_user
from services import bootstrap
from services.bootstrap import UserServices
from services.domain.accounts import FEW_RECOVERY_CODES, AccountNotice
from services.domain.mails import NoticeKind
from services.errors import AppError

_MOST = 3  # the number of notices that are shown; further ones are in an expander
_TO_ACCOUNT = '<a href="/account" target="_self">Account</a>'
_IF_NOT_YOU = (
    "If this was not you, change your password (if you have one), remove ways to sign in that you do not know, and sign out "
    f"your other devices on {_TO_ACCOUNT}."
)
_TITLES: Mapping[NoticeKind, str] = {  # titles of the notices with the advice _IF_NOT_YOU
    NoticeKind.NEW_DEVICE: "New sign-in to your account",
    NoticeKind.FACTOR_ADDED: "An authenticator app was set up",
    NoticeKind.FACTOR_REMOVED: "Your authenticator app was turned off",
    NoticeKind.FACTOR_REPLACED: "Your authenticator app was replaced by another",
    NoticeKind.PASSKEY_FACTOR_ADDED: "Signing in now asks for a passkey as your second step",
    NoticeKind.PASSKEY_FACTOR_REMOVED: "Signing in no longer asks for a passkey as your second step",
    NoticeKind.RECOVERY_CODES_RENEWED: "New recovery codes were made",
    NoticeKind.RECOVERY_CODE_USED: "A recovery code was used",
    NoticeKind.PASSKEY_ADDED: "A passkey was added",
    NoticeKind.PASSKEY_REMOVED: "A passkey was removed",
    NoticeKind.PASSWORD_CHANGED: "Your password was changed",
    NoticeKind.PASSWORD_RESET: "Your password was reset by email",
    NoticeKind.ADDRESS_CHANGED: "Your email was changed",
    NoticeKind.IDENTITY_ADDED: "A sign-in was added to your account",
    NoticeKind.IDENTITY_REMOVED: "A sign-in was removed from your account",
}
# the title and the advice of each kind of notice
_TEXTS = {kind: (title, _IF_NOT_YOU) for kind, title in _TITLES.items()} | {
    NoticeKind.WRONG_FACTORS: (
        "Wrong codes at sign-in",
        f"Someone passed the first step, but not your two-step verification. {_IF_NOT_YOU}",
    ),
    NoticeKind.FEW_RECOVERY_CODES: (
        f"{FEW_RECOVERY_CODES} recovery codes left",
        f"Make new ones on {_TO_ACCOUNT}.",
    ),
    NoticeKind.PASSKEY_COPIED: (
        "A passkey was refused",
        f"A copy of it may be in use. Remove it and add a new one on {_TO_ACCOUNT}.",
    ),
    NoticeKind.OPERATOR: (
        "An admin changed how you sign in",
        f"Ask your admin if you did not expect this. Your recent activity is on {_TO_ACCOUNT}.",
    ),
}
_NEWER = (
    f"{words.NEWER}, which can show this",
    f"Your recent activity is on {_TO_ACCOUNT}.",
)


def draw(user: UserServices | None, drawn: Collection[UUID] = ()) -> set[UUID]:
    """Draw the notices that were last read from the store, except those in *drawn*; return the ids of all drawn notices."""
    if user is None or bootstrap.current_app().is_alone:
        return set()
    try:
        notices = user.notices
    except AppError:  # the page draws the error
        return set(drawn)
    new = [one for one in notices if one.id not in drawn]
    for notice in new[:_MOST]:
        _draw_notice(notice)
    if others := new[_MOST:]:
        with st.expander(words.count(len(others), "more notice")):
            ids = [one.id for one in notices]
            quiet_button("Dismiss all", "done_all", "dismiss-notices", _dismiss, ids)
            for notice in others:
                _draw_notice(notice)
    return {*drawn, *(one.id for one in new)}


def _draw_notice(notice: AccountNotice) -> None:
    title, advice = _TEXTS.get(notice.kind, _NEWER)
    at, browser = words.moment(notice.at, has_date=True), notice.browser
    when = f"{at}, in {browser}" if browser else at
    with row(f"notice-{notice.id}", wrap=False):
        st.html(
            f'<p role="status"><strong>{escape(title)}</strong> <span>{escape(when)}</span><br>{advice}</p>'
        )
        quiet_button(words.DISMISS, "close", f"dismiss-{notice.id}", _dismiss, [notice.id])


def _dismiss(ids: Sequence[UUID]) -> None:
    find_user().dismiss_notices(ids)
