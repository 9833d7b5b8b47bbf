"""The session of a request, with what is stored of its user now: another process may have changed it."""

from contextlib import suppress
from dataclasses import dataclass, replace

from services.errors import SignedOut
from services.store.accounts import AppSession, Cookie, Current
from services.users import Shared


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A session with its current address, and the credentials of its user as they are stored now."""

    session: AppSession
    current: Current


def current_session(shared: Shared, cookie: Cookie | None) -> SignedIn | None:
    """Return the session of *cookie*; the pages of its user in this process learn of another address, too.

    Raise StoreUnavailable, Tampered, KeyMissing. It blocks.
    """
    cache = shared.session_cache
    session = cache.find(cookie) if cookie else None
    if session is None or cookie is None:
        return None
    with suppress(SignedOut):
        current = cache.accounts.current(cookie)
        address, confirmed = current.credentials.address, current.credentials.confirmed
        is_confirmed = confirmed is not None
        if is_confirmed and (address, True) != (session.email, session.is_confirmed):
            shared.set_address(session.user_id, address)
        return SignedIn(replace(session, email=address, is_confirmed=is_confirmed), current)
    return None
