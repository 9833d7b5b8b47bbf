"""The tab of users: their usage, limits and roles."""

from collections.abc import Sequence
from typing import Any, cast

import pandas as pd  # pyright: ignore[reportMissingTypeStubs]
import streamlit as st

from pages._admin import limit_fields, overview
from pages._parts import editing, safe_md, usage_chart, words
from pages._parts.elements import draw_download, quiet_button, row
from pages._session import ask_for, attempt, find_person, show_errors
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
    words.USER: st.column_config.TextColumn(width=190, pinned=True),
    words.LAST_ACTIVE: st.column_config.DatetimeColumn(),
}
_NUMBERS = (
    "Messages today",
    words.MESSAGES_THIS_MONTH,
    words.INPUT_TOKENS,
    words.OUTPUT_TOKENS,
    "Chats",
)
_AMOUNTS = (
    *(words.COST_TODAY, words.DAILY_LIMIT, "Left today"),
    *(words.COST_THIS_MONTH, words.MONTHLY_LIMIT, "Left this month"),
)
# as they are written; they are sorted as what they are
_WRITTEN = (
    dict.fromkeys(_NUMBERS, words.number)
    | dict.fromkeys(_AMOUNTS, words.dollars_of)
    | {words.LAST_ACTIVE: words.moment, "Stored": words.size}
)
_PAGE = 100


def table_row(user: UserUsage) -> dict[str, object]:
    today, this_month = user.cost_today_micro, user.cost_this_month_micro
    return {
        words.USER: user.email,
        "Role": "Suspended" if user.is_suspended else user.role.value.capitalize(),
        words.COST_TODAY: today / words.MILLION,
        words.DAILY_LIMIT: user.daily_cap_micro / words.MILLION,
        "Left today": max(0, user.daily_cap_micro - today) / words.MILLION,
        words.COST_THIS_MONTH: this_month / words.MILLION,
        words.MONTHLY_LIMIT: user.monthly_cap_micro / words.MILLION,
        "Left this month": max(0, user.monthly_cap_micro - this_month) / words.MILLION,
        "Messages today": user.turns_today,
        words.MESSAGES_THIS_MONTH: user.turns_this_month,
        words.INPUT_TOKENS: user.tokens_in_this_month,
        words.OUTPUT_TOKENS: user.tokens_out_this_month,
        "Chats": user.conversations,
        "Stored": user.bytes,
        words.LAST_ACTIVE: user.last_active_at,
    }


def draw(person: PersonServices) -> None:
    """Draw the list of users, and the limits and the role of a chosen one."""
    with row("people-search"):
        sought = st.text_input("Search users", key="people-words", width=260, on_change=_turn_to)
        order = st.selectbox(
            "Sort by", _ORDERS, format_func=_ORDERS.__getitem__, width=220, on_change=_turn_to
        )
        draw_download("/export/users.csv")
    skip = int(st.session_state.get("people-skip", 0))
    is_descending = order is not PeopleOrder.EMAIL
    page = person.administration.people(
        sought, order, is_descending=is_descending, skip=skip, at_most=_PAGE
    )
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
    chosen = st.multiselect(
        "Open users",
        users,
        format_func=lambda user_id: users[user_id].email,
        placeholder="Choose one or more users",
        key="chosen-users",
        width=520,
    )
    if len(chosen) == 1:
        _draw_user(person, users[chosen[0]])
    elif chosen:
        _draw_several([users[user_id] for user_id in chosen])


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


def _draw_user(person: PersonServices, user: UserUsage) -> None:
    if days := usage_chart.choose_days():
        overview.draw_usage(person, days, user.user_id)
    _draw_limits([user], user)
    is_admin = user.role is AccountRole.ADMIN
    with row("user-actions"):
        role = AccountRole.USER if is_admin else AccountRole.ADMIN
        label = "Remove admin role" if is_admin else "Make admin"
        quiet_button(label, "shield_person", "set-role", _set_role, user.user_id, role)
        _draw_suspend([user], is_suspended=not user.is_suspended)
        tip = "Ends all sessions and running replies. The user can sign in again."
        quiet_button("Sign out everywhere", "logout", "sign-out", _sign_out, user, tip=tip)
        quiet_button("Delete user", "delete", "delete-user", ask_for, delete_dialog, user)


def _draw_several(users: Sequence[UserUsage]) -> None:
    _draw_limits(users, None)
    with row("user-actions"):
        _draw_suspend(users, is_suspended=True)


def _draw_limits(users: Sequence[UserUsage], stored: Limits | None) -> None:
    with st.form("budget-form"):
        limit_fields.draw("user", stored)
        st.form_submit_button(
            words.SAVE, type="primary", on_click=attempt, args=[_set_limits, users, stored]
        )


def _draw_suspend(users: Sequence[UserUsage], *, is_suspended: bool) -> None:
    label = "Suspend" if is_suspended else "Restore access"
    tip = "Signs the user out everywhere and stops replies. Nothing is deleted."
    quiet_button(label, "block", "suspend", _suspend, users, is_suspended, tip=tip)


def _set_limits(users: Sequence[UserUsage], stored: Limits | None) -> None:
    changes = limit_fields.entered("user", stored)
    for user in users:
        find_person().administration.set_limits(user.user_id, changes)
    whose = safe_md.label(users[0].email) if stored else words.count(len(users), "user")
    st.toast(f"Limits of {whose} saved.")


def _set_role(user_id: UserId, role: AccountRole) -> None:
    find_person().administration.set_role(user_id, role)


def _suspend(users: Sequence[UserUsage], is_suspended: bool) -> None:
    for user in users:
        find_person().administration.suspend(user.user_id, is_suspended=is_suspended)


def _sign_out(user: UserUsage) -> None:
    find_person().administration.sign_out(user.user_id)
    st.toast(f"{safe_md.label(user.email)} is signed out everywhere.")


@st.dialog("Delete user?", on_dismiss="rerun")
@show_errors()
def delete_dialog(user: UserUsage) -> None:
    """Delete the account of *user* once the address is typed."""
    st.markdown(
        f"{words.count(user.conversations, 'chat')}, memories, spaces and preferences of"
        f" **{safe_md.label(user.email)}** are deleted for good; nobody can restore them."
        " The costs and the numbers of messages stay in the totals."
    )
    typed = st.text_input("Type the e-mail address to confirm", key=f"delete-{user.user_id}")
    if not editing.is_confirmed("Delete user", "delete-user"):
        return
    if typed.strip() != user.email:
        st.warning("This is not the e-mail address of the user.")
        return
    find_person().administration.delete(user.user_id)
    st.session_state.news = f"{safe_md.label(user.email)} was deleted."
    st.session_state.pop("chosen-users")
    st.rerun()
