"""The browsers in which sessions begin, and their names, sealed under the user's key and bound to their app sessions."""

from dataclasses import dataclass, field
from uuid import uuid4

from services.crypto import Place, UserKeys
from services.domain import SessionId, UserId
from services.domain.accounts import Activity, ActivityRow
from services.domain.browsers import UNKNOWN_BROWSER, BrowserName
from services.errors import Tampered
from services.events import log_event
from services.rules import part_of

_PURPOSE = "devices"


@dataclass(frozen=True, slots=True, kw_only=True)
class Browser:
    """A browser in which a session begins, and what is known of the session before in it."""

    name: BrowserName
    # the hash of the cookie of a session that the new session ends; None: the browser has none
    cookie_before: str | None = field(default=None, repr=False)
    # the last user of the browser, according to its device cookie, and the user's session
    last: tuple[UserId, SessionId] | None = None


@dataclass(frozen=True, slots=True)
class NewDevice:
    """The id of a new session, the sealed name of its browser, and the session before, as in `NewSession`."""

    session_id: SessionId
    sealed: str | None = field(repr=False)  # the sealed name of the browser; None: no name
    cookie_before: str | None = field(default=None, repr=False)
    follows: SessionId | None = None

    @classmethod
    def of(cls, keys: UserKeys, user_id: UserId, browser: Browser | None) -> "NewDevice":
        session_id = SessionId(uuid4())
        if browser is None:
            return cls(session_id, None)
        sealed = keys.vault(_PURPOSE).seal(browser.name, _place(session_id, user_id))
        last_user, follows = browser.last or (None, None)
        return cls(
            session_id, sealed, browser.cookie_before, follows if last_user == user_id else None
        )

    @classmethod
    def unnamed(cls) -> "NewDevice":
        return cls(SessionId(uuid4()), None)


def browser_of(
    keys: UserKeys, user_id: UserId, session_id: SessionId, sealed: str | None
) -> BrowserName:
    """Return the name of a session's browser, or `UNKNOWN_BROWSER` if there is no *sealed* name or it cannot be decrypted."""
    if sealed is None:
        return UNKNOWN_BROWSER
    try:
        return BrowserName(keys.open(_PURPOSE, sealed, _place(session_id, user_id)))
    except Tampered:
        log_event("device.unopened", user=user_id, session=session_id)
        return UNKNOWN_BROWSER


def opened_activity(keys: UserKeys, user_id: UserId, row: ActivityRow) -> Activity:
    """Return an entry of the audit log as its user sees it."""
    browser = row.device and row.session and browser_of(keys, user_id, row.session, row.device)
    return part_of(Activity, row, browser=browser or None)


def _place(session_id: SessionId, user_id: UserId) -> Place:
    return Place(table="app_sessions", column="device", row_id=session_id, user_id=user_id)
