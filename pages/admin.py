"""People and spending, for admins: counts and sums, never content."""

from typing import Any, cast

import pandas as pd  # pyright: ignore[reportMissingTypeStubs]
import streamlit as st

from pages._parts import dialogs, sidebar, turns, words
from pages._session import callbacks, lead_to, person_services, show_errors
from services.bootstrap import PersonServices
from services.domain import AccountRole, PersonUsage

_MILLION = 1_000_000
_COLUMNS = {
    "Person": st.column_config.TextColumn(width=190, pinned=True),
    "Last active": st.column_config.DatetimeColumn(),
}


def _dollars(amount: float) -> str:
    return words.dollars(round(amount * _MILLION))


# as they are written; they are sorted as what they are
_WRITTEN = (
    dict.fromkeys(("Turns today", "Turns this month", "Tokens in", "Tokens out"), words.number)
    | dict.fromkeys(("Cost today", "Daily cap", "Cost this month", "Monthly cap"), _dollars)
    | {"Last active": words.moment}
)


def row(person: PersonUsage) -> dict[str, object]:
    return {
        "Person": person.email,
        "Role": "Suspended" if person.is_suspended else person.role.value.capitalize(),
        "Turns today": person.turns_today,
        "Cost today": person.cost_today_micro / _MILLION,
        "Daily cap": person.daily_cap_micro / _MILLION,
        "Turns this month": person.turns_this_month,
        "Tokens in": person.tokens_in_this_month,
        "Tokens out": person.tokens_out_this_month,
        "Cost this month": person.cost_this_month_micro / _MILLION,
        "Monthly cap": person.monthly_cap_micro / _MILLION,
        "Last active": person.last_active_at,
    }


def _draw_usage(person: PersonServices) -> None:
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


def _draw_refusal() -> None:
    with st.container(key="admins-only", horizontal_alignment="center", gap="xsmall"):
        st.space(120)
        st.title("Admins only", anchor=False, text_alignment="center")
        st.markdown(":gray[Your account cannot open this page.]", text_alignment="center")
        st.button("Back to your chats", key="way-out", on_click=lead_to, args=[None])


person = person_services()
sidebar.draw_top()
with show_errors():
    if person.account.role is AccountRole.ADMIN:  # asked before anything else is
        _draw_usage(person)
    else:
        _draw_refusal()
said = turns.draw_refusals(has_composer=False)
dialogs.open_asked()
sidebar.draw_rest(person)
callbacks().forget(said)
