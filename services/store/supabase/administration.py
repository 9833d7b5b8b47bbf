"""Users as an admin may see and change them: counts, costs, limits and roles, never content."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta

from services.domain import AccountRole, UserId
from services.domain.accounts import (
    AuditEntry,
    DeploymentSettings,
    RetentionPreview,
    UserOrder,
    UserPage,
)
from services.domain.health import DatabaseState
from services.domain.usage import UsageReport
from services.store.supabase.api import Hidden, UserCalls

_NEWEST = 2**53 - 1  # beyond every id, and exact where JSON numbers are doubles


@dataclass(frozen=True, slots=True)
class Administration:
    """What an admin may do. All methods raise AdminsOnly for other users, who may `delete` themselves alone, and NotFound
    for users who are gone.
    """

    calls: UserCalls = field(repr=False)
    # stops the live turns of a user in this process, and waits until they are settled
    stop_turns: Callable[[UserId], object]

    def list_users(
        self, words: str, order: UserOrder, skip: int = 0, at_most: int = 500
    ) -> UserPage:
        """At most 500 users whose addresses hold *words*, from number *skip* on: the highest first, or by address."""
        return self.calls.read(
            "list_users",
            UserPage,
            words=Hidden(words.strip()),
            sorted_by=order.value,
            skip=skip,
            at_most=at_most,
        )

    def usage(self, days: tuple[date, date], user_id: UserId | None = None) -> UsageReport:
        """The usage of all users, or of one."""
        first, last = days
        return self.calls.read(
            "usage_report", UsageReport, person=user_id, first_day=first, last_day=last
        )

    def deployment(self) -> DeploymentSettings:
        return self.calls.read("deployment_settings", DeploymentSettings)

    def set_deployment_cap(self, monthly_cap_micro: int | None) -> None:
        """Set what all users together may spend in a month; None: no limit."""
        self.calls.do("set_deployment_cap", new_monthly_cap_micro=monthly_cap_micro)

    def change_settings(self, changes: Mapping[str, int | None]) -> None:
        """Change limits of users to come (None: no limit), or the retention.

        `retention_days`: conversations are deleted so many days (15 to 3,650) after their last use, the first in
        14 days; None: never.
        """
        self.calls.do("set_settings", changes=Hidden.json(changes))

    def preview_retention(self, days: int) -> RetentionPreview:
        """The conversations that a retention of *days* after their last use would delete within 14 days."""
        return self.calls.read("preview_retention", RetentionPreview, days=days)

    def set_caps(self, user_id: UserId, changes: Mapping[str, int | None]) -> None:
        """Change limits of a user; None: no limit."""
        self.calls.do("set_caps", person=user_id, changes=Hidden.json(changes))

    def set_role(self, user_id: UserId, role: AccountRole) -> None:
        """Raise LastAdmin."""
        self.calls.do("set_role", person=user_id, new_role=role.value)

    def suspend(self, user_id: UserId, *, is_suspended: bool) -> None:
        """Shut the account and end its sessions and live turns, or open it again. Raise LastAdmin."""
        if is_suspended:
            self._stop_turns(user_id, is_shut=True)
        self.calls.do("suspend", person=user_id, suspended=is_suspended)

    def sign_out(self, user_id: UserId) -> None:
        """End all sessions of a user, and their live turns."""
        self._stop_turns(user_id, is_shut=False)
        self.calls.do("sign_out_everywhere", person=user_id)

    def delete(self, user_id: UserId) -> None:
        """Delete an account: its keys at once, its rows soon, its numbers never. Raise LastAdmin."""
        self._stop_turns(user_id, is_shut=True)
        self.calls.do("delete_account", person=user_id)

    def _stop_turns(self, user_id: UserId, *, is_shut: bool) -> None:
        """Stop and settle the live turns of a user: a turn whose session ends is charged its whole reservation.

        First raise the errors of ending the sessions, or of shutting the account, so that a refusal stops nothing.
        """
        self.calls.do("check_end", person=user_id, is_shut=is_shut)
        self.stop_turns(user_id)

    def database_state(self) -> DatabaseState:
        began = time.monotonic()
        state = self.calls.read("database_state", DatabaseState)
        seconds = time.monotonic() - began
        # about when the database answered
        our_time = datetime.now(UTC) - timedelta(seconds=seconds / 2)
        return replace(
            state,
            api_ms=round(1000 * seconds - state.database_ms),
            clock_skew_seconds=(state.at - our_time).total_seconds(),
        )

    def audit(self, before: str = "", at_most: int = 500) -> list[AuditEntry]:
        """At most 500 entries of the audit, the newest first: of all, or those *before* the one with that id."""
        return self.calls.read(
            "list_audit", list[AuditEntry], before=int(before or _NEWEST), at_most=at_most
        )
