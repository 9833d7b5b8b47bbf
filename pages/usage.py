"""The usage page: what a user has spent against the limits, by day and model, by chat, and by purpose."""

from collections.abc import Callable, Iterable, Sequence
from datetime import date
from operator import attrgetter

import streamlit as st

from pages._parts import audit_table, budget, conversation_menu, frame, tables, usage_chart, words
from pages._parts.elements import row
from services.bootstrap import PersonServices
from services.domain import ConversationId, Purpose
from services.domain.accounts import Account
from services.domain.usage import UsageSum

_PURPOSES = {
    Purpose.REPLY: "Replies",
    Purpose.TITLE: "Titles",
    Purpose.SUMMARY: "Summaries",
    Purpose.FACTS: "Memories",
}
_DELETED, _REST = "Deleted and temporary chats", "Other chats"


def _draw_limits(account: Account) -> None:
    with row("limits"):
        for limit in account.limits:
            with st.container(gap="xxsmall", width=300):
                label = f"**{words.LIMITS[limit.cap]}** {words.used_of(limit)}"
                st.progress(limit.share, label)
                st.caption(f"{words.resets(limit.cap)}.")
    if account.shared_limit:
        budget.draw_if_near(account.shared_limit, account.role)


def _draw_usage(person: PersonServices, days: tuple[date, date]) -> None:
    report = person.store.usage.report(*days)
    if not report.days:
        st.info("Nothing was used on these days.")
        return
    usage_chart.draw(report.days, days, "/export/usage.csv")
    ids = [one.conversation_id for one in report.conversations if one.conversation_id]
    titles: dict[ConversationId | None, str]
    some = person.store.conversations.some(ids)
    titles = {one.id: conversation_menu.plain_title(one) for one in some}
    chats = [
        (titles[one.conversation_id], [one])
        for one in report.conversations
        if one.conversation_id in titles
    ]
    untitled = [one for one in report.conversations if one.conversation_id not in titles]
    if rest := [one for one in untitled if one.is_rest]:
        chats.append((_REST, rest))
    if deleted := [one for one in untitled if not one.is_rest]:
        chats.append((_DELETED, deleted))
    purposes = [(_PURPOSES[one.purpose], [one]) for one in report.purposes]
    with st.container(gap="large"):
        _draw_sums("Chat", words.MESSAGES, attrgetter("replies"), "usage-table", chats)
        _draw_sums("By purpose", "Requests", attrgetter("turns"), "purposes-table", purposes)


def _draw_sums(
    noun: str,
    counted: str,
    count: Callable[[UsageSum], int],
    key: str,
    named: Iterable[tuple[str, Sequence[UsageSum]]],
) -> None:
    rows: list[dict[str, object]] = []
    for name, parts in named:
        cost = sum(one.cost_micro for one in parts) / words.MILLION
        number = sum(count(one) for one in parts)
        rows.append({noun: name, words.COST: cost, counted: number, **usage_chart.tokens(parts)})
    columns = {noun: st.column_config.TextColumn(width=200)}
    tables.draw(rows, key, f"Cost and tokens by {noun.lower()}", columns=columns)


with frame.page() as person:
    frame.draw_heading(words.USAGE, "What your messages, titles, summaries and memories cost.")
    _draw_limits(person.account)
    if days := usage_chart.choose_days():
        _draw_usage(person, days)
    if changes := person.store.usage.account_changes():
        st.subheader("Changes to your account", anchor=False)
        audit_table.draw(changes, names_users=False)
