"""The signed-in user's usage, read from Supabase."""

from dataclasses import dataclass, field
from datetime import date

from services.domain.accounts import ActivityRow
from services.domain.data import StoredData
from services.domain.usage import LedgerEntry, UsageReport
from services.store.supabase.api import UserCalls


@dataclass(frozen=True, slots=True)
class SupabaseUsage:
    """Implements `UserFigures` for one user, in Supabase."""

    calls: UserCalls = field(repr=False)

    def report(self, first_day: date, last_day: date) -> UsageReport:
        return self.calls.select("my_usage", UsageReport, first_day=first_day, last_day=last_day)

    def ledger(self, first_day: date, last_day: date, after: str = "") -> list[LedgerEntry]:
        return self.calls.select(
            "my_ledger",
            list[LedgerEntry],
            first_day=first_day,
            last_day=last_day,
            after=int(after or 0),
        )

    def account_changes(self) -> list[ActivityRow]:
        return self.calls.select("my_audit", list[ActivityRow])

    def stored(self) -> StoredData:
        return self.calls.select("my_data", StoredData)
