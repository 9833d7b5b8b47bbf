"""Notices to the user about changes of the account's sign-in methods, at the top of each page until they are dismissed."""

from collections.abc import Collection, Mapping, Sequence
from html import escape
from typing import NamedTuple
from uuid import UUID

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages._parts import words
from pages._parts.elements import quiet_button, row
from pages._session import find_user
from pages._tab import tab
from services import bootstrap
from services.bootstrap import UserServices
from services.domain.accounts import FEW_RECOVERY_CODES, AccountNotice
from services.domain.mails import NoticeKind
from services.errors import AppError

_TO_ACCOUNT = '<a href="/account" target="_self">Account</a>'
_IF_NOT_YOU = (
    f"Not you? Check your sign-in methods, password (if you have one) and devices on {_TO_ACCOUNT}."
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


class Card(NamedTuple):
    """A card on the page: its place, and the ids of its notices."""

    place: DeltaGenerator
    ids: frozenset[UUID]


def draw(
    place: DeltaGenerator, user: UserServices | None, drawn: Card | None = None
) -> Card | None:
    """Draw a card of the notices that were last read from the store, in *place*; if there is a new one, instead of *drawn*.

    The card names the gravest; a button unfolds the others.
    """
    if user is None or bootstrap.current_app().is_alone:
        return None
    try:
        notices = user.notices
    except AppError:  # the page draws the error
        return drawn
    ids = frozenset(notice.id for notice in notices)
    known = drawn.ids if drawn else frozenset[UUID]()
    if ids <= known:
        return drawn
    card = Card(drawn.place if drawn else place.empty(), ids)
    key = f"-{len(known)}"  # a run may draw no two buttons with one key
    with card.place.container(key=f"notice{key}", gap="xxsmall"):
        _draw_card(notices, key)
    return card


def _draw_card(notices: Sequence[AccountNotice], key: str) -> None:
    gravest, *others = notices
    # a notice that has come since the others were unfolded stays folded, and is not dismissed with them
    shown = [gravest, *(notice for notice in others if notice.id in tab().unfolded_notices)]
    with row(wrap=False):
        st.html(_text(gravest))
        ids = [notice.id for notice in shown]
        quiet_button(words.DISMISS, "close", f"dismiss-notices{key}", _dismiss, ids)
    said = {_advice(gravest)}
    for notice in shown[1:]:
        st.html(_text(notice, said))
        said.add(_advice(notice))
    if folded := len(notices) - len(shown):
        ids = [notice.id for notice in others]
        quiet_button(f"and {folded} more", "expand_more", f"unfold-notices{key}", _unfold, ids)
    elif others:
        quiet_button("Show less", "expand_less", f"unfold-notices{key}", _unfold, ())


def _text(notice: AccountNotice, said: Collection[str] = ()) -> str:
    """Return a notice as HTML, without its advice if that is in *said*."""
    title, advice = _TEXTS.get(notice.kind, _NEWER)
    at, browser = words.moment(notice.at, has_date=True), notice.browser
    when = f"{at}, in {browser}" if browser else at
    line = "" if advice in said else f"<br>{advice}"
    return (
        f'<p role="status"><strong>{escape(title)}</strong> <span>{escape(when)}</span>{line}</p>'
    )


def _advice(notice: AccountNotice) -> str:
    return _TEXTS.get(notice.kind, _NEWER)[1]


def _unfold(ids: Collection[UUID]) -> None:
    tab().unfolded_notices = frozenset(ids)


def _dismiss(ids: Sequence[UUID]) -> None:
    find_user().dismiss_notices(ids)
