"""Usage of every user, for admins: counts and costs, never content."""

from dataclasses import dataclass, field
from datetime import datetime

from pydantic import TypeAdapter

from services.domain.accounts import UserUsage
from services.store.supabase.paging import every_row
from services.store.supabase.sessions import AppSession


@dataclass(frozen=True, slots=True, kw_only=True)
class _UsageRow(UserUsage):
    last_active_at: datetime | None


_ROWS = TypeAdapter(list[_UsageRow])


@dataclass(frozen=True, slots=True)
class UsageReports:
    """The books, as far as an admin may read them."""

    session: AppSession = field(repr=False)

    def by_person(self) -> list[UserUsage]:
        """All users, the most expensive this month first, then the most recently active.

        Raise NotFound for who is no admin.
        """

        def read(last: _UsageRow | None, _: int) -> list[_UsageRow]:
            after = last.user_id if last else None
            return self.session.calls.read("usage_by_person", _ROWS, after=after)

        return sorted(every_row(read), key=_place_in_table, reverse=True)


def _place_in_table(person: UserUsage) -> tuple[int, float]:
    last = person.last_active_at
    return person.cost_this_month_micro, last.timestamp() if last else 0
