"""The usage of one user, added up from the entries of their ledger."""

import math
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TypedDict, TypeVar

from services.domain import ConversationId, Purpose, TurnId
from services.domain.accounts import AuditEntry
from services.domain.data import StoredData
from services.domain.usage import (
    ConversationUsage,
    DayUsage,
    LedgerEntry,
    PurposeUsage,
    UsageReport,
)
from services.store.rows import ConversationState, DocumentKind
from services.store.tables.protocol import Block, Range, Tables
from services.store.tables.schema import (
    CONVERSATIONS,
    COUNTS,
    DISCARDS,
    DOCUMENTS,
    LEDGER,
    MESSAGES,
    TURNS,
    Counts,
    LedgerRow,
)

_PAGE = 500  # entries
_MOST_CONVERSATIONS = 499
_ONE_DAY = timedelta(days=1)
Key = TypeVar("Key", bound=Hashable)


class _Sums(TypedDict):
    tokens_in: int
    tokens_cached: int
    tokens_out: int
    cost_micro: int


def _sums(entries: Iterable[LedgerRow]) -> _Sums:
    entries = list(entries)
    return {
        "tokens_in": sum(one.tokens_in for one in entries),
        "tokens_cached": sum(one.tokens_cached for one in entries),
        "tokens_out": sum(one.tokens_out for one in entries),
        "cost_micro": sum(one.micro for one in entries),
    }


def _turns(entries: Iterable[LedgerRow], purpose: Purpose | None = None) -> int:
    """The turns of *entries*; a correction is of a turn that another entry counted."""
    return sum(one.kind != "adjust" and purpose in (None, one.purpose) for one in entries)


def _grouped(
    entries: Iterable[LedgerRow], key: Callable[[LedgerRow], Key]
) -> dict[Key, list[LedgerRow]]:
    groups: dict[Key, list[LedgerRow]] = {}
    for entry in entries:
        groups.setdefault(key(entry), []).append(entry)
    return groups


@dataclass(frozen=True, slots=True)
class TablesUsage:
    """The `UserFigures` of one user over tables."""

    tables: Tables
    page: int = _PAGE

    def ledger(self, first_day: date, last_day: date, after: str = "") -> list[LedgerEntry]:
        def read(block: Block) -> list[LedgerRow]:
            same_day = {"day": first_day} if first_day <= last_day else {"day": date.min}
            after_it = Range("id", above=after)
            found = block.select(LEDGER, same_day, after_it, ("id",), self.page)
            later = Range("day", above=first_day, up_to=last_day)
            return [*found, *block.select(LEDGER, {}, later, ("day", "id"), self.page)]

        return [
            LedgerEntry(
                id=one.id,
                at=one.at,
                day=one.day,
                kind=one.kind,
                outcome=one.outcome,
                purpose=one.purpose,
                model=one.model,
                **_sums([one]),
            )
            for one in self.tables.run(read)[: self.page]
        ]

    def account_changes(self) -> list[AuditEntry]:
        return []

    def report(self, first_day: date, last_day: date) -> UsageReport:
        days = Range("day", above=first_day - _ONE_DAY, up_to=last_day)

        def read(block: Block) -> UsageReport:
            entries = block.select(LEDGER, {}, days, ("day", "id"))
            turns = {one.turn_id: block.get(TURNS, one.turn_id) for one in entries}
            conversations = {
                turn_id: turn.conversation_id if turn else None for turn_id, turn in turns.items()
            }
            return _report(entries, conversations)

        return self.tables.run(read)

    def stored(self) -> StoredData:
        def read(block: Block) -> StoredData:
            rows = block.select(CONVERSATIONS)
            shown = [row for row in rows if row.destroy_at is None]
            counts = block.get(COUNTS, "counts") or Counts()
            gone = {one for row in block.select(DISCARDS) for one in row.message_ids}
            ids = {row.id for row in shown}
            messages = [one for one in block.select(MESSAGES) if one.conversation_id in ids]
            entries = block.select(LEDGER)
            return StoredData(
                conversations=len(shown),
                archived=sum(row.state is ConversationState.ARCHIVED for row in shown),
                messages=sum(one.id not in gone for one in messages),
                spaces=len(block.select(DOCUMENTS, {"kind": DocumentKind.SPACE})),
                facts=counts.facts,
                sealed_bytes=counts.bytes,
                deleted=len(rows) - len(shown),
                destroyed_at=max((row.destroy_at for row in rows if row.destroy_at), default=None),
                ledger_entries=len(entries),
                ledger_since=min((one.day for one in entries), default=None),
            )

        return self.tables.run(read)


def _report(
    entries: list[LedgerRow], conversations: dict[TurnId, ConversationId | None]
) -> UsageReport:
    replies = [one for one in entries if one.purpose is Purpose.REPLY]
    by_day = _grouped(entries, lambda one: (one.day, one.model))
    purposes = [
        PurposeUsage(purpose=purpose, turns=_turns(found), **_sums(found))
        for purpose, found in _grouped(entries, lambda one: one.purpose).items()
    ]
    groups = sorted(
        _grouped(entries, lambda one: conversations[one.turn_id]).items(),
        key=lambda group: sum(one.micro for one in group[1]),
        reverse=True,
    )
    listed = [
        ConversationUsage(
            conversation_id=conversation_id, replies=_turns(found, Purpose.REPLY), **_sums(found)
        )
        for conversation_id, found in groups[:_MOST_CONVERSATIONS]
    ]
    if rest := [one for _, found in groups[_MOST_CONVERSATIONS:] for one in found]:
        replies_of_rest = _turns(rest, Purpose.REPLY)
        listed.append(
            ConversationUsage(
                conversation_id=None, is_rest=True, replies=replies_of_rest, **_sums(rest)
            )
        )
    times = sorted(one.first_token_ms for one in replies if one.first_token_ms is not None)
    return UsageReport(
        days=tuple(
            DayUsage(day=day, model=model, replies=_turns(found, Purpose.REPLY), **_sums(found))
            for (day, model), found in by_day.items()
        ),
        purposes=tuple(sorted(purposes, key=lambda one: -one.cost_micro)),
        conversations=tuple(listed),
        active_users=bool(replies) * 1,
        failed=sum(one.outcome == "failed" for one in replies),
        interrupted=sum(one.outcome == "lapsed" for one in replies),
        first_token_ms=times[(len(times) - 1) // 2] if times else None,
        first_token_p95_ms=times[math.ceil(0.95 * len(times)) - 1] if times else None,
    )
