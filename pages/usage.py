"""The usage page: a user's spending against the limits, by day and model, by chat, and by purpose."""

from collections.abc import Sequence
from datetime import date

import streamlit as st

from pages._parts import budget, conversation_menu, frame, safe_md, usage_chart, words
from pages._parts.elements import GridRow, draw_grid, row
from services.bootstrap import UserServices
from services.domain import ConversationId, Purpose
from services.domain.accounts import Account
from services.domain.models import ModelInfo, PriceSource
from services.domain.usage import UsageReport, UsageSum

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


def _draw_usage(user: UserServices, days: tuple[date, date]) -> None:
    report = user.usage.report(*days)
    if not report.days:
        st.info("Nothing was used on these days.")
        return
    usage_chart.draw(report.days, days, "/export/usage.csv")
    ids = [one.conversation_id for one in report.conversations if one.conversation_id]
    titles: dict[ConversationId | None, str]
    some = user.conversations.some(ids)
    titles = {one.id: conversation_menu.plain_title(one) for one in some}
    chats = [
        _sums(titles[one.conversation_id], [one], one.replies, f"/?c={one.conversation_id}")
        for one in report.conversations
        if one.conversation_id in titles
    ]
    untitled = [one for one in report.conversations if one.conversation_id not in titles]
    for label, is_rest in ((_REST, True), (_DELETED, False)):
        if parts := [one for one in untitled if one.is_rest is is_rest]:
            chats.append(_sums(label, parts, sum(one.replies for one in parts)))
    purposes = [
        _sums(_PURPOSES.get(one.purpose, words.NEWER), [one], one.turns) for one in report.purposes
    ]
    tokens = list(usage_chart.tokens([]))
    with st.container(key="usage-table"):
        st.header("By chat", anchor=False)
        draw_grid("Chat", [words.COST, words.MESSAGES, *tokens], chats)
    with st.container(key="purposes-table"):
        st.header("By purpose", anchor=False)
        draw_grid("Purpose", [words.COST, "Requests", *tokens], purposes)
    infos = [offer.info for offer in user.offers.every()]
    if free := _free_models(report, infos):
        st.caption(r"Why a cost is \$0.00: " + " ".join(free))


def _sums(label: str, parts: Sequence[UsageSum], count: int, link: str = "") -> GridRow:
    """Return the table row that sums up *parts*; a cost of zero is followed by its reason, such as `(free)`."""
    cost, tokens = sum(one.cost_micro for one in parts), usage_chart.tokens(parts)
    written = words.dollars(cost)
    if not cost:
        written += " (free)" if any(tokens.values()) else " (no tokens)"
    return GridRow(label, [written, words.number(count), *map(words.number, tokens.values())], link)


def _free_models(report: UsageReport, infos: Sequence[ModelInfo]) -> list[str]:
    """Return the reasons why used models cost nothing: a sentence for each such model, as Markdown."""
    every = {info.name: info for info in infos}
    said: list[str] = []
    for name in dict.fromkeys(one.model for one in report.days):
        days = [one for one in report.days if one.model == name]
        if not any(one.cost_micro for one in days) and any(one.tokens_in for one in days):
            said.append(f"{safe_md.label(name)} {_why_free(every.get(name))}.")
    return said


def _why_free(info: ModelInfo | None) -> str:
    if info is None or info.price_source is PriceSource.UNKNOWN:
        return "has no known price and counts as free"
    if info.price_source is PriceSource.LOCAL:
        return "runs on this server and is free"
    if info.input_micro or info.output_micro:
        return "had no price when it was used"
    return "has a price of zero"


with frame.page() as user:
    frame.draw_heading(words.USAGE, "What your messages, titles, summaries and memories cost.")
    _draw_limits(user.account)
    if days := usage_chart.choose_days():
        _draw_usage(user, days)
