"""The usage page: what a user has spent against the limits, by day and model, by chat, and by purpose."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, cast

import altair as alt
import pandas as pd  # pyright: ignore[reportMissingTypeStubs]
import streamlit as st

from pages._parts import sidebar, turns, words
from pages._parts.elements import download_form, row
from pages._session import callbacks, open_dialog, person_services, show_errors
from services.bootstrap import PersonServices
from services.domain import Purpose
from services.domain.accounts import Account
from services.domain.usage import DayUsage, UsageReport, UsageSum

_FIRST_DAYS = 30
_MOST_DAYS = 366
_PURPOSES = {
    Purpose.REPLY: "Replies",
    Purpose.TITLE: "Titles",
    Purpose.SUMMARY: "Summaries",
    Purpose.FACTS: "Memories",
}
_DELETED = "Deleted and temporary chats"
_COST, _MESSAGES, _TOKENS = "Cost", "Messages", "Tokens"
_FIGURES: Mapping[str, Callable[[UsageSum], float]] = {
    _COST: lambda sums: sums.cost_micro / words.MILLION,
    _MESSAGES: lambda sums: sums.turns,
    _TOKENS: lambda sums: sums.tokens_in + sums.tokens_out,
}
_FORMATS = {_COST: "$.4~f", _MESSAGES: ",d", _TOKENS: ",d"}  # d3-format


def _draw_limits(account: Account) -> None:
    with row("limits"):
        for limit in account.limits:
            with st.container(gap="xxsmall", width=300):
                label = f"**{words.LIMITS[limit.cap]}** {words.used_of(limit)}"
                st.progress(limit.share, label)
                st.caption(f"{words.resets(limit.cap)}.")


def _choose_days() -> tuple[date, date] | None:
    """Draw the field of the days; return None until both are chosen."""
    today = datetime.now(UTC).date()
    chosen = st.date_input(
        "Days (UTC)",
        (today - timedelta(days=_FIRST_DAYS - 1), today),
        max_value=today,
        key="usage-days",
        width=240,
    )
    if len(chosen) != 2:
        st.caption("Choose the last day, too.")
        return None
    if (chosen[1] - chosen[0]).days > _MOST_DAYS:
        st.caption("Choose a year at most.")
        return None
    return chosen


def _draw_chart(usage: Sequence[DayUsage], days: tuple[date, date], figure: str) -> None:
    rows = [
        {"day": one.day.isoformat(), "model": one.model, "value": _FIGURES[figure](one)}
        for one in usage
    ]
    ends = [days[0].isoformat(), (days[1] + timedelta(days=1)).isoformat()]
    day = alt.X(
        "utcyearmonthdate(day):T",
        title=None,
        scale=alt.Scale(type="utc", domain=ends),
        axis=alt.Axis(format="%-d %b", labelOverlap=True),
    )
    value = alt.Y("value:Q", title=None, axis=alt.Axis(format=_FORMATS[figure], tickCount=5))
    model = alt.Color("model:N", title=None, legend=alt.Legend(orient="top"))
    hints = [
        alt.Tooltip("utcyearmonthdate(day):T", title="Day"),
        alt.Tooltip("model:N", title=words.MODEL),
        alt.Tooltip("value:Q", title=figure, format=_FORMATS[figure]),
    ]
    chart = alt.Chart(alt.Data(values=rows), height=260).mark_bar()
    with st.container(key="usage-chart"):
        cast(Any, st).altair_chart(chart.encode(x=day, y=value, color=model, tooltip=hints))


def _draw_sums(person: PersonServices, report: UsageReport) -> None:
    ids = [one.conversation_id for one in report.conversations if one.conversation_id]
    titles = {one.id: one.title for one in person.store.conversations.some(ids)}
    with st.container(key="usage-table", gap="large"):
        _draw_table(
            "Chat",
            [
                (
                    titles.get(one.conversation_id, _DELETED) if one.conversation_id else _DELETED,
                    one,
                )
                for one in report.conversations
            ],
        )
        _draw_table("Used for", [(_PURPOSES[one.purpose], one) for one in report.purposes])


def _draw_table(noun: str, sums: Sequence[tuple[str, UsageSum]]) -> None:
    table = pd.DataFrame(
        {
            noun: name,
            "Cost": one.cost_micro / words.MILLION,
            "Messages" if noun == "Chat" else "Requests": one.turns,
            words.INPUT_TOKENS: one.tokens_in,
            "Cached": one.tokens_cached,
            words.OUTPUT_TOKENS: one.tokens_out,
        }
        for name, one in sums
    )
    numbers = ("Messages", "Requests", words.INPUT_TOKENS, "Cached", words.OUTPUT_TOKENS)
    written = dict.fromkeys(numbers, words.number) | {"Cost": words.dollars_of}
    cast(Any, st).dataframe(  # its types are those of pandas, which are partly unknown
        cast(Any, table).style.format({name: written[name] for name in table.columns[1:]}),
        hide_index=True,
        row_height=38,
        column_config={noun: st.column_config.TextColumn(width=200)},
        alt=f"Cost and tokens by {noun.lower()}",
    )


def _draw_usage(person: PersonServices) -> None:
    with st.container(gap=2):
        st.title(words.USAGE, anchor=False)
        st.markdown(":gray[What your messages, titles, summaries and memories cost.]")
    _draw_limits(person.account)
    days = _choose_days()
    if days is None:
        return
    report = person.store.usage.report(*days)
    if not report.days:
        st.info("Nothing was used on these days.")
        return
    is_free = not any(one.cost_micro for one in report.days)
    with row("usage-options"):
        figure = st.segmented_control(
            "Show",
            list(_FIGURES),
            default=_TOKENS if is_free else _COST,
            required=True,
            key="usage-figure",
            label_visibility="collapsed",
        )
        ends = {"first": days[0].isoformat(), "last": days[1].isoformat()}
        st.html(download_form("/export/usage.csv", "Download CSV", ends), width="content")
    _draw_chart(report.days, days, figure)
    _draw_sums(person, report)


person = person_services()
sidebar.draw_top()
with show_errors():
    _draw_usage(person)
said = turns.draw_refusals(has_composer=False)
open_dialog()
sidebar.draw_rest(person)
callbacks().forget(said)
