"""Reports for admins over tables: counts, costs and the audit log. The figures of a user are read in one transaction."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import partial
from uuid import UUID

from services.domain import Purpose, UserId
from services.domain.accounts import (
    AuditEntry,
    DeploymentSettings,
    Limits,
    RetentionPreview,
    UserOrder,
    UserPage,
    UserUsage,
)
from services.domain.health import Abilities, StoreHealth
from services.domain.usage import UsageReport
from services.rules import NOT_FOUND, Refusal, part_of
from services.rules.accounts import ADMINS_ONLY, WARNING, Settings
from services.rules.budget import NO_CAP
from services.store.backend import LISTED_CREDENTIALS, StoredCredentials, StoredSignIn
from services.store.tables import schema
from services.store.tables.access import Caller, deployment_of, settings_of
from services.store.tables.blocks import accepted, found
from services.store.tables.content import counts_of
from services.store.tables.protocol import AllTables, Answer, Block, Range, rows_of_all
from services.store.tables.schema import AccountRow, ModelUsage, UsageDay
from services.store.tables.usage import (
    days_between,
    days_of,
    has_replies,
    report_of,
    sums_of,
    turns_of,
)

_PAGE = 500  # maximum rows of one page
_FIGURES: Mapping[UserOrder, Callable[[list[ModelUsage]], int]] = {
    UserOrder.COST: lambda month: sums_of(month)["cost_micro"],
    UserOrder.REPLIES: lambda month: turns_of(month, Purpose.REPLY),
    UserOrder.TOKENS: lambda month: sum(one.tokens_in + one.tokens_out for one in month),
}


def cap_of(micro: int | None) -> int | None:
    return None if micro == NO_CAP else micro


@dataclass(frozen=True, slots=True)
class TablesReports:
    """The reports for admins."""

    tables: AllTables
    caller: Caller

    def run(
        self,
        verb: str,
        work: Callable[[Block], Answer | Refusal],
        user_id: UserId | None = None,
        *,
        is_own: bool = False,
    ) -> Answer:
        """Run *work* on a user's tables. If it returns a refusal, raise the refusal's error.

        The caller must be an admin or, if *is_own*, that user.
        """

        def checked(block: Block) -> Answer | Refusal:
            account = self.caller.account(block)
            is_allowed = account.is_admin or (is_own and account.id == user_id)
            return work(block) if is_allowed else ADMINS_ONLY

        return accepted(verb, self.tables.of(user_id).run(checked))

    def _month(self) -> tuple[date, date]:
        today = self.caller.now().date()
        return today.replace(day=1), today

    def list_users(
        self, words: str, order: UserOrder, skip: int = 0, at_most: int = 500
    ) -> UserPage:
        accounts = self.run(
            "list_users", lambda block: block.select(schema.ACCOUNTS, {"deleted_at": None})
        )
        words = words.strip().lower()
        found = [row for row in accounts if words in (row.email or "").lower()]
        figures = self._figures(order)
        found.sort(key=lambda row: (-figures.get(row.id, 0), row.email or ""))
        page = found[skip : skip + min(at_most, _PAGE)]
        rows = [row for account in page if (row := self._user(account))]
        return UserPage(tuple(rows), len(found))

    def _figures(self, order: UserOrder) -> Mapping[UserId, float]:
        """Return the figures of users by which *order* sorts; a user without use has none."""
        if order is UserOrder.EMAIL:
            return {}
        if order is UserOrder.ACTIVE:
            budgets = rows_of_all(self.tables, schema.BUDGETS)
            used = {one: row.last_active_at for one, rows in budgets.items() for row in rows}
            return {one: at.timestamp() for one, at in used.items() if at}
        month = rows_of_all(self.tables, schema.DAYS, days_between(*self._month()))
        return {
            one: _FIGURES[order]([each for day in days for each in day.sums])
            for one, days in month.items()
        }

    def _user(self, account: AccountRow) -> UserUsage | None:
        """Return the row of a user in the list of users; None if the account was just deleted."""

        def read(block: Block) -> UserUsage | None:
            budget, counts = block.get(schema.BUDGETS, "budget"), counts_of(block)
            if budget is None:
                return None
            budget = budget.opened(self.caller.now(), counts.bytes)
            first, today = self._month()
            days = days_of(block, first, today)
            month = [one for day in days for one in day.sums]
            day = [one for each in days if each.day == today for one in each.sums]
            this_month = sums_of(month)
            return part_of(
                UserUsage,
                budget,
                account,
                user_id=account.id,
                email=account.email or "",
                is_suspended=account.suspended_at is not None,
                replies_today=turns_of(day, Purpose.REPLY),
                tokens_today=budget.day_tokens,
                cost_today_micro=sums_of(day)["cost_micro"],
                replies_this_month=turns_of(month, Purpose.REPLY),
                tokens_in_this_month=this_month["tokens_in"],
                tokens_out_this_month=this_month["tokens_out"],
                cost_this_month_micro=this_month["cost_micro"],
                conversations=counts.conversations - counts.discarded,
                bytes=counts.content_bytes,
            )

        return self.tables.of(account.id).run(read)

    def list_credentials(self, after: UUID | None = None) -> list[StoredCredentials]:
        rows = self.run("list_credentials", lambda block: block.select(schema.CREDENTIALS))
        left = [row for row in rows if row.user_id and (after is None or row.id > after)]
        left.sort(key=lambda row: row.id)
        return [part_of(StoredCredentials, row) for row in left[:LISTED_CREDENTIALS]]

    def read_sign_in(self, user_id: UserId) -> StoredSignIn:
        def read(block: Block) -> StoredSignIn | Refusal:
            account = block.get(schema.ACCOUNTS, user_id)
            credentials = block.get(schema.CREDENTIALS, user_id)
            if account is None or account.deleted_at or credentials is None:
                return NOT_FOUND
            changes = block.select(schema.AUDIT, {"target": user_id, "is_failure": False})
            begun = (row.at for row in changes if row.action == "account.begin")
            stored = part_of(StoredCredentials, credentials)
            return StoredSignIn(begun_at=next(begun, None), credentials=stored)

        return self.run("read_sign_in", read)

    def _days_of_all(self, verb: str, first: date, last: date) -> list[list[UsageDay]]:
        """Return the daily usage of each user, including deleted users."""
        self.run(verb, lambda _: None)  # checks that the caller is an admin
        return list(rows_of_all(self.tables, schema.DAYS, days_between(first, last)).values())

    def usage(self, days: tuple[date, date], user_id: UserId | None = None) -> UsageReport:
        if user_id:
            users = [self.run("usage", lambda block: days_of(block, *days), user_id)]
        else:
            users = self._days_of_all("usage", *days)
        active = sum(has_replies(found) for found in users)
        return report_of([day for found in users for day in found], active)

    def deployment(self) -> DeploymentSettings:
        settings, deployment = self.run(
            "deployment", lambda block: (settings_of(block), deployment_of(block))
        )
        first, today = self._month()
        costs = [
            (day.day, one.cost_micro)
            for found in self._days_of_all("deployment", first, today)
            for day in found
            for one in day.sums
        ]
        return DeploymentSettings(
            defaults=part_of(Limits, settings),
            monthly_cap_micro=cap_of(deployment.monthly_cap_micro),
            spent_today_micro=sum(cost for day, cost in costs if day == today),
            spent_this_month_micro=sum(cost for _, cost in costs),
            retention_days=settings.retention_days,
        )

    def preview_retention(self, days: int) -> RetentionPreview:
        now = self.caller.now()
        last_use = Settings(retention_days=days).unused_since(now + WARNING)
        self.run("preview_retention", lambda _: None)

        def read(block: Block, user_id: UserId) -> list[int]:
            account = block.get(schema.ACCOUNTS, user_id)
            if account is None or account.deleted_at:
                return []
            rows = block.select(schema.CONVERSATIONS, {"destroy_at": None}, unused)
            return [row.bytes for row in rows]

        unused = Range("updated_at", up_to=last_use)
        owners = self.tables.owners(schema.CONVERSATIONS, {"destroy_at": None}, unused)
        read_all = [self.tables.of(one).run(partial(read, user_id=one)) for one in owners]
        sizes = [found for found in read_all if found]
        return RetentionPreview(
            conversations=sum(map(len, sizes)), users=len(sizes), bytes=sum(map(sum, sizes))
        )

    def audit(self, before: str = "", at_most: int = 500) -> list[AuditEntry]:
        def read(block: Block) -> list[AuditEntry]:
            at_most_one_more = min(at_most, _PAGE) + 1
            within = Range("id", up_to=before or None)
            rows = block.select(schema.AUDIT, {}, within, ("-id",), at_most_one_more)
            rows = [row for row in rows if row.id != before][: min(at_most, _PAGE)]
            ids = {one for row in rows for one in (row.actor, row.target) if one}
            # a user is named by address, or by id if there is no address, as for a deleted account
            names = {None: None} | {one: str(one) for one in ids}
            accounts = found(block, schema.ACCOUNTS, ids)
            names |= {account.id: account.email for account in accounts if account.email}
            return [
                part_of(AuditEntry, row, actor=names[row.actor], target=names[row.target])
                for row in rows
            ]

        return self.run("audit", read)

    def health(self) -> StoreHealth:
        began = time.monotonic()
        backup = self.run("health", lambda block: block.get(schema.BACKUP, "backup"))
        milliseconds = round(1000 * (time.monotonic() - began))
        return StoreHealth(
            abilities=Abilities(takes_several_processes=False, isolates_users=False),
            database_ms=milliseconds,
            api_ms=None,
            clock_skew_seconds=0.0,
            figures={"Last backup": backup.at} if backup else {},
        )
