"""The tab of users: their usage, limits and roles."""

from typing import Any, cast

import pandas as pd  # pyright: ignore[reportMissingTypeStubs]
import streamlit as st

from pages._parts import safe_md, words
from pages._parts.elements import quiet_button, row
from pages._session import attempt, find_person
from services.bootstrap import PersonServices
from services.domain import AccountRole, UserId
from services.domain.accounts import Limits, PeopleOrder, PeoplePage, UserUsage

_ORDERS = {
    PeopleOrder.COST: words.COST_THIS_MONTH,
    PeopleOrder.ACTIVE: words.LAST_ACTIVE,
    PeopleOrder.TURNS: words.MESSAGES_THIS_MONTH,
    PeopleOrder.TOKENS: "Tokens this month",
    PeopleOrder.EMAIL: "E-mail address",
}
_COLUMNS = {
    "User": st.column_config.TextColumn(width=190, pinned=True),
    words.LAST_ACTIVE: st.column_config.DatetimeColumn(),
}
_NUMBERS = (
    "Messages today",
    words.MESSAGES_THIS_MONTH,
    words.INPUT_TOKENS,
    words.OUTPUT_TOKENS,
    "Chats",
)
_AMOUNTS = ("Cost today", words.DAILY_LIMIT, words.COST_THIS_MONTH, words.MONTHLY_LIMIT)
# as they are written; they are sorted as what they are
_WRITTEN = (
    dict.fromkeys(_NUMBERS, words.number)
    | dict.fromkeys(_AMOUNTS, words.dollars_of)
    | {words.LAST_ACTIVE: words.moment}
)
_PAGE = 100


def table_row(user: UserUsage) -> dict[str, object]:
    return {
        "User": user.email,
        "Role": "Suspended" if user.is_suspended else user.role.value.capitalize(),
        "Messages today": user.turns_today,
        "Cost today": user.cost_today_micro / words.MILLION,
        words.DAILY_LIMIT: user.daily_cap_micro / words.MILLION,
        words.MESSAGES_THIS_MONTH: user.turns_this_month,
        words.INPUT_TOKENS: user.tokens_in_this_month,
        words.OUTPUT_TOKENS: user.tokens_out_this_month,
        words.COST_THIS_MONTH: user.cost_this_month_micro / words.MILLION,
        words.MONTHLY_LIMIT: user.monthly_cap_micro / words.MILLION,
        "Chats": user.conversations,
        words.LAST_ACTIVE: user.last_active_at,
    }


def draw(person: PersonServices) -> None:
    """Draw the list of users, and the limits and the role of a chosen one."""
    with row("people-search"):
        sought = st.text_input("Search users", key="people-words", width=260, on_change=_turn_to)
        order = st.selectbox(
            "Sort by", _ORDERS, format_func=_ORDERS.__getitem__, width=220, on_change=_turn_to
        )
    skip = int(st.session_state.get("people-skip", 0))
    is_descending = order is not PeopleOrder.EMAIL
    page = person.administration.people(sought, order, is_descending=is_descending, skip=skip)
    if skip and not page.people:  # the last of that page are gone
        _turn_to()
        st.rerun()
    if not page.people:
        st.info("No users found.")
        return
    with st.container(key="usage-table"):
        table = pd.DataFrame([table_row(user) for user in page.people])
        cast(Any, st).dataframe(  # its types are those of pandas, which are partly unknown
            cast(Any, table).style.format(_WRITTEN, na_rep="never"),
            hide_index=True,
            row_height=38,
            column_config=_COLUMNS,
            alt="Usage and limits of each user, today and this month",
        )
    _draw_pager(page, skip)
    users = {user.user_id: user for user in page.people}
    chosen = st.selectbox(
        "Limits and role of",
        users,
        index=None,
        format_func=lambda user_id: users[user_id].email,
        placeholder="Choose a user",
        key="chosen-user",
        width=360,
    )
    if chosen:
        _draw_user(users[chosen])


def _draw_pager(page: PeoplePage, skip: int) -> None:
    if page.total <= _PAGE:
        return
    with row("people-pages"):
        last = skip + len(page.people)
        span = f"{words.number(skip + 1)}\N{EN DASH}{words.number(last)}"
        st.caption(f"{span} of {words.number(page.total)}", width="content")
        if skip:
            quiet_button("Previous page", "chevron_left", "previous-people", _turn_to, skip - _PAGE)
        if last < page.total:
            quiet_button("Next page", "chevron_right", "next-people", _turn_to, last)


def _turn_to(skip: int = 0) -> None:
    st.session_state["people-skip"] = skip


def _draw_user(user: UserUsage) -> None:
    with st.form("budget-form"):
        with row(gap="small"):
            day, month = user.daily_cap_micro, user.monthly_cap_micro
            _draw_limit("day", f"{words.DAILY_LIMIT} ($)", day / words.MILLION, 1e6, user)
            _draw_limit("month", f"{words.MONTHLY_LIMIT} ($)", month / words.MILLION, 1e6, user)
            _draw_limit(
                "tokens", "Tokens a day", user.daily_cap_tokens, 10**12, user, is_optional=True
            )
            _draw_limit("pace", "Messages a minute", user.max_per_minute, 10**6, user)
            _draw_limit("open", "Replies at once", user.max_open, 1000, user)
        st.form_submit_button(
            words.SAVE, type="primary", on_click=attempt, args=[_set_limits, user]
        )
    is_admin = user.role is AccountRole.ADMIN
    with row("user-actions"):
        role = AccountRole.USER if is_admin else AccountRole.ADMIN
        label = "Remove admin role" if is_admin else "Make admin"
        quiet_button(label, "shield_person", "set-role", _set_role, user.user_id, role)
        label = "Restore access" if user.is_suspended else "Suspend"
        tip = "Signs the user out everywhere and stops replies. Nothing is deleted."
        quiet_button(
            label, "block", "suspend", _suspend, user.user_id, not user.is_suspended, tip=tip
        )


def _draw_limit(
    name: str,
    label: str,
    value: float | None,
    most: float,
    user: UserUsage,
    *,
    is_optional: bool = False,
) -> None:
    key = _key(name, user)
    if is_optional:  # a field with a value of its own cannot be emptied
        st.session_state.setdefault(key, value)
        value = None
    none = type(most)(0)
    hint = "No limit" if is_optional else None
    st.number_input(label, none, most, value, placeholder=hint, key=key, width=170)


def _key(name: str, user: UserUsage) -> str:
    """The key of a field; another once the stored limits are others, which the fields then show."""
    limits = user.daily_cap_micro, user.monthly_cap_micro, user.daily_cap_tokens
    return f"{name}-{user.user_id}-{hash((*limits, user.max_open, user.max_per_minute))}"


def _set_limits(user: UserUsage) -> None:
    def entered(name: str) -> float | None:
        value: float | None = st.session_state[_key(name, user)]
        return value

    tokens = entered("tokens")
    find_person().administration.set_limits(
        user.user_id,
        Limits(
            daily_cap_micro=round((entered("day") or 0) * words.MILLION),
            monthly_cap_micro=round((entered("month") or 0) * words.MILLION),
            daily_cap_tokens=None if tokens is None else int(tokens),
            max_open=int(entered("open") or 0),
            max_per_minute=int(entered("pace") or 0),
        ),
    )
    st.toast(f"Limits of {safe_md.label(user.email)} saved.")


def _set_role(user_id: UserId, role: AccountRole) -> None:
    find_person().administration.set_role(user_id, role)


def _suspend(user_id: UserId, is_suspended: bool) -> None:
    find_person().administration.suspend(user_id, is_suspended=is_suspended)
