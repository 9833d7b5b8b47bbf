"""Usage in a store over tables: daily totals of the ledger, and the reports made from them."""

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import date, timedelta
from operator import attrgetter
from typing import TypeVar

from services.domain import ConversationId, Purpose, UserId
from services.domain.accounts import ActivityRow
from services.domain.data import StoredData
from services.domain.rows import ConversationState, DocumentKind
from services.domain.usage import (
    ConversationUsage,
    DayUsage,
    LedgerEntry,
    PurposeUsage,
    UsageReport,
    UsageSum,
)
from services.rules import part_of
from services.rules.accounts import MOST_CHANGES, MOST_FAILURES
from services.rules.turns import Entry
from services.store.tables import schema
from services.store.tables.blocks import atomic, found
from services.store.tables.protocol import Block, Range, Tables
from services.store.tables.schema import AuditRow, Counts, ModelUsage, UsageDay

_PAGE = 500  # maximum ledger entries of one page
_MOST_CONVERSATIONS = 499
_ONE_DAY = timedelta(days=1)
# the ratio of a bucket's upper limit to its lower limit: each time in a bucket is within 5 % of the bucket's middle
_STEP = 1.1
Key = TypeVar("Key", bound=Hashable)


def sums_of(parts: Iterable[UsageSum]) -> dict[str, int]:
    """Return the summed tokens and cost of *parts*, keyed by the field names of `UsageSum`."""
    parts = list(parts)
    return {each.name: sum(getattr(one, each.name) for one in parts) for each in fields(UsageSum)}


def turns_of(parts: Iterable[ModelUsage], purpose: Purpose | None = None) -> int:
    return sum(one.turns for one in parts if purpose in (None, one.purpose))


def _grouped(rows: Iterable[tuple[Key, ModelUsage]]) -> dict[Key, list[ModelUsage]]:
    groups: dict[Key, list[ModelUsage]] = {}
    for key, one in rows:
        groups.setdefault(key, []).append(one)
    return groups


# --- daily totals -----------------------------------------------------------------------------------


def bucket_of(ms: int | None) -> int:
    """Return the number of the bucket for a time to the first token, in milliseconds; 0 if there is no time."""
    return 0 if ms is None else 1 + math.floor(math.log(max(ms, 1), _STEP))


def _usage_of(entry: Entry) -> ModelUsage:
    """Convert *entry* to a total of one entry; a correction adds no turn, because an earlier entry counted the turn."""
    # a lapsed turn has no time to the first token; if the turn is finished late, a later entry adds the time
    is_timed = entry.kind != "lapsed"
    return part_of(
        ModelUsage,
        entry,
        turns=entry.kind != "adjust",
        failed=entry.outcome == "failed",
        # a correction replaces the lapsed end, which was counted
        interrupted=(entry.outcome in ("lapsed", "interrupted")) - (entry.kind == "adjust"),
        cost_micro=entry.micro,
        first_tokens={bucket_of(entry.first_token_ms): 1} if is_timed else {},
    )


def added_to(day: UsageDay | None, entry: Entry) -> UsageDay:
    """Return the totals of *day* (None: no entries yet) with *entry* added."""
    new, others = _usage_of(entry), list[ModelUsage]()
    for one in day.sums if day else ():
        if (one.model, one.purpose) != (new.model, new.purpose):
            others.append(one)
            continue
        times = Counter(one.first_tokens) + Counter(new.first_tokens)
        new = replace(
            new,
            **sums_of([one, new]),
            turns=one.turns + new.turns,
            failed=one.failed + new.failed,
            interrupted=one.interrupted + new.interrupted,
            first_tokens=dict(times),
        )
    entries = 1 + (day.entries if day else 0)
    return UsageDay(day=entry.day, sums=(*others, new), entries=entries)


def days_of(block: Block, first_day: date, last_day: date) -> list[UsageDay]:
    """Return the daily totals of one user, sorted by day."""
    return block.select(schema.DAYS, {}, days_between(first_day, last_day), ("day",))


def days_between(first_day: date, last_day: date) -> Range:
    """Return the range of these days. There is no day before `date.min`, so its usage, which cannot exist, is left out."""
    above = max(first_day, date.min + _ONE_DAY) - _ONE_DAY
    return Range("day", above=above, up_to=last_day)


def report_of(
    days: Iterable[UsageDay], active_users: int, conversations: tuple[ConversationUsage, ...] = ()
) -> UsageReport:
    """Return the report that sums up *days* of one user or of all users."""
    rows = [(day.day, one) for day in days for one in day.sums]
    replies = [one for _, one in rows if one.purpose is Purpose.REPLY]
    by_day = _grouped(((day, one.model), one) for day, one in rows)
    purposes = [
        PurposeUsage(purpose=purpose, turns=turns_of(found), **sums_of(found))
        for purpose, found in _grouped((one.purpose, one) for _, one in rows).items()
    ]
    times = Counter[int]()
    for one in replies:
        times.update({bucket: n for bucket, n in one.first_tokens.items() if bucket})
    return UsageReport(
        days=tuple(
            DayUsage(day=day, model=model, replies=turns_of(found, Purpose.REPLY), **sums_of(found))
            for (day, model), found in sorted(by_day.items(), key=lambda group: group[0])
        ),
        purposes=tuple(sorted(purposes, key=lambda one: (-one.cost_micro, -one.turns))),
        conversations=conversations,
        active_users=active_users,
        failed=sum(one.failed for one in replies),
        interrupted=sum(one.interrupted for one in replies),
        first_token_ms=_quantile(times, 0.5),
        first_token_p95_ms=_quantile(times, 0.95),
    )


