"""Accounts: sign up, sign in, exchange a refresh token, and what a person may spend."""

import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import UUID

import httpx
from pydantic import BaseModel, ValidationError
from supabase import Client
from supabase_auth.errors import AuthApiError, AuthError, AuthWeakPasswordError
from supabase_auth.types import Session as AuthSession

from services.domain import Account, AccountRole, UserId
from services.errors import (
    AddressTaken,
    BadInput,
    SignedOut,
    StoreUnavailable,
    WrongCredentials,
)
from services.store.gateway import store_errors

PASSWORD_CHARACTERS = (
    12  # the least; NIST SP 800-63B-4 asks for length, not for kinds of characters
)
_LONGEST_PASSWORD = 72  # bytes: bcrypt reads no further


@dataclass(frozen=True, slots=True)
class Tokens:
    """A person's bearer token and what renews it."""

    user_id: UserId
    access: str = field(repr=False)
    refresh: str = field(repr=False)
    email: str = field(repr=False)
    expires_at: int  # seconds since 1970


class BadAddress(BadInput):
    """What was entered is not an e-mail address."""

    def __init__(self) -> None:
        super().__init__("That does not look like an e-mail address.")


class WeakPassword(BadInput):
    """The password is too short, too long or too easy to guess."""

    def __init__(self) -> None:
        super().__init__(
            f"Choose a password of {PASSWORD_CHARACTERS} to {_LONGEST_PASSWORD} characters "
            "that is not easy to guess."
        )


class ConfirmationSent(BadInput):
    """The deployment wants the address confirmed; the same is said of an address that is taken."""

    def __init__(self) -> None:
        super().__init__("We have sent you an e-mail. Confirm your address, then sign in.")


def sign_up(client: Client, email: str, password: str) -> Tokens:
    """Make an account and sign in. Raise BadInput, AddressTaken, StoreUnavailable."""
    _check(email, password)
    with _auth_errors(AddressTaken):
        session = client.auth.sign_up({"email": email, "password": password}).session
    if session is None:
        raise ConfirmationSent
    return _tokens(session)


def sign_in(client: Client, email: str, password: str) -> Tokens:
    """Sign in. Raise WrongCredentials, StoreUnavailable."""
    if not email or not password:
        raise WrongCredentials
    with _auth_errors(WrongCredentials):
        session = client.auth.sign_in_with_password({"email": email, "password": password}).session
    if session is None:
        raise WrongCredentials
    return _tokens(session)


def exchange(client: Client, refresh: str) -> Tokens:
    """New tokens for a refresh token, which is used up. Raise SignedOut, StoreUnavailable."""
    with _auth_errors(SignedOut):
        session = client.auth.refresh_session(refresh).session
    if session is None:
        raise SignedOut
    return _tokens(session)


class _AccountRow(BaseModel):
    user: UUID
    role: AccountRole
    daily_cap: int
    monthly_cap: int
    reserved: int
    spent_today: int
    spent_this_month: int


def account(client: Client, email: str) -> Account:
    """The account that *client* is signed in to."""
    with store_errors():
        row = _AccountRow.model_validate(client.rpc("my_account", {}).execute().data)
    return Account(
        user_id=UserId(row.user),
        email=email,
        role=row.role,
        daily_cap_micro=row.daily_cap,
        monthly_cap_micro=row.monthly_cap,
        spent_today_micro=row.spent_today,
        spent_this_month_micro=row.spent_this_month,
        reserved_micro=row.reserved,
    )


def _check(email: str, password: str) -> None:
    name, _, domain = email.partition("@")
    if not name or not domain or len(email) > 254 or any(c.isspace() for c in email):
        raise BadAddress
    is_easy = len(set(password)) < 4 or password.casefold() == email.casefold()  # "aaaaaaaaaaaa"
    is_short = len(password) < PASSWORD_CHARACTERS
    if is_short or is_easy or len(password.encode()) > _LONGEST_PASSWORD:
        raise WeakPassword


@contextmanager
def _auth_errors(refusal: type[WrongCredentials | AddressTaken | SignedOut]) -> Generator[None]:
    """What the sign-in server refuses is *refusal*; everything else is its fault, not the person's."""
    try:
        yield
    except AuthWeakPasswordError:
        raise WeakPassword from None
    except AuthApiError as error:
        if 400 <= error.status < 500 and error.status != 429:
            raise refusal from None
        raise StoreUnavailable(error.status) from None
    except (AuthError, httpx.HTTPError, ValidationError) as error:
        raise StoreUnavailable(type(error).__name__) from None


def _tokens(session: AuthSession) -> Tokens:
    return Tokens(
        user_id=UserId(UUID(session.user.id)),
        access=session.access_token,
        refresh=session.refresh_token,
        email=session.user.email or "",
        expires_at=session.expires_at or int(time.time()) + session.expires_in,
    )
