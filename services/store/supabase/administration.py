"""Administration over the Supabase API; it handles counts, costs, limits and roles, never content."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from services.domain import AccountRole, UserId
from services.domain.accounts import (
    AuditEntry,
    DeploymentSettings,
    Invitation,
    RetentionPreview,
    SignUps,
    UserOrder,
    UserPage,
)
from services.domain.addresses import EmailAddress
from services.domain.health import Abilities, StoreHealth
from services.domain.usage import UsageReport
from services.errors import NotFound
from services.store.backend import LISTED_CREDENTIALS, StoredCredentials, StoredSignIn
from services.store.supabase.api import PAGE, ServerCalls, UserCalls
from services.store.supabase.arguments import Hidden
from services.store.supabase.schema import newest_version

# greater than every id, and exact even if the JSON number is converted to a double
_NEWEST = 2**53 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _DatabaseState:
    """The result of the function `database_state`."""

    at: datetime  # the database's time when it computed this result
    database_ms: int
    database_version: str
    schema_version: str  # the version of the last migration


@dataclass(frozen=True, slots=True)
class SupabaseAdministration:
    """Implements `GuardedAdministration` for one user, in Supabase."""

    calls: UserCalls = field(repr=False)
    server: ServerCalls = field(repr=False)

    def list_users(
        self, words: str, order: UserOrder, skip: int = 0, at_most: int = 500
    ) -> UserPage:
        return self.calls.read(
            "list_users",
            UserPage,
            words=Hidden(words.strip()),
            sorted_by=order.value,
            skip=skip,
            at_most=at_most,
        )

    def usage(self, days: tuple[date, date], user_id: UserId | None = None) -> UsageReport:
        first, last = days
        return self.calls.read(
            "usage_report", UsageReport, person=user_id, first_day=first, last_day=last
        )

    def deployment(self) -> DeploymentSettings:
        return self.calls.read("deployment_settings", DeploymentSettings)

    def set_deployment_cap(self, monthly_cap_micro: int | None) -> None:
        self.calls.do("set_deployment_cap", new_monthly_cap_micro=monthly_cap_micro)

    def change_settings(self, changes: Mapping[str, int | None]) -> None:
        self.calls.do("set_settings", changes=Hidden.json(changes))

    def preview_retention(self, days: int) -> RetentionPreview:
        return self.calls.read("preview_retention", RetentionPreview, days=days)

    def set_caps(self, user_id: UserId, changes: Mapping[str, int | None]) -> None:
        self.calls.do("set_caps", person=user_id, changes=Hidden.json(changes))

    def set_role(self, user_id: UserId, role: AccountRole) -> None:
        self.calls.do("set_role", person=user_id, new_role=role.value)

    def check_end(self, user_id: UserId, *, is_shut: bool) -> None:
        self.calls.do("check_end", person=user_id, is_shut=is_shut)

    def suspend(self, user_id: UserId, *, is_suspended: bool) -> None:
        self.calls.do("suspend", person=user_id, suspended=is_suspended)

    def sign_out(self, user_id: UserId) -> None:
        self.calls.do("sign_out_everywhere", person=user_id)

    def delete(self, user_id: UserId) -> None:
        self.calls.do("delete_account", person=user_id)

    def set_model(self, name: str, changes: Mapping[str, object]) -> None:
        self.calls.do("set_model", model_name=name, changes=Hidden.json(changes))

    def refuse_unknown_prices(self, *, is_refused: bool) -> None:
        changes = Hidden.json({"refuses_unknown_prices": is_refused})
        self.calls.do("set_settings", changes=changes)

    def set_sign_ups(self, mode: SignUps) -> None:
        self.calls.do("set_settings", changes=Hidden.json({"sign_ups": mode.value}))

    def confirm_by_code(self, *, is_on: bool) -> None:
        self.calls.do("set_settings", changes=Hidden.json({"confirms_by_code": is_on}))

    def require_factor(self, *, is_on: bool) -> None:
        self.calls.do("require_factor", is_on=is_on)

    def invite(self, code_hash: str, email: EmailAddress | None, role: AccountRole) -> None:
        self.calls.do("invite", new_code_hash=code_hash, address=Hidden(email), new_role=role.value)

    def invitations(self) -> list[Invitation]:
        return self.calls.read("list_invitations", list[Invitation])

    def revoke_invitation(self, invitation: UUID) -> None:
        self.calls.do("revoke_invitation", invitation=invitation)

    def list_credentials(self, after: UUID | None = None) -> list[StoredCredentials]:
        every = list[StoredCredentials]
        return self.calls.read("list_credentials", every, after=after, at_most=LISTED_CREDENTIALS)

    def read_sign_in(self, user_id: UserId) -> StoredSignIn:
        found = self.calls.read("read_sign_in", list[StoredSignIn], person=user_id)
        if not found:
            raise NotFound
        return found[0]

    def health(self) -> StoreHealth:
        began = time.monotonic()
        state = self.calls.read("database_state", _DatabaseState)
        seconds = time.monotonic() - began
        # this machine's time at the moment of `state.at`, estimated as the middle of the call
        our_time = datetime.now(UTC) - timedelta(seconds=seconds / 2)
        bound = self.server.row_bound()
        return StoreHealth(
            abilities=Abilities(takes_several_processes=True, isolates_users=True),
            database_ms=state.database_ms,
            api_ms=round(1000 * seconds - state.database_ms),
            clock_skew_seconds=(state.at - our_time).total_seconds(),
            figures={
                "Max rows per response": bound if bound <= PAGE else "no limit",
                "PostgreSQL": state.database_version,
                "Schema version": state.schema_version,
            },
            is_newer=state.schema_version > newest_version(),
        )

    def audit(self, before: str = "", at_most: int = 500) -> list[AuditEntry]:
        return self.calls.read(
            "list_audit", list[AuditEntry], before=int(before or _NEWEST), at_most=at_most
        )
