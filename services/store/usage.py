"""What each person used: counts and money for admins, never content."""

from dataclasses import dataclass, field
from uuid import UUID

from pydantic import BaseModel, TypeAdapter

from services.domain import AccountRole, PersonUsage, UserId
from services.store.gateway import Moment
from services.store.paging import every_row
from services.store.sessions import AppSession


class _UsageRow(BaseModel):
    person: UUID
    email: str
    role: AccountRole
    suspended: bool
    last_active_at: Moment | None
    turns_today: int
    tokens_in_today: int
    tokens_out_today: int
    cost_today_micro: int
    turns_this_month: int
    tokens_in_this_month: int
    tokens_out_this_month: int
    cost_this_month_micro: int
    daily_cap_micro: int
    monthly_cap_micro: int


_ROWS = TypeAdapter(list[_UsageRow])


@dataclass(frozen=True, slots=True)
class Usage:
    """The books, as far as an admin may read them."""

    session: AppSession = field(repr=False)

    def by_person(self) -> list[PersonUsage]:
        """Everybody, the most expensive this month first, among equals who was active last.

        Raise NotFound for who is no admin.
        """

        def read(last: _UsageRow | None, _: int) -> list[_UsageRow]:
            after = last.person if last else None
            return self.session.calls.rows("usage_by_person", _ROWS, after=after)

        return sorted(map(_usage, every_row(read)), key=_place_in_table, reverse=True)


def _place_in_table(person: PersonUsage) -> tuple[int, float]:
    last = person.last_active_at
    return person.cost_this_month_micro, last.timestamp() if last else 0


def _usage(row: _UsageRow) -> PersonUsage:
    fields = row.model_dump(exclude={"person", "suspended"})
    return PersonUsage(user_id=UserId(row.person), is_suspended=row.suspended, **fields)
