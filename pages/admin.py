"""Users and usage, for admins: counts and sums, never content."""

from typing import Any, cast

import pandas as pd  # pyright: ignore[reportMissingTypeStubs]
import streamlit as st

from pages._parts import sidebar, turns, words
from pages._parts.elements import empty_page
from pages._session import callbacks, go_to_conversation, open_dialog, person_services, show_errors
from services.bootstrap import PersonServices
from services.domain import AccountRole
from services.domain.accounts import UserUsage

_COLUMNS = {
    "User": st.column_config.TextColumn(width=190, pinned=True),
    "Last active": st.column_config.DatetimeColumn(),
}


# as they are written; they are sorted as what they are
_WRITTEN = (
    dict.fromkeys(
        ("Messages today", "Messages this month", words.INPUT_TOKENS, words.OUTPUT_TOKENS),
        words.number,
    )
    | dict.fromkeys(
        ("Cost today", "Daily limit", "Cost this month", "Monthly limit"), words.dollars_of
    )
    | {"Last active": words.moment}
)


def row(person: UserUsage) -> dict[str, object]:
    return {
        "User": person.email,
        "Role": "Suspended" if person.is_suspended else person.role.value.capitalize(),
        "Messages today": person.turns_today,
        "Cost today": person.cost_today_micro / words.MILLION,
        "Daily limit": person.daily_cap_micro / words.MILLION,
        "Messages this month": person.turns_this_month,
        words.INPUT_TOKENS: person.tokens_in_this_month,
        words.OUTPUT_TOKENS: person.tokens_out_this_month,
        "Cost this month": person.cost_this_month_micro / words.MILLION,
        "Monthly limit": person.monthly_cap_micro / words.MILLION,
        "Last active": person.last_active_at,
    }


def _draw_usage(person: PersonServices) -> None:
    st.set_page_config(layout="wide")
    with st.container(gap=2):
        st.title("Users and usage", anchor=False)
        st.markdown(":gray[Totals only: admins cannot read chats.]")
    with st.container(key="usage-table"):
        people = pd.DataFrame([row(usage) for usage in person.usage.by_user()])
        cast(Any, st).dataframe(  # its types are those of pandas, which are partly unknown
            cast(Any, people).style.format(_WRITTEN, na_rep="never"),
            hide_index=True,
            row_height=38,
            column_config=_COLUMNS,
            alt="Usage and limits of each user, today and this month",
        )


def _draw_refusal() -> None:
    with empty_page("admins-only", "Admins only", "Your account cannot open this page."):
        st.button("Back to your chats", key="way-out", on_click=go_to_conversation, args=[None])


person = person_services()
sidebar.draw_top()
with show_errors():
    if person.account.role is AccountRole.ADMIN:  # asked before anything else is
        _draw_usage(person)
    else:
        _draw_refusal()
said = turns.draw_refusals(has_composer=False)
open_dialog()
sidebar.draw_rest(person)
callbacks().forget(said)
