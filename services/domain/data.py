"""Counts of a user's data in the store and in this process's memory."""

from dataclasses import dataclass
from datetime import date, datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredData:
    """Counts of one user's stored rows."""

    conversations: int  # the number of conversations that are not deleted
    archived: int  # the number of archived conversations that are not deleted
    messages: int
    spaces: int
    facts: int
    sealed_bytes: int  # the stored size of all texts, including deleted ones
    deleted: int  # the number of deleted conversations that are not destroyed yet
    # the time by which all deleted conversations will be destroyed; None: there are none
    destroyed_at: datetime | None
    ledger_entries: int
    ledger_since: date | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedData:
    """The numbers of a user's conversations and messages, and of bytes of their text, that this process has in memory."""

    conversations: int = 0
    messages: int = 0
    text_bytes: int = 0
