"""A request's session and its user's credentials, read from the store because another process may have changed them."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from starlette.requests import Request

from services.errors import AppError, SignedOut
from services.store.accounts import Accounts, AppSession, Cookie, Current
from services.users import Shared, UserServices


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A session with its current email address, and the credentials of its user as they are stored now."""

    session: AppSession
    current: Current


@dataclass(frozen=True, slots=True, kw_only=True)
class SentForm:
    """A submitted form of the app, with the session if the form needs one."""

    request: Request = field(repr=False)
    fields: Mapping[str, str] = field(repr=False)
    signed_in: SignedIn | None  # None: the form needs no session
    # path of the page to return to, without the query parameters of an earlier redirect
    target: str = field(repr=False)
    shared: Shared

    @property
    def accounts(self) -> Accounts:
        return self.shared.session_cache.accounts

    @property
    def session(self) -> AppSession | None:
        return self.signed_in.session if self.signed_in else None

    @property
    def own(self) -> SignedIn:
        """The session and its credentials, for a form that needs a session. Raise SignedOut if there is none."""
        if self.signed_in is None:
            raise SignedOut
        return self.signed_in


def current_session(shared: Shared, cookie: Cookie | None) -> SignedIn:
    """Return the session of *cookie*; if its email address has changed, update the user's sessions in this process.

    Raise SignedOut, StoreUnavailable, Tampered, KeyMissing. This call blocks.
    """
    cache = shared.session_cache
    session = cache.find(cookie) if cookie else None
    if session is None or cookie is None:
        raise SignedOut
    current = cache.accounts.current(cookie)
    now = session.with_address_of(current.credentials)
    if now.is_confirmed and (now.email, True) != (session.email, session.is_confirmed):
        shared.set_address(session.user_id, now.email)
    return SignedIn(now, current)


@contextmanager
def opened_user(shared: Shared, cookie: Cookie | None) -> Generator[UserServices]:
    """Yield the services of the session of *cookie*, which the database confirms once a minute.

    Raise SignedOut if there is no such session, or the database says that it has ended; then also close its tabs.
    """
    session = shared.session_cache.opened(cookie) if cookie else None
    user = shared.find_unchecked(session.id) if session else None
    if session is None or user is None:
        raise SignedOut
    try:
        yield user
    except SignedOut:
        with suppress(AppError):
            shared.session_cache.forget_if_ended([session])
        raise


def is_signed_in(shared: Shared, cookie: Cookie | None) -> bool:
    """Return True if this process has an open session for *cookie*, for example if a sign-in form is submitted again."""
    return cookie is not None and shared.session_cache.is_open(cookie)
