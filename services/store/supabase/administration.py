"""Users as an admin may see and change them: counts, costs, limits and roles, never content."""

from dataclasses import dataclass, field

from pydantic import TypeAdapter

from services.domain import AccountRole, UserId
from services.domain.accounts import Limits, PeopleOrder, PeoplePage, UserUsage
from services.store.supabase.api import Hidden, UserCalls, refusal

_NO_CAP = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class _PersonRow(UserUsage):
    people: int


_ROWS = TypeAdapter(list[_PersonRow])


@dataclass(frozen=True, slots=True)
class Administration:
    """What an admin may do. All methods raise NotFound for other users, and for users who are gone."""

    calls: UserCalls = field(repr=False)

    def people(
        self, words: str, order: PeopleOrder, *, is_descending: bool, skip: int = 0
    ) -> PeoplePage:
        """At most 100 users whose addresses hold *words*, from number *skip* on."""
        rows = self.calls.read(
            "list_people",
            _ROWS,
            words=Hidden(words.strip()),
            sorted_by=order.value,
            is_descending=is_descending,
            skip=skip,
        )
        return PeoplePage(people=tuple(rows), total=rows[0].people if rows else skip)

    def set_limits(self, user_id: UserId, limits: Limits) -> None:
        self._call(
            "set_caps",
            person=user_id,
            new_daily_cap_micro=limits.daily_cap_micro,
            new_monthly_cap_micro=limits.monthly_cap_micro,
            new_daily_cap_tokens=(
                _NO_CAP if limits.daily_cap_tokens is None else limits.daily_cap_tokens
            ),
            new_max_open=limits.max_open,
            new_max_per_minute=limits.max_per_minute,
        )

    def set_role(self, user_id: UserId, role: AccountRole) -> None:
        """Raise LastAdmin."""
        self._call("set_role", person=user_id, new_role=role.value)

    def suspend(self, user_id: UserId, *, is_suspended: bool) -> None:
        """Shut the account and end its sessions and live turns, or open it again. Raise LastAdmin."""
        self._call("suspend", person=user_id, suspended=is_suspended)

    def _call(self, verb: str, /, **arguments: UserId | str | int | bool | None) -> None:
        answer = self.calls.call(verb, **arguments)
        if not answer.ok:
            raise refusal(verb, answer.reason)
