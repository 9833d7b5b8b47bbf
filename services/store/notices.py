"""Notices to users, with the names of browsers sealed under the user's key and bound to the notice."""

from collections.abc import Iterable
from uuid import UUID, uuid4

from services.crypto import Place, UserKeys
from services.domain import SessionId, UserId
from services.domain.accounts import AccountNotice, NoticeRow
from services.domain.browsers import UNKNOWN_BROWSER, BrowserName
from services.domain.mails import NoticeKind
from services.errors import Tampered
from services.events import log_event
from services.store.backend import NewNotice

_PURPOSE = "notices"


def new_notice(
    kind: NoticeKind,
    user_id: UserId,
    keys: UserKeys | None,
    browser: BrowserName,
    session: SessionId | None = None,
) -> NewNotice:
    """Return a notice about a change that was made in *browser*; without the user's *keys*, it does not name the browser.

    *session*: the session that made the change; its pages do not show the notice. None: no session made the change.
    """
    notice_id = uuid4()
    place = _place(notice_id, user_id)
    sealed = keys.vault(_PURPOSE).seal(browser, place) if keys else None
    return NewNotice(id=notice_id, kind=kind, browser=sealed, session=session)


def operator_notice() -> NewNotice:
    """Return a notice that an operator's command has changed the account."""
    return NewNotice(id=uuid4(), kind=NoticeKind.OPERATOR, browser=None, session=None)


def gravest_first(
    keys: UserKeys, user_id: UserId, rows: Iterable[NoticeRow]
) -> list[AccountNotice]:
    """Return notices as they are shown to their user: the gravest first, of equals the first in *rows*."""
    return [
        opened_notice(keys, user_id, row) for row in sorted(rows, key=lambda row: row.kind.gravity)
    ]


def opened_notice(keys: UserKeys, user_id: UserId, row: NoticeRow) -> AccountNotice:
    """Return a notice as it is shown to its user; the browser is unknown if its name cannot be decrypted."""
    browser = None
    if row.browser:
        try:
            browser = BrowserName(keys.open(_PURPOSE, row.browser, _place(row.id, user_id)))
        except Tampered:
            log_event("notice.unopened", user=user_id, notice=row.id)
            browser = UNKNOWN_BROWSER
    return AccountNotice(id=row.id, kind=row.kind, at=row.at, browser=browser)


def _place(notice_id: UUID, user_id: UserId) -> Place:
    return Place(table="notices", column="browser", row_id=notice_id, user_id=user_id)
