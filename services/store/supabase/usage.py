"""Usage of the signed-in user, and of every user for admins: counts and costs, never content."""

from dataclasses import dataclass, field
from datetime import date, datetime

from pydantic import TypeAdapter

from services.domain.accounts import UserUsage
from services.domain.usage import LedgerEntry, UsageReport
from services.store.supabase.api import UserCalls, every_row


@dataclass(frozen=True, slots=True, kw_only=True)
class _UsageRow(UserUsage):
    last_active_at: datetime | None


_ROWS = TypeAdapter(list[_UsageRow])
_REPORT = TypeAdapter(UsageReport)
_ENTRIES = TypeAdapter(list[LedgerEntry])


@dataclass(frozen=True, slots=True)
class SupabaseUsage:
    """The `UsageReports` of one user in Supabase."""

    calls: UserCalls = field(repr=False)

    def report(self, first_day: date, last_day: date) -> UsageReport:
        days = _days(first_day, last_day)
        return self.calls.select("my_usage", _REPORT, **days)

    def ledger(self, first_day: date, last_day: date) -> list[LedgerEntry]:
        days = _days(first_day, last_day)

        def read(last: LedgerEntry | None, _: int) -> list[LedgerEntry]:
            return self.calls.select("my_ledger", _ENTRIES, **days, after=last.id if last else 0)

        return every_row(read)


@dataclass(frozen=True, slots=True)
class AllUsage:
    """Usage as an admin may read it."""

    calls: UserCalls = field(repr=False)

    def by_user(self) -> list[UserUsage]:
        """All users, the most expensive this month first, then the most recently active. Raise NotFound if not admin."""

        def read(last: _UsageRow | None, _: int) -> list[_UsageRow]:
            after = last.user_id if last else None
            return self.calls.read("usage_by_person", _ROWS, after=after)

        return sorted(every_row(read), key=_sort_key, reverse=True)


def _days(first_day: date, last_day: date) -> dict[str, str]:
    return {"first_day": first_day.isoformat(), "last_day": last_day.isoformat()}


def _sort_key(user: UserUsage) -> tuple[int, float]:
    last = user.last_active_at
    return user.cost_this_month_micro, last.timestamp() if last else 0
