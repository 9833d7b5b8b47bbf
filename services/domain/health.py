"""Health of a deployment, as admins see it."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseState:
    """What the database says of itself, and how long it took."""

    at: datetime  # by its clock
    database_ms: int
    api_ms: int = 0  # and network: the rest of the round trip
    clock_skew_seconds: float = 0.0  # of the database's clock, ahead of ours
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
