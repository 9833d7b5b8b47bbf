"""The health of a deployment, as shown to admins."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreHealth:
    """The result of a check of the store, and the time that it took."""

    database_ms: int
    api_ms: int  # API and network: the rest of the round trip
    clock_skew_seconds: float  # the store's clock minus the app's
    figures: Mapping[str, int | str]  # other figures by their labels on screen: versions, limits


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCalls:
    """The last model calls of this process."""

    calls: int
    failed: int
    first_token_ms: int | None  # median; None: nothing was streamed
    last_failure: str | None  # the kind of the error
    last_failed_at: datetime | None
