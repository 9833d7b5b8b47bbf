"""Usage of every user, for admins: counts and costs, never content."""

from dataclasses import dataclass, field
from datetime import datetime

from pydantic import TypeAdapter

from services.domain.accounts import UserUsage
from services.store.supabase.api import UserCalls, every_row


@dataclass(frozen=True, slots=True, kw_only=True)
class _UsageRow(UserUsage):
    last_active_at: datetime | None


_ROWS = TypeAdapter(list[_UsageRow])


@dataclass(frozen=True, slots=True)
class UsageReports:
    """Usage as an admin may read it."""

    calls: UserCalls = field(repr=False)

    def by_user(self) -> list[UserUsage]:
        """All users, the most expensive this month first, then the most recently active. Raise NotFound if not admin."""

        def read(last: _UsageRow | None, _: int) -> list[_UsageRow]:
            after = last.user_id if last else None
            return self.calls.read("usage_by_person", _ROWS, after=after)

        return sorted(every_row(read), key=_sort_key, reverse=True)


def _sort_key(user: UserUsage) -> tuple[int, float]:
    last = user.last_active_at
    return user.cost_this_month_micro, last.timestamp() if last else 0
