"""Reports for admins over tables: counts, costs and the audit. They read a row a user and day, each user in a block."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import date

from services.domain import ConversationId, Purpose, UserId
from services.domain.accounts import (
    AuditEntry,
    DeploymentSettings,
    RetentionPreview,
    UserOrder,
    UserPage,
    UserUsage,
)
from services.domain.health import StoreHealth
from services.domain.usage import UsageReport
from services.rules import Refusal
from services.rules.accounts import (
    ADMINS_ONLY,
    WARNING,
    Settings,
    limits_of,
)
from services.rules.budget import NO_CAP
from services.store.refusals import error_of
from services.store.tables.access import Caller, deployment_of, settings_of
from services.store.tables.content import counts_of, text_bytes
from services.store.tables.protocol import AllTables, Answer, Block, Range
from services.store.tables.schema import (
    ACCOUNTS,
    AUDIT,
    BUDGETS,
    CONVERSATIONS,
    MESSAGES,
    RECEIPTS,
    THOUGHTS,
    AccountRow,
    AuditRow,
    UsageDay,
)
from services.store.tables.usage import days_of, has_replies, report_of

_PAGE = 500  # rows
_ORDERS: Mapping[UserOrder, Callable[[UserUsage], float]] = {
    UserOrder.COST: lambda row: row.cost_this_month_micro,
    UserOrder.REPLIES: lambda row: row.replies_this_month,
    UserOrder.TOKENS: lambda row: row.tokens_in_this_month + row.tokens_out_this_month,
    UserOrder.ACTIVE: lambda row: row.last_active_at.timestamp() if row.last_active_at else 0,
    UserOrder.EMAIL: lambda _: 0,
}


def cap_of(micro: int | None) -> int | None:
    return None if micro == NO_CAP else micro


@dataclass(frozen=True, slots=True)
class TablesReports:
    """What an admin sees."""

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
        """Run *work* on the tables of a user for an admin, or (*is_own*) for that user. Raise the error of its refusal."""

        def checked(block: Block) -> Answer | Refusal:
            account = self.caller.account(block)
            is_allowed = account.is_admin or (is_own and account.id == user_id)
            return work(block) if is_allowed else ADMINS_ONLY

        answer = self.tables.of(user_id).run(checked)
        if isinstance(answer, Refusal):
            raise error_of(verb, answer)
        return answer

    def _month(self) -> tuple[date, date]:
        today = self.caller.now().date()
        return today.replace(day=1), today

    def list_users(
        self, words: str, order: UserOrder, skip: int = 0, at_most: int = 500
    ) -> UserPage:
        accounts = self.run(
            "list_users", lambda block: block.select(ACCOUNTS, {"deleted_at": None})
        )
        words = words.strip().lower()
        found = [row for row in accounts if words in (row.email or "").lower()]
        rows = [row for account in found if (row := self._user(account))]
        rows.sort(key=lambda row: (-_ORDERS[order](row), row.email))
        return UserPage(tuple(rows[skip : skip + min(at_most, _PAGE)]), len(rows))

    def _user(self, account: AccountRow) -> UserUsage | None:
        """The row of a user; None: the account was deleted a moment ago."""

        def read(block: Block) -> UserUsage | None:
            budget, counts = block.get(BUDGETS, "budget"), counts_of(block)
            if budget is None:
                return None
            budget = budget.opened(self.caller.now(), counts.bytes)
            first, today = self._month()
            days = days_of(block, first, today)
            month = [one for day in days for one in day.sums]
            day = [one for each in days if each.day == today for one in each.sums]
            return UserUsage(
                user_id=account.id,
                email=account.email or "",
                role=account.role,
                is_suspended=account.suspended_at is not None,
                last_active_at=budget.last_active_at,
                replies_today=sum(one.turns for one in day if one.purpose is Purpose.REPLY),
                tokens_today=budget.day_tokens,
                cost_today_micro=sum(one.cost_micro for one in day),
                replies_this_month=sum(one.turns for one in month if one.purpose is Purpose.REPLY),
                tokens_in_this_month=sum(one.tokens_in for one in month),
                tokens_out_this_month=sum(one.tokens_out for one in month),
                cost_this_month_micro=sum(one.cost_micro for one in month),
                conversations=counts.conversations,
                bytes=counts.bytes,
                **asdict(limits_of(budget)),
            )

        return self.tables.of(account.id).run(read)

    def _days_of_all(self, verb: str, first: date, last: date) -> list[list[UsageDay]]:
        """The sums of each user, of deleted ones as well."""
        accounts = self.run(verb, lambda block: block.select(ACCOUNTS))
        return [
            self.tables.of(one.id).run(lambda block: days_of(block, first, last))
            for one in accounts
        ]

    def usage(self, days: tuple[date, date], user_id: UserId | None = None) -> UsageReport:
        users = (
            [self.run("usage", lambda block: days_of(block, *days), user_id)]
            if user_id
            else self._days_of_all("usage", *days)
        )
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
            defaults=limits_of(settings),
            monthly_cap_micro=cap_of(deployment.monthly_cap_micro),
            spent_today_micro=sum(cost for day, cost in costs if day == today),
            spent_this_month_micro=sum(cost for _, cost in costs),
            retention_days=settings.retention_days,
        )

    def preview_retention(self, days: int) -> RetentionPreview:
        now = self.caller.now()
        last_use = Settings(retention_days=days).unused_since(now + WARNING)
        self.run("preview_retention", lambda _: None)

        def read(block: Block) -> list[int]:
            found = block.select(CONVERSATIONS, {"destroy_at": None}, unused)
            return [_bytes_of_messages(block, row.id) for row in found]

        unused = Range("updated_at", up_to=last_use)
        sizes = [
            self.tables.of(user_id).run(read)
            for user_id in self.tables.owners(CONVERSATIONS, {"destroy_at": None}, unused)
        ]
        return RetentionPreview(
            conversations=sum(map(len, sizes)),
            users=len(sizes),
            bytes=sum(map(sum, sizes)),
        )

    def audit(self, before: str = "", at_most: int = 500) -> list[AuditEntry]:
        def read(block: Block) -> list[AuditEntry]:
            at_most_one_more = min(at_most, _PAGE) + 1
            within = Range("id", up_to=before or None)
            rows = block.select(AUDIT, {}, within, ("-id",), at_most_one_more)
            rows = [row for row in rows if row.id != before][: min(at_most, _PAGE)]
            ids = {one for row in rows for one in (row.actor, row.target) if one}
            names = {one: self._name(block, one) for one in ids}
            return [_entry(row, names) for row in rows]

        return self.run("audit", read)

    def _name(self, block: Block, user_id: UserId) -> str:
        """The address of a user; of one who is gone the id."""
        account = block.get(ACCOUNTS, user_id)
        return account.email if account and account.email else str(user_id)

    def health(self) -> StoreHealth:
        began = time.monotonic()
        self.run("health", lambda _: None)
        milliseconds = round(1000 * (time.monotonic() - began))
        return StoreHealth(database_ms=milliseconds, api_ms=0, clock_skew_seconds=0.0, figures={})


def _bytes_of_messages(block: Block, conversation_id: ConversationId) -> int:
    """The length of the sealed texts of a conversation's messages and turns."""
    messages = block.select(MESSAGES, {"conversation_id": conversation_id})
    turn_ids = {one.turn_id for one in messages if one.turn_id}
    thoughts = [found for one in messages if (found := block.get(THOUGHTS, one.id))]
    receipts = [found for one in turn_ids if (found := block.get(RECEIPTS, one))]
    bodies = [one.body for one in (*messages, *receipts)]
    return text_bytes(*bodies, *(one.thoughts for one in thoughts))


def _entry(row: AuditRow, names: Mapping[UserId, str]) -> AuditEntry:
    return AuditEntry(
        id=row.id,
        at=row.at,
        action=row.action,
        actor=names[row.actor] if row.actor else None,
        target=names[row.target] if row.target else None,
        detail=row.detail,
    )
