"""The names of devices, sealed under the user's key and bound to their app sessions."""

from dataclasses import dataclass, field
from uuid import uuid4

from services.crypto import Place, UserKeys
from services.domain import SessionId, UserId
from services.domain.browsers import UNKNOWN_BROWSER, BrowserName
from services.errors import Tampered
from services.events import log_event
from services.store.backend import StoredDevice

_PURPOSE = "devices"


@dataclass(frozen=True, slots=True)
class NewDevice:
    """The id of a new session, and the sealed name of its browser."""

    session_id: SessionId
    sealed: str | None = field(repr=False)  # the sealed name of the browser; None: no name

    @classmethod
    def of(cls, keys: UserKeys, user_id: UserId, browser: BrowserName | None) -> "NewDevice":
        session_id = SessionId(uuid4())
        if browser is None:
            return cls(session_id, None)
        return cls(session_id, keys.vault(_PURPOSE).seal(browser, _place(session_id, user_id)))

    @classmethod
    def unnamed(cls) -> "NewDevice":
        return cls(SessionId(uuid4()), None)


def browser_of(keys: UserKeys, user_id: UserId, stored: StoredDevice) -> BrowserName:
    """Return the name of a device's browser, or `UNKNOWN_BROWSER` if no name is stored or it cannot be decrypted."""
    if stored.device is None:
        return UNKNOWN_BROWSER
    try:
        return BrowserName(keys.open(_PURPOSE, stored.device, _place(stored.session, user_id)))
    except Tampered:
        log_event("device.unopened", user=user_id, session=stored.session)
        return UNKNOWN_BROWSER


def _place(session_id: SessionId, user_id: UserId) -> Place:
    return Place(table="app_sessions", column="device", row_id=session_id, user_id=user_id)
