"""Health of a deployment, as admins see it."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseState:
    """What the database says of itself, and how long it took."""

    database_ms: int
    api_ms: int  # and network: the rest of the round trip
    clock_skew_seconds: float  # of the database's clock, ahead of ours
    database_version: str
    schema_version: str  # of the last migration


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCalls:
    """The last calls of models in this process."""

    calls: int
    failed: int
    first_token_ms: int | None  # median; None: nothing was streamed
    last_failure: str | None  # kind of the error
    last_failed_at: datetime | None
