"""Calls to Supabase Auth: read its settings, sign up, sign in, exchange a refresh token, sign out."""

import re
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from uuid import UUID

import httpx
import jwt
from pydantic import AliasPath, BaseModel, ConfigDict, Field, ValidationError
from supabase import Client
from supabase_auth.errors import AuthApiError, AuthError
from supabase_auth.types import Session as AuthSession
from supabase_auth.types import User as AuthUser

from services import errors
from services.domain import UserId
from services.domain.addresses import EmailAddress
from services.events import log_event
from services.store.supabase.api import Gateway

# prevents a leak: by default, pydantic keeps short texts, such as refresh tokens, in a process-wide cache
for _kind in (AuthSession, AuthUser):
    _kind.model_config["cache_strings"] = "keys"
    _kind.model_rebuild(force=True)


class AuthTokens(BaseModel):
    """Supabase Auth's tokens from a sign-in or a renewal; they are stored, sealed, in an app session."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True, cache_strings="keys")

    user_id: UserId
    auth_session_id: UUID
    access: str = Field(repr=False)
    expires_at: int  # Unix seconds, by this machine's clock
    refresh: str = Field(repr=False)

    def is_good_for(self, seconds: int) -> bool:
        """Return True if the access token is valid for *seconds* more."""
        return self.expires_at - time.time() > seconds

    def is_of_session(self, other: "AuthTokens") -> bool:
        """Return True if *other* belongs to the same user and the same session of Supabase Auth."""
        return (self.user_id, self.auth_session_id) == (other.user_id, other.auth_session_id)


class AuthSettings(BaseModel):
    """The response of `/auth/v1/settings`, without the providers that Daybook does not use."""

    has_email: bool = Field(validation_alias=AliasPath("external", "email"))
    disable_signup: bool
    mailer_autoconfirm: bool


# the app's errors, keyed by Supabase Auth's error code; any other code raises StoreUnavailable
_SIGN_IN_ERRORS: dict[str, type[errors.AppError]] = {
    "invalid_credentials": errors.WrongCredentials,
    "user_banned": errors.Suspended,
    "email_not_confirmed": errors.NotConfirmed,
    "user_already_exists": errors.AddressTaken,
    "email_address_invalid": errors.BadAddress,
    # Supabase Auth refuses some addresses that Daybook's own check accepts
    "validation_failed": errors.BadAddress,
    "email_address_not_authorized": errors.AddressNotAllowed,
    "signup_disabled": errors.SignUpsClosed,
    "email_provider_disabled": errors.SignUpsClosed,
}
_RENEWAL_ERRORS: dict[str, type[errors.AppError]] = dict.fromkeys(
    (
        "refresh_token_not_found",
        "refresh_token_already_used",
        "session_not_found",
        "session_expired",
        "user_banned",
    ),
    errors.SignedOut,
)
# the beginning of Supabase Auth's message, whatever mail it could not send
_UNSENT = "Error sending "
_WAIT = re.compile(r"after (\d{1,4}) seconds")
# seconds until the next email or request, if Supabase Auth's response gives no time
_EMAIL_WAIT, _REQUEST_WAIT = 3600, 60


def get_settings(gateway: Gateway) -> httpx.Response:
    """Return the response that contains the settings (`AuthSettings`). Raise httpx.HTTPError."""
    key = gateway.key.get_secret_value()
    return gateway.http.get(f"{gateway.url}/auth/v1/settings", headers={"apikey": key})


def read_settings(gateway: Gateway) -> AuthSettings:
    """Return the settings of Supabase Auth. Raise StoreUnavailable."""
    try:
        return AuthSettings.model_validate_json(get_settings(gateway).raise_for_status().content)
    except (httpx.HTTPError, ValidationError) as error:
        raise errors.StoreUnavailable(type(error).__name__) from None


def sign_up(client: Client, email: EmailAddress, password: str) -> AuthTokens:
    """Create a user, sign in, and return the tokens. Raise Refused, StoreUnavailable."""
    with _auth_errors(_SIGN_IN_ERRORS):
        session = client.auth.sign_up({"email": email, "password": password}).session
    return _tokens(session, errors.ConfirmationSent)


def sign_in(client: Client, email: EmailAddress, password: str) -> AuthTokens:
    """Sign in, and return the tokens. Raise Refused, StoreUnavailable."""
    with _auth_errors(_SIGN_IN_ERRORS):
        session = client.auth.sign_in_with_password({"email": email, "password": password}).session
    return _tokens(session, errors.WrongCredentials)


def exchange(client: Client, refresh: str) -> AuthTokens:
    """Exchange a refresh token, which works only once, for new tokens.

    Raise SignedOut, TooManyAttempts, StoreUnavailable.
    """
    with _auth_errors(_RENEWAL_ERRORS):
        session = client.auth.refresh_session(refresh).session
    return _tokens(session, errors.SignedOut)


def send_recovery(client: Client, email: EmailAddress) -> None:
    """Have Supabase Auth send a recovery mail to the user with *email*. Raise TooManyAttempts, AddressNotAllowed, Unavailable."""
    with _auth_errors(_SIGN_IN_ERRORS):
        client.auth.reset_password_for_email(email)


def sign_out(client: Client, tokens: AuthTokens) -> None:
    """End the session of *tokens* in Supabase Auth, if Supabase Auth can be reached."""
    with suppress(AuthError, httpx.HTTPError):
        client.auth.admin.sign_out(tokens.access, "local")


@contextmanager
def _auth_errors(refusals: Mapping[str, type[errors.AppError]]) -> Generator[None]:
    """Convert Supabase Auth's errors to TooManyAttempts, the errors in *refusals* (by code), or else StoreUnavailable."""
    try:
        yield
    except AuthApiError as error:
        raise _auth_error(error, refusals) from None
    except (AuthError, httpx.HTTPError, ValidationError) as error:
        raise errors.StoreUnavailable(type(error).__name__) from None


def _auth_error(
    error: AuthApiError, refusals: Mapping[str, type[errors.AppError]]
) -> errors.AppError:
    code = error.code or ""
    if error.status in (409, 429):  # 409: too many concurrent renewals of one session
        said = _WAIT.search(error.message)
        wait = _EMAIL_WAIT if code == "over_email_send_rate_limit" else _REQUEST_WAIT
        return errors.TooManyAttempts(int(said[1]) if said else wait)
    if code in refusals:
        return refusals[code]()
    if error.status == 500 and error.message.startswith(_UNSENT):
        log_event("auth.failed", status=error.status)
        return errors.MailUnsent()
    log_event("auth.failed", status=error.status)
    return errors.StoreUnavailable(error.status)


def _tokens(session: AuthSession | None, missing: type[errors.AppError]) -> AuthTokens:
    """Return the tokens of *session*. Raise *missing* if there is no session."""
    if session is None:
        raise missing
    try:
        claims = jwt.decode(session.access_token, options={"verify_signature": False})
        return AuthTokens(
            user_id=UserId(UUID(session.user.id)),
            auth_session_id=claims["session_id"],
            access=session.access_token,
            expires_at=int(time.time()) + session.expires_in,
            refresh=session.refresh_token,
        )
    except (jwt.DecodeError, KeyError, ValueError) as error:
        raise errors.StoreUnavailable(type(error).__name__) from None
