"""Usage added up: by day and model, by purpose, and by conversation."""

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Literal, Protocol

from services.domain import ConversationId, Purpose
from services.domain.accounts import AuditEntry
from services.domain.data import StoredData


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageSum:
    """The sum of settled turns. Cost in micro-dollars."""

    tokens_in: int
    tokens_cached: int  # of tokens_in
    tokens_out: int
    cost_micro: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DayUsage(UsageSum):
    """The usage of one model on one day (UTC)."""

    day: date
    model: str
    replies: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PurposeUsage(UsageSum):
    """The usage for one purpose."""

    purpose: Purpose
    turns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationUsage(UsageSum):
    """The usage of one conversation; None: of deleted ones and temporary chats, or of the rest."""

    conversation_id: ConversationId | None
    replies: int
    is_rest: bool = False  # of all conversations with lower costs than the others


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageReport:
    """The usage of one user, or of all, on some days, added up in several ways. Times within 5 %."""

    days: tuple[DayUsage, ...]
    purposes: tuple[PurposeUsage, ...]  # the highest costs first
    conversations: tuple[ConversationUsage, ...] = ()  # at most 500 rows; for admins there are none
    active_users: int
    failed: int  # replies
    interrupted: int  # replies whose process died
    first_token_ms: int | None  # median; None: nothing was streamed
    first_token_p95_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """An entry of the ledger. Cost in micro-dollars; a correction may be negative."""

    id: str = field(repr=False)  # a cursor of the store: `UserFigures.ledger` goes on after it
    at: datetime
    day: date  # UTC: the day whose limits it counts in
    kind: Literal["charge", "lapsed", "adjust"]
    outcome: Literal["complete", "cut", "stopped", "failed", "lapsed"]
    purpose: Purpose
    model: str
    tokens_in: int
    tokens_cached: int  # of tokens_in
    tokens_out: int
    cost_micro: int


class UserFigures(Protocol):
    """Usage, changes of the account, and stored rows of one user. None is sealed: chat and pages see them as a store has them.

    Days are of UTC. All methods raise SignedOut and StoreUnavailable.
    """

    def report(self, first_day: date, last_day: date) -> UsageReport:
        """The sums of all turns that were settled from *first_day* to *last_day*."""
        ...

    def ledger(self, first_day: date, last_day: date, after: str = "") -> list[LedgerEntry]:
        """At most 500 entries of the same turns by day: those of *first_day* that come *after* one, and later ones."""
        ...

    def account_changes(self) -> list[AuditEntry]:
        """The newest 100 entries of the audit about the user."""
        ...

    def stored(self) -> StoredData:
        """The rows of the user, as they are now."""
        ...
