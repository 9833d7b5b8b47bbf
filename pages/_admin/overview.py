"""The tab of the overview: users, messages, tokens and cost of all users, and the waits for a first token."""

from datetime import date

import streamlit as st

from pages._parts import usage_chart, words
from pages._parts.elements import draw_metrics
from services.bootstrap import PersonServices
from services.domain import UserId
from services.domain.accounts import DeploymentSettings
from services.errors import Cap


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
    active = {} if user_id else {"Active users": usage.active_users}
    messages = {words.MESSAGES: sum(one.replies for one in usage.days)}
    counts = active | messages | usage_chart.tokens(usage.days)
    draw_metrics({label: words.number(value) for label, value in counts.items()})
    draw_metrics(
        {
            "Failed replies": words.number(usage.failed),
            "Interrupted replies": words.number(usage.interrupted),
            "Time to first token (median)": words.milliseconds(usage.first_token_ms),
            "Time to first token (95th percentile)": words.milliseconds(usage.first_token_p95_ms),
        }
    )
    folder = f"/export/users/{user_id}" if user_id else "/export/users"
    usage_chart.draw(usage.days, days, f"{folder}/usage.csv")


def _draw_costs(settings: DeploymentSettings) -> None:
    most = settings.monthly_cap_micro
    of = f" of {words.dollars(most)}" if most is not None else ""
    draw_metrics(
        {
            words.COST_TODAY: words.dollars(settings.spent_today_micro),
            words.COST_THIS_MONTH: words.dollars(settings.spent_this_month_micro) + of,
        }
    )
    if of:
        st.caption(f"{words.resets(Cap.DEPLOYMENT)}.")
