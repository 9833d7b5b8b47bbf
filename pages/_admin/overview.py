"""The tab of the overview: users, messages, tokens and cost of all users, and the waits for a first token."""

from datetime import date

import streamlit as st

from pages._parts import usage_chart, words
from pages._parts.elements import row
from services.bootstrap import PersonServices
from services.domain import UserId
from services.domain.accounts import DeploymentSettings
from services.domain.usage import TotalUsage


def draw(person: PersonServices) -> None:
    """Draw the costs of this month, and the usage of all users on the days that the admin chooses."""
    _draw_costs(person.administration.deployment())
    if days := usage_chart.choose_days():
        draw_usage(person, days)


def draw_usage(
    person: PersonServices, days: tuple[date, date], user_id: UserId | None = None
) -> None:
    """Draw the numbers and the chart of *days*, of all users or of one."""
    usage = person.administration.usage(days, user_id)
    if not usage.days:
        st.info("Nothing was used on these days.")
        return
    _draw_numbers(usage, is_of_all=user_id is None)
    folder = f"/export/users/{user_id}" if user_id else "/export/users"
    usage_chart.draw(usage.days, days, f"{folder}/usage.csv")


def _draw_costs(settings: DeploymentSettings) -> None:
    with row("costs"):
        st.metric(words.COST_TODAY, words.dollars(settings.spent_today_micro), width="content")
        spent, most = settings.spent_this_month_micro, settings.monthly_cap_micro
        of = f" of {words.dollars(most)}" if most is not None else ""
        st.metric(words.COST_THIS_MONTH, words.dollars(spent) + of, width="content")


def _draw_numbers(usage: TotalUsage, *, is_of_all: bool) -> None:
    numbers = {
        words.MESSAGES: sum(one.turns for one in usage.days),
        words.INPUT_TOKENS: sum(one.tokens_in for one in usage.days),
        "Cached": sum(one.tokens_cached for one in usage.days),
        words.OUTPUT_TOKENS: sum(one.tokens_out for one in usage.days),
        "Failed": usage.failed,
        "Interrupted": usage.interrupted,
    }
    if is_of_all:
        numbers = {"Active users": usage.active_users} | numbers
    waits = {
        "First token, median": usage.first_token_ms,
        "First token, slowest 5 %": usage.first_token_p95_ms,
    }
    with row("numbers"):
        for label, value in numbers.items():
            st.metric(label, words.number(value), width="content")
        for label, ms in waits.items():
            st.metric(label, "none" if ms is None else words.milliseconds(ms), width="content")
