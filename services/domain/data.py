"""Figures about a user's data in the database and in the memory of this process."""

from dataclasses import dataclass
from datetime import date, datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredData:
    """Counts of the stored rows of one user."""

    conversations: int  # the number of conversations that are not deleted
    archived: int  # the number of archived conversations that are not deleted
    messages: int
    spaces: int
    facts: int
    sealed_bytes: int  # the size of all texts on disk, including deleted ones
    deleted: int  # the number of deleted conversations that are not destroyed yet
    destroyed_at: datetime | None  # when the last deleted conversation will be destroyed
    ledger_entries: int
    ledger_since: date | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedData:
    """Counts of a user's text that this process has in memory."""

    conversations: int = 0
    messages: int = 0
    text_bytes: int = 0
