"""The health of a deployment, as shown to admins."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from services.domain.model_failures import ModelFailure


@dataclass(frozen=True, slots=True, kw_only=True)
class Abilities:
    """Abilities that not every store has. Admins see them; docs/stores.md explains them."""

    takes_several_processes: bool  # False: only one app process may run at a time
    isolates_users: bool  # True: the database itself refuses to return another user's rows


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreHealth:
    """The result of a check of the store, and the time that it took."""

    abilities: Abilities

    database_ms: int
    # the part of the round trip that was spent in the API and the network; None: the store has no API
    api_ms: int | None
    clock_skew_seconds: float  # the store's clock minus the app's
    # other values (versions, limits, times), keyed by their labels on screen
    figures: Mapping[str, int | str | datetime]
    is_newer: bool = False  # True: a newer version of the app has migrated the store


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCalls:
    """Statistics of this process's last model calls."""

    calls: int
    failed: int
    first_token_ms: int | None  # median; None: nothing was streamed
    last_failure: ModelFailure | None
    last_failed_at: datetime | None


@dataclass(frozen=True, slots=True)
class FailedCall:
    """A model call that failed, as admins see it: nothing of its user and of its text."""

    at: datetime  # to the minute
    model: str
    failure: ModelFailure
    status: int  # the HTTP status; 0: none
    # the code that the endpoint named; "other" if it is no code
    code: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionTest:
    """The result of a test of the connection to the model endpoint, which asks for its list of models."""

    host: str  # with the port
    at: datetime
    ms: int  # the time until the list arrived, or until the test failed
    models: int  # the number of listed models
    failure: ModelFailure | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MailHealth:
    """Statistics of this process's outgoing mails: the number in the last hour, the waiting mails and the last failure."""

    last_hour: int
    at_most: int  # the limit of mails per hour
    # the part of the hourly limit that is reserved for mails that known devices request
    for_known: int
    waiting: int
    last_failure: str | None  # the reason of the last failure, in words
    last_failed_at: datetime | None


class SignInFailure(StrEnum):
    """The failures of sign-ins and sign-ups that only an operator can repair."""

    CREDENTIALS = "credentials"  # the credentials are missing or cannot be decrypted
    # the password is right, but Supabase Auth does not recognise the user
    RECOGNITION = "recognition"
    CONFIRMATION = "confirmation"  # Supabase Auth did not send the email for a sign-up


class UnsentReason(StrEnum):
    """The reasons why Supabase Auth did not send the email that confirms an address."""

    SERVER = "server"  # its mail server refused, or did not answer
    LIMIT = "limit"  # its limit of emails is reached
    TEAM_ONLY = "team_only"  # its own mail server sends only to the project's team
    CLOSED = "closed"  # it accepts no sign-ups
    OTHER = "other"  # it did not answer, or refused the sign-up for another reason
