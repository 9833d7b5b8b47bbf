"""Rules for budgets: money, tokens and messages are counted per period, and caps limit the amounts of a turn.

Money is in micro-dollars. Days and months begin at midnight UTC.
"""

import math
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

from services.domain.accounts import Limits
from services.domain.turns import Reservation
from services.rules import Refusal

NO_CAP = 4 * 10**18
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
_LONG_AGO_DAY = date(2000, 1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget(Limits):
    """The limits of one user, and the user's amounts that count against these limits."""

    day: date = _LONG_AGO_DAY
    day_spent: int = 0
    day_tokens: int = 0
    month: date = _LONG_AGO_DAY  # the first day of the month
    month_spent: int = 0
    minute: datetime = _LONG_AGO
    minute_turns: int = 0  # messages sent and replies edited in this minute
    bytes: int = 0  # the bytes that the account had stored at the start of `minute`
    reserved: int = 0  # the amount reserved for all open turns, also those of earlier months
    reserved_tokens: int = 0
    last_active_at: datetime | None = None
    # the number (see `Deployment.counting`) of the last count of all budgets in which this budget was included
    counting: int = 0

    def opened(self, now: datetime, stored_bytes: int) -> "Budget":
        """Return the budget for the day, month and minute of *now*; a new minute sets `bytes` to *stored_bytes*."""
        budget, minute = self, now.replace(second=0, microsecond=0)
        # the clock was ahead when the budget was last opened: undo the change of the day and minute, but not of the month,
        # because the deployment's sums are for the same month
        if self.minute > now + timedelta(minutes=1):
            budget = replace(budget, day=min(self.day, now.date()), minute=_LONG_AGO)
        if now.date() > self.day:
            budget = replace(budget, day=now.date(), day_spent=0, day_tokens=0)
        if (month := now.date().replace(day=1)) > self.month:
            budget = replace(budget, month=month, month_spent=0)
        if minute > budget.minute:
            budget = replace(budget, minute=minute, minute_turns=0, bytes=stored_bytes)
        return budget

    def booked(
        self,
        *,
        held: int,
        spent: int,
        held_tokens: int,
        tokens: int,
        charged_at: datetime | None = None,
    ) -> "Budget":
        """Return the budget with the amounts added. Negative amounts release a reservation, or refund a charge.

        A refund reduces the day's sums only on the day of the charge (*charged_at*), and the month's sum only in the month
        of the charge.
        """

        def counted(amount: int, window: date) -> int:
            is_over = amount < 0 and charged_at is not None and charged_at.date() < window
            return 0 if is_over else amount

        return replace(
            self,
            reserved=self.reserved + held,
            reserved_tokens=self.reserved_tokens + held_tokens,
            day_spent=max(0, self.day_spent + counted(spent, self.day)),
            day_tokens=max(0, self.day_tokens + counted(tokens, self.day)),
            month_spent=max(0, self.month_spent + counted(spent, self.month)),
        )

    def pace(self, now: datetime) -> tuple[int, int]:
        """Return the maximum number of messages per minute, and the seconds until the next minute."""
        left = (self.minute + timedelta(minutes=1) - now).total_seconds()
        return self.max_per_minute, max(1, math.ceil(left))

    def edited(self, now: datetime) -> "Budget | Refusal":
        """Return the budget after the user edited a reply (counted as one message of this minute), or a refusal."""
        if self.minute_turns >= self.max_per_minute:
            per_minute, wait = self.pace(now)
            return Refusal(reason="too_fast", per_minute=per_minute, wait_seconds=wait)
        return replace(self, minute_turns=self.minute_turns + 1)

    def is_full(self, most_bytes: int | None) -> bool:
        """Return True if the account had stored *most_bytes* or more at the start of `minute`. None: there is no limit."""
        return most_bytes is not None and self.bytes >= most_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """The cap for all users together, and the sums that count against it, which are kept up to date only while there is a cap."""

    # None: no cap; NO_CAP: a cap is being set, but does not apply until all budgets have been counted
    monthly_cap_micro: int | None = None
    # the number of the latest count of all budgets; a new count, from sums of 0, begins when a cap is set after there was none
    counting: int = 0
    month: date = _LONG_AGO_DAY
    spent: int = 0
    reserved: int = 0

    @property
    def room(self) -> int:
        if self.monthly_cap_micro is None:
            return NO_CAP
        return max(0, self.monthly_cap_micro - self.spent - self.reserved)

    def opened(self, now: datetime) -> "Deployment":
        """Return the sums for the month of *now*. Reserved amounts stay, because they will be charged in this month."""
        month = now.date().replace(day=1)
        return replace(self, month=month, spent=0) if month > self.month else self

    def after(self, before: Budget, now_is: Budget) -> "Deployment":
        """Return the sums after a user's budget has changed from *before* to *now_is*; both must be opened for this month."""
        return replace(
            self,
            spent=self.spent + now_is.month_spent - before.month_spent,
            reserved=self.reserved + now_is.reserved - before.reserved,
        )

    def counted(self, before: Budget, now_is: Budget) -> "tuple[Deployment, Budget]":
        """Return the deployment and the budget after the budget has changed from *before* to *now_is*.

        If there is a cap, add the change to the deployment's sums, or the whole budget if it was not counted before.
        """
        if self.monthly_cap_micro is None:
            return self, now_is
        if before.counting != self.counting:
            before = replace(before, month_spent=0, reserved=0)
        return self.after(before, now_is), replace(now_is, counting=self.counting)

    @property
    def share(self) -> float | None:
        """The share of the cap that is spent or reserved, rounded down to 0.9, 0.95 or 1; 0: the cap is 0; None: less, or no cap.

        It is rounded because every user may read it: an exact figure would reveal the spending of other users.
        """
        if not self.monthly_cap_micro:
            return self.monthly_cap_micro
        share = (self.spent + self.reserved) / self.monthly_cap_micro
        return min(1.0, math.floor(20 * share) / 20) if share >= 0.9 else None


@dataclass(frozen=True, slots=True)
class Room:
    """The money and tokens granted to a turn: the requested amounts or, if less, those that the caps leave."""

    granted: int
    granted_tokens: int
    reason: str | None  # the cap that leaves too little for the turn; None: there is enough


def room_for(budget: Budget, deployment: Deployment, wanted: Reservation) -> Room:
    """Return the part of *wanted*, in money and tokens, that the caps leave for a turn."""
    today = max(0, budget.daily_cap_micro - budget.day_spent - budget.reserved)
    this_month = max(0, budget.monthly_cap_micro - budget.month_spent - budget.reserved)
    cap_of_tokens = NO_CAP if budget.daily_cap_tokens is None else budget.daily_cap_tokens
    tokens = cap_of_tokens - budget.day_tokens - budget.reserved_tokens
    most = wanted.prompt_micro + wanted.reply_micro
    granted = min(most, today, this_month, deployment.room)
    granted_tokens = min(wanted.prompt_tokens + wanted.reply_tokens, tokens)
    reason = None
    if granted_tokens < wanted.least_tokens:
        reason = "daily_tokens"
    elif granted < wanted.least_micro:
        reason = "daily_cap"
        if granted == deployment.room:
            reason = "deployment_cap"
        elif granted == this_month:
            reason = "monthly_cap"
    return Room(granted, granted_tokens, reason)