def has_replies(days: Iterable[UsageDay]) -> bool:
    return any(one.purpose is Purpose.REPLY for day in days for one in day.sums)


def _quantile(times: Mapping[int, int], share: float) -> int | None:
    up_to, wanted = 0, share * sum(times.values())
    for bucket in sorted(times):
        up_to += times[bucket]
        if up_to >= wanted:
            return round(_STEP ** (bucket - 0.5))
    return None


# --- a user's own usage -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TablesUsage:
    """Implements `UserFigures` for one user over tables."""

    user_id: UserId
    tables: Tables
    page: int = _PAGE

    @atomic
    def ledger(
        self, block: Block, first_day: date, last_day: date, after: str = ""
    ) -> list[LedgerEntry]:
        same_day = {"day": first_day if first_day <= last_day else date.min}
        later = Range("day", above=first_day, up_to=last_day)
        rows = [
            *block.select(schema.LEDGER, same_day, Range("id", above=after), ("id",), self.page),
            *block.select(schema.LEDGER, {}, later, ("day", "id"), self.page),
        ]
        return [part_of(LedgerEntry, one, cost_micro=one.micro) for one in rows[: self.page]]

    @atomic
    def account_changes(self, block: Block) -> list[ActivityRow]:
        def newest(*, is_failure: bool) -> list[AuditRow]:
            where = {"target": self.user_id, "is_failure": is_failure}
            limit = MOST_FAILURES if is_failure else MOST_CHANGES
            return block.select(schema.AUDIT, where, order=("-id",), limit=limit)

        rows = newest(is_failure=True) + newest(is_failure=False)
        names = {None: None, self.user_id: "You"}
        return [
            part_of(ActivityRow, row, actor=names.get(row.actor, "Admin"), target=None)
            for row in sorted(rows, key=attrgetter("id"), reverse=True)
        ]

    @atomic
    def report(self, block: Block, first_day: date, last_day: date) -> UsageReport:
        days = days_between(first_day, last_day)
        entries, sums = block.select(schema.LEDGER, {}, days), days_of(block, first_day, last_day)
        turns = found(block, schema.TURNS, {one.turn_id for one in entries})
        chats = {turn.id: turn.conversation_id for turn in turns}
        groups = _grouped((chats.get(one.turn_id), _usage_of(one)) for one in entries)
        return report_of(sums, has_replies(sums) * 1, _by_conversation(groups))

    @atomic
    def stored(self, block: Block) -> StoredData:
        rows = block.select(schema.CONVERSATIONS)
        shown = {row.id: row for row in rows if row.destroy_at is None}
        counts = block.get(schema.COUNTS, "counts") or Counts()
        discards = [one for one in block.select(schema.DISCARDS) if one.conversation_id in shown]
        hidden = {one for row in discards for one in row.message_ids}
        days = block.select(schema.DAYS)
        return StoredData(
            conversations=len(shown),
            archived=sum(row.state is ConversationState.ARCHIVED for row in shown.values()),
            messages=sum(row.last_seq - row.destroyed for row in shown.values()) - len(hidden),
            spaces=len(block.select(schema.DOCUMENTS, {"kind": DocumentKind.SPACE})),
            facts=counts.facts,
            sealed_bytes=counts.bytes,
            deleted=len(rows) - len(shown),
            destroyed_at=max((row.destroy_at for row in rows if row.destroy_at), default=None),
            ledger_entries=sum(one.entries for one in days),
            ledger_since=min((one.day for one in days), default=None),
        )


def _by_conversation(
    groups: Mapping[ConversationId | None, list[ModelUsage]],
) -> tuple[ConversationUsage, ...]:
    """Return the usage of each conversation, highest cost first; those after the 499th are summed up as one."""
    by_cost = sorted(
        groups.items(), key=lambda group: sum(one.cost_micro for one in group[1]), reverse=True
    )
    rest = [one for _, found in by_cost[_MOST_CONVERSATIONS:] for one in found]
    listed = [(key, found, False) for key, found in by_cost[:_MOST_CONVERSATIONS]]
    if rest:
        listed.append((None, rest, True))
    return tuple(
        ConversationUsage(
            conversation_id=key,
            is_rest=is_rest,
            replies=turns_of(found, Purpose.REPLY),
            **sums_of(found),
        )
        for key, found, is_rest in listed
    )
