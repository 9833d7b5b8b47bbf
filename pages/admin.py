"""People and spending, for admins: counts and sums, never content."""

from typing import Any, cast

import pandas as pd  # pyright: ignore[reportMissingTypeStubs]
import streamlit as st

from pages._parts import dialogs, sidebar, turns, words
from pages._session import forget_errors, person_services, show_errors
from services.domain import AccountRole, PersonUsage
from services.errors import NotFound

_MILLION = 1_000_000
_COLUMNS = {
    "person": st.column_config.TextColumn("Person", width=190, pinned=True),
    "role": st.column_config.TextColumn("Role"),
    "turns_today": st.column_config.NumberColumn("Turns today"),
    "cost_today": st.column_config.NumberColumn("Cost today"),
    "daily_cap": st.column_config.NumberColumn("Daily cap"),
    "turns": st.column_config.NumberColumn("Turns this month"),
    "tokens_in": st.column_config.NumberColumn("Tokens in"),
    "tokens_out": st.column_config.NumberColumn("Tokens out"),
    "cost": st.column_config.NumberColumn("Cost this month"),
    "monthly_cap": st.column_config.NumberColumn("Monthly cap"),
    "last_active": st.column_config.DatetimeColumn("Last active"),
}


def _dollars(amount: float) -> str:
    return words.dollars(round(amount * _MILLION))


# as they are written; they are sorted as what they are
_WRITTEN = (
    dict.fromkeys(("turns_today", "turns", "tokens_in", "tokens_out"), words.number)
    | dict.fromkeys(("cost_today", "daily_cap", "cost", "monthly_cap"), _dollars)
    | {"last_active": words.moment}
)


def row(person: PersonUsage) -> dict[str, object]:
    return {
        "person": person.email,
        "role": "Suspended" if person.is_suspended else person.role.value.capitalize(),
        "turns_today": person.turns_today,
        "cost_today": person.cost_today_micro / _MILLION,
        "daily_cap": person.daily_cap_micro / _MILLION,
        "turns": person.turns_this_month,
        "tokens_in": person.tokens_in_this_month,
        "tokens_out": person.tokens_out_this_month,
        "cost": person.cost_this_month_micro / _MILLION,
        "monthly_cap": person.monthly_cap_micro / _MILLION,
        "last_active": person.last_active_at,
    }


person = person_services()
sidebar.draw_top()
with show_errors():
    if person.account.role is not AccountRole.ADMIN:  # asked before anything else is
        raise NotFound
    st.set_page_config(layout="wide")
    with st.container(gap=2):
        st.title("People and spending", anchor=False)
        st.markdown(":gray[Counts and sums only. Content is sealed, for admins too.]")
    with st.container(key="usage-table"):
        people = pd.DataFrame([row(usage) for usage in person.usage.by_person()])
        cast(Any, st).dataframe(  # its types are those of pandas, which are partly unknown
            cast(Any, people).style.format(_WRITTEN, na_rep="never"),
            hide_index=True,
            row_height=38,
            column_config=_COLUMNS,
            alt="What each person used today and this month, and their caps",
        )
said = turns.draw_refusals(has_composer=False)
dialogs.open_asked()
sidebar.draw_rest(person)
forget_errors(said)
