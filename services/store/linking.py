"""Linking of accounts to identities at single sign-on providers, on any store."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from services.crypto import Credentials
from services.domain.accounts import CredentialsAction
from services.domain.single_sign_on import Identity, LinkedIdentity
from services.errors import AppError, RateLimited
from services.store.accounts import Accounts, AppSession, Checked, Cookie, Current, Found
from services.store.backend import NOT_COUNTED
from services.store.device_names import Browser
from services.store.factors import given
from services.store.identities import FoundAccount, check_link, linked, used

Answer = TypeVar("Answer")


def account_of(found: Found | None) -> FoundAccount | None:
    """Return the account that was found, if any. If its credentials cannot be decrypted, its address counts as unconfirmed."""
    if found is None or found.stored is None or found.stored.user_id is None:
        return None
    credentials = found.credentials
    is_confirmed = credentials is not None and credentials.confirmed is not None
    return FoundAccount(found.stored.user_id, found.email, is_confirmed)


def link(
    accounts: Accounts,
    session: AppSession,
    current: Current,
    identity: LinkedIdentity,
    *,
    ends_others: bool = False,
) -> None:
    """Link *identity* to the account of *session*. *ends_others*: also end the account's other sessions.

    Raise IdentityTaken, WayInTaken (another account linked it first), TooManyIdentities, ProofNeeded, RateLimited (the
    credentials changed meanwhile).
    """
    known = account_of(accounts.find_identity(identity.identity, NOT_COUNTED))
    if check_link(session.user_id, known):
        stored, after = current.stored, linked(current.credentials.identities, identity)
        new = replace(current.credentials, identities=after, generation=stored.generation + 1)
        action = CredentialsAction.IDENTITY_ADDED
        if not accounts.change_credentials(session, new, stored, action, ends_others=ends_others):
            raise RateLimited


def noting_use(checked: Checked, identity: Identity | None, at: datetime) -> Checked:
    """Return *checked*; if a second factor was used or set up, also record the use of *identity* in its credentials.

    Otherwise, `given_identity` records the use. *identity*: the identity that the user signs in with, if any.
    """
    if identity is None or checked.used is None:
        return checked
    return replace(checked, used=_after_use(checked.used, identity, at))


def given_identity(
    accounts: Accounts, checked: Checked, identity: Identity, act: Callable[[Checked], Answer]
) -> Answer:
    """Record the use of *identity*, then return the result of *act* (a sign-in or proof). Raise the errors of `given`."""
    at = accounts.now()

    def use(credentials: Credentials) -> Credentials:
        counted = replace(credentials, uses=credentials.uses + 1)
        return _after_use(counted, identity, at)

    action, has_factor = CredentialsAction.IDENTITY_USED, checked.has_factor
    return given(accounts, checked, use, act, action, has_factor=has_factor)


def sign_in_linking(
    accounts: Accounts,
    checked: Checked,
    identity: LinkedIdentity | None,
    browser: Browser | None = None,
    invitation: str = "",
    *,
    on_begun: Callable[[AppSession], object] = lambda _: None,
) -> tuple[Cookie, AppSession]:
    """Sign in as the user of *checked* and, unless *identity* is None, link it to the user's account.

    *on_begun* is called after the sign-in and before the link, so the use of a factor is stored even if the link fails.
    If the process is killed before the link, the identity is not linked, and no browser has the session's cookie.
    Raise the errors of `Accounts.sign_in` and `link`.
    """
    if identity:  # this check raises TooManyIdentities before the sign-in stores anything
        linked(checked.credentials.identities, identity)
    cookie, session = accounts.sign_in(checked, invitation, browser)
    on_begun(session)
    if identity:
        try:
            link(accounts, session, checked.after, identity)
        except AppError:
            with suppress(AppError):
                accounts.end(cookie)
            raise
    return cookie, session


def _after_use(credentials: Credentials, identity: Identity, at: datetime) -> Credentials:
    return replace(credentials, identities=used(credentials.identities, identity, at))
