"""The chart of usage by day and model: the field of its days, the choice of its figure, and its numbers as a file."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, cast

import altair as alt
import streamlit as st

from pages._parts import words
from pages._parts.elements import draw_download, row
from services.domain.usage import DayUsage, UsageSum

_FIRST_DAYS = 30
_DAYS_OF_A_YEAR = 365
_TOKENS = "Tokens"
_FIGURES: Mapping[str, Callable[[DayUsage], float]] = {
    words.COST: lambda sums: sums.cost_micro / words.MILLION,
    words.MESSAGES: lambda sums: sums.replies,
    _TOKENS: lambda sums: sums.tokens_in + sums.tokens_out,
}


def tokens(parts: Sequence[UsageSum]) -> dict[str, int]:
    """Return the tokens of *parts* together, by their labels."""
    return {
        words.INPUT_TOKENS: sum(one.tokens_in for one in parts),
        "Cached": sum(one.tokens_cached for one in parts),
        words.OUTPUT_TOKENS: sum(one.tokens_out for one in parts),
    }


def choose_days() -> tuple[date, date] | None:
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
    return chosen


def draw(usage: Sequence[DayUsage], days: tuple[date, date], file: str) -> None:
    """Draw *usage* by the figure that the reader chooses, and a button that downloads *file* of these *days*."""
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


def _draw_bars(usage: Sequence[DayUsage], days: tuple[date, date], figure: str) -> None:
    rows = [
        {"day": one.day.isoformat(), "model": one.model, "value": _FIGURES[figure](one)}
        for one in usage
    ]
    form = "$.6~f" if figure == words.COST else ",d"  # d3-format
    is_long = (days[1] - days[0]).days > _DAYS_OF_A_YEAR
    ends = [days[0].isoformat(), (days[1] + timedelta(days=1)).isoformat()]
    day = alt.X(
        "utcyearmonthdate(day):T",
        title=None,
        scale=alt.Scale(type="utc", domain=ends),
        axis=alt.Axis(format="%b %Y" if is_long else "%-d %b", labelOverlap=True),
    )
    value = alt.Y("value:Q", title=None, axis=alt.Axis(format=form, tickCount=5))
    model = alt.Color("model:N", title=None, legend=alt.Legend(orient="top", columns=2))
    hints = [
        alt.Tooltip("utcyearmonthdate(day):T", title="Day"),
        alt.Tooltip("model:N", title=words.MODEL),
        alt.Tooltip("value:Q", title=figure, format=form),
    ]
    chart = alt.Chart(alt.Data(values=rows), height=260).mark_bar()
    with st.container(key="usage-chart"):
        cast(Any, st).altair_chart(chart.encode(x=day, y=value, color=model, tooltip=hints))
