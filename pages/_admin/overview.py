"""The overview tab: active users, messages, tokens and costs of the deployment, and times to the first token."""

import streamlit as st

from pages._parts import usage_chart, words
from pages._parts.elements import GridRow, draw_grid, draw_metrics
from services.bootstrap import UserServices
from services.domain import UserId
from services.domain.accounts import DeploymentSettings
from services.domain.usage import UsageReport
from services.errors import Cap


def draw(admin: UserServices) -> None:
    """Draw the costs of today and this month, and the usage of all users."""
    _draw_costs(admin.administration.deployment())
    draw_usage(admin)


def draw_usage(admin: UserServices, user_id: UserId | None = None) -> None:
    """Draw the usage of all users or of one: the last 7 and 30 days, and a chart of the days that the admin chooses."""
    figures = st.container(key="usage-figures")
    chosen = usage_chart.choose_days()
    spans = usage_chart.presets()
    if chosen and chosen not in spans.values():
        spans |= {words.span(*chosen): chosen}
    reports = {label: admin.administration.usage(days, user_id) for label, days in spans.items()}
    columns = [_figures(report, has_users=not user_id) for report in reports.values()]
    with figures:
        rows = (GridRow(label, [each[label] for each in columns]) for label in columns[0])
        draw_grid("Figures", list(reports), rows)
    if not chosen:
        return
    usage = reports[next(label for label, days in spans.items() if days == chosen)]
    folder = f"/export/users/{user_id}" if user_id else "/export/users"
    usage_chart.draw(usage.days, chosen, f"{folder}/usage.csv")


def _figures(usage: UsageReport, *, has_users: bool) -> dict[str, str]:
    counts = {"Active users": usage.active_users} if has_users else {}
    counts[words.MESSAGES] = sum(one.replies for one in usage.days)
    counts |= usage_chart.tokens(usage.days)
    counts |= {"Failed replies": usage.failed, "Interrupted replies": usage.interrupted}
    return {
        words.COST: words.cents(sum(one.cost_micro for one in usage.days)),
        **{label: words.number(value) for label, value in counts.items()},
        "Time to first token (median)": words.seconds(usage.first_token_ms),
        "Time to first token (95th percentile)": words.seconds(usage.first_token_p95_ms),
    }


def _draw_costs(settings: DeploymentSettings) -> None:
    most = settings.monthly_cap_micro
    of = f" of {words.cents(most)}" if most is not None else ""
    draw_metrics(
        {
            words.COST_TODAY: words.cents(settings.spent_today_micro),
            words.COST_THIS_MONTH: words.cents(settings.spent_this_month_micro) + of,
        }
    )
    if of:
        st.caption(f"{words.resets(Cap.DEPLOYMENT)}.")
