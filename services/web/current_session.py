"""The session of a request, with the address that is stored now: another process may have changed it."""

from contextlib import suppress

from services.errors import SignedOut
from services.store.accounts import AppSession, Cookie
from services.users import Shared


def current_session(shared: Shared, cookie: Cookie | None) -> AppSession | None:
    """Return the session of *cookie*; the pages of its user in this process learn of another address, too.

    Raise StoreUnavailable, Tampered, KeyMissing. It blocks.
    """
    cache = shared.session_cache
    session = cache.find(cookie) if cookie else None
    if session is None or cookie is None:
        return None
    with suppress(SignedOut):
        now = session.with_address_of(cache.accounts.current(cookie).credentials)
        if now.is_confirmed and (now.email, True) != (session.email, session.is_confirmed):
            shared.set_address(session.user_id, now.email)
        return now
    return None
