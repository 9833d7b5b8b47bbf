"""A user's data in figures: in the database, and in the memory of this process."""

from dataclasses import dataclass
from datetime import date, datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredData:
    """Counts of the stored rows of one user."""

    conversations: int  # the number of conversations, without deleted ones
    archived: int  # the archived ones of these
    messages: int
    spaces: int
    facts: int
    sealed_bytes: int  # the size of all texts on the disk, deleted ones too
    deleted: int  # conversations that are still to be destroyed
    destroyed_at: datetime | None  # the time at which the last of these is destroyed
    ledger_entries: int
    ledger_since: date | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedData:
    """Counts of a user's text that this process has in memory."""

    conversations: int = 0
    messages: int = 0
    text_bytes: int = 0
