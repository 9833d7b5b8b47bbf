"""The chart of usage by day and model: the fields for its date range and figure, its bars, and a download of its data."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, cast

import altair as alt
import streamlit as st

from pages._parts import words
from pages._parts.elements import draw_download, row
from services.domain.usage import DayUsage, UsageSum
from services.errors import Cap

_PRESETS = 7, 30
_DAYS_OF_A_YEAR = 365
_LEGEND = 48  # characters of model names that fit in a row on a phone
Days = tuple[date, date]
_TOKENS = "Tokens"
_FIGURES: Mapping[str, Callable[[DayUsage], float]] = {
    words.COST: lambda sums: sums.cost_micro / words.MILLION,
    words.MESSAGES: lambda sums: sums.replies,
    _TOKENS: lambda sums: sums.tokens_in + sums.tokens_out,
}


def tokens(parts: Sequence[UsageSum]) -> dict[str, int]:
    """Return the total input, cached and output tokens of *parts*, keyed by label."""
    return {
        words.INPUT_TOKENS: sum(one.tokens_in for one in parts),
        "Cached input tokens": sum(one.tokens_cached for one in parts),
        words.OUTPUT_TOKENS: sum(one.tokens_out for one in parts),
    }


def presets() -> dict[str, Days]:
    """Return the date ranges of the last 7 and the last 30 days, keyed by label."""
    today = datetime.now(UTC).date()
    return {f"{count} days": (today - timedelta(days=count - 1), today) for count in _PRESETS}


def days_begin() -> str:
    """Return a sentence that gives the time when a day of usage begins: midnight UTC, in the reader's time zone."""
    return f"Days begin {words.reset_time(Cap.DAILY)}, your time."


def choose_days() -> Days | None:
    """Draw the fields for a range of days; return the range, or None until both ends are chosen."""
    spans, other = presets(), "Other days"
    *_, usual = spans
    with row("usage-days-row"):
        chosen = st.segmented_control(
            "Period",
            [*spans, other],
            default=usual,
            required=True,
            key="usage-span",
            label_visibility="collapsed",
        )
        days: tuple[date, ...] = spans.get(chosen, ())
        if not days:
            days = st.date_input(
                "First and last day",
                spans[usual],
                max_value=spans[usual][1],
                format=words.date_field(),
                key="usage-days",
                label_visibility="collapsed",
                width=240,
            )
        if len(days) == 2:
            st.caption(f"{words.in_markdown(words.span(*days))} · {days_begin()}")
    if len(days) != 2:
        st.caption("Choose the last day, too.")
        return None
    return days


def draw(usage: Sequence[DayUsage], days: Days, file: str) -> None:
    """Draw *usage* as a chart of the figure that the reader chooses, and a button that downloads *file* for *days*."""
    is_free = not any(one.cost_micro for one in usage)
    with row("usage-options"):
        figure = st.segmented_control(
            "Show",
            list(_FIGURES),
            default=_TOKENS if is_free else words.COST,
            required=True,
            key="usage-figure",
            label_visibility="collapsed",
        )
        draw_download(file, first=days[0].isoformat(), last=days[1].isoformat())
    _draw_bars(usage, days, figure)


def _label(days: Days, *, is_long: bool) -> str:
    """Return the Vega expression for a label below the chart: a date in the same format as on the rest of the page."""
    if is_long:
        return "datum.label"
    count = (days[1] - days[0]).days + 2
    every = (days[0] + timedelta(days=number) for number in range(count))
    dates = {day.isoformat(): words.date_of(day) for day in every}
    return f"{json.dumps(dates)}[utcFormat(datum.value, '%Y-%m-%d')]"


def _draw_bars(usage: Sequence[DayUsage], days: Days, figure: str) -> None:
    rows = [
        {
            "day": one.day.isoformat(),
            "date": words.date_of(one.day),
            "model": one.model,
            "value": _FIGURES[figure](one),
        }
        for one in usage
    ]
    form = "$.6~f" if figure == words.COST else ",d"  # a number format of d3
    is_long = (days[1] - days[0]).days > _DAYS_OF_A_YEAR
    ends = [days[0].isoformat(), (days[1] + timedelta(days=1)).isoformat()]
    day = alt.X(
        "utcyearmonthdate(day):T",
        title=None,
        scale=alt.Scale(type="utc", domain=ends),
        axis=alt.Axis(format="%b %Y", labelExpr=_label(days, is_long=is_long), labelOverlap=True),
    )
    value = alt.Y("value:Q", title=None, axis=alt.Axis(format=form, tickCount=5))
    names = {one.model for one in usage}
    columns = 0 if sum(len(name) + 4 for name in names) <= _LEGEND else 2  # 0: all in one row
    model = alt.Color("model:N", title=None, legend=alt.Legend(orient="top", columns=columns))
    hints = [
        alt.Tooltip("date:N", title="Day"),
        alt.Tooltip("model:N", title=words.MODEL),
        alt.Tooltip("value:Q", title=figure, format=form),
    ]
    chart = alt.Chart(alt.Data(values=rows), height=260).mark_bar()
    with st.container(key="usage-chart"):
        cast(Any, st).altair_chart(chart.encode(x=day, y=value, color=model, tooltip=hints))
