"""Reports of tokens and costs: totals by day and model, by purpose, and by conversation; and the ledger."""

from dataclasses import dataclass, field
from datetime import date, datetime

from services.domain import ConversationId, Purpose


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageSum:
    """Totals over settled turns. The cost is in micro-dollars."""

    tokens_in: int
    tokens_cached: int  # part of tokens_in
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
    """The usage of all model calls for one purpose."""

    purpose: Purpose
    turns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationUsage(UsageSum):
    """The usage of one conversation.

    If the id is None, the fields are the totals of all deleted and temporary chats or, if *is_rest*, of all conversations
    that are not listed separately.
    """

    conversation_id: ConversationId | None
    replies: int
    # true: the total of all conversations that cost less than the listed ones
    is_rest: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageReport:
    """The usage of one user, or of all users, in a range of days.

    The times until the first token are computed from a histogram, and are accurate to 5 %.
    """

    days: tuple[DayUsage, ...]
    purposes: tuple[PurposeUsage, ...]  # highest cost first
    conversations: tuple[ConversationUsage, ...] = ()  # at most 500; none in admins' reports
    active_users: int
    failed: int  # the number of failed replies
    interrupted: int  # the number of replies that the end of their process, or an admin, ended
    first_token_ms: int | None  # median; None: nothing was streamed
    first_token_p95_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """An entry of the ledger. The cost is in micro-dollars; a correction may be negative."""

    # the cursor with which `UserFigures.ledger` returns the next entries
    id: str = field(repr=False)
    at: datetime
    # the UTC day whose limits the entry counts against
    day: date
    kind: str  # "charge", "lapsed", "adjust", or a kind that a newer version added
    outcome: str  # the outcome of the turn
    purpose: Purpose
    model: str
    tokens_in: int
    tokens_cached: int  # part of tokens_in
    tokens_out: int
    cost_micro: int
