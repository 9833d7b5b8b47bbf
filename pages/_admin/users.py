"""The tab of users: their usage, limits and roles."""

from collections.abc import Callable, Mapping, Sequence

import streamlit as st

from pages._admin import forms, overview
from pages._parts import editing, safe_md, tables, usage_chart, words
from pages._parts.elements import draw_download, quiet_button, row
from pages._session import ask_for, find_person, show_errors
from services.bootstrap import PersonServices
from services.domain import AccountRole, UserId
from services.domain.accounts import Limits, UserOrder, UserUsage
from services.errors import BadInput, LastAdmin, NotFound

_ORDERS = {
    UserOrder.COST: words.COST_THIS_MONTH,
    UserOrder.ACTIVE: words.LAST_ACTIVE,
    UserOrder.REPLIES: words.MESSAGES_THIS_MONTH,
    UserOrder.TOKENS: "Tokens this month",
    UserOrder.EMAIL: "Email address",
}
_PAGE = 100


def table_row(user: UserUsage) -> dict[str, object]:
    today, this_month = user.cost_today_micro, user.cost_this_month_micro
    amounts = {
        words.COST_TODAY: today,
        words.DAILY_LIMIT: user.daily_cap_micro,
        "Left today": max(0, user.daily_cap_micro - today),
        words.COST_THIS_MONTH: this_month,
        words.MONTHLY_LIMIT: user.monthly_cap_micro,
        "Left this month": max(0, user.monthly_cap_micro - this_month),
    }
    cap_tokens = user.daily_cap_tokens
    of = f" of {words.number(cap_tokens)}" if cap_tokens is not None else ""
    return {
        words.USER: user.email,
        "Role": user.role.value.capitalize() + (", suspended" if user.is_suspended else ""),
        **{label: micro / words.MILLION for label, micro in amounts.items()},
        "Tokens today": words.number(user.tokens_today) + of,
        "Messages today": user.replies_today,
        words.MESSAGES_THIS_MONTH: user.replies_this_month,
        words.INPUT_TOKENS: user.tokens_in_this_month,
        words.OUTPUT_TOKENS: user.tokens_out_this_month,
        "Chats": user.conversations,
        "Size of chats": user.bytes,
        words.LAST_ACTIVE: user.last_active_at,
    }


def draw(person: PersonServices) -> None:
    """Draw the list of users, and the limits and the role of a chosen one."""
    with row("user-search"):
        sought = st.text_input("Search users", key="user-words", width=260)
        order = st.selectbox("Sort by", _ORDERS, format_func=_ORDERS.__getitem__, width=220)
        draw_download("/export/users.csv")
    page_key = f"user-page-{sought}-{order}"
    skip = _PAGE * (st.session_state.get(page_key, 1) - 1)
    page = person.administration.list_users(sought, order, skip, _PAGE)
    if skip and not page.users:  # the last of that page are gone
        st.session_state.pop(page_key)
        st.rerun()
    if not page.users:
        st.info("No users found.")
        return
    tables.draw(
        map(table_row, page.users),
        "usage-table",
        "Usage and limits of each user, today and this month",
        forms={"Size of chats": words.size},
        missing="never",
        columns={words.USER: st.column_config.TextColumn(width=190, pinned=True)},
    )
    if page.total > _PAGE:
        with row("user-pages"):
            span = f"{words.number(skip + 1)}\N{EN DASH}{words.number(skip + len(page.users))}"
            st.caption(f"{span} of {words.number(page.total)}", width="content")
            st.pagination(-(-page.total // _PAGE), key=page_key, width=360)
    users = {user.user_id: user for user in page.users}
    chosen = st.multiselect(
        "Edit users",
        users,
        format_func=lambda user_id: users[user_id].email,
        placeholder="Select users…",
        key="chosen-users",
        width=520,
    )
    if len(chosen) == 1:
        _draw_user(person, users[chosen[0]])
    elif chosen:
        several = [users[user_id] for user_id in chosen]
        _draw_limits(several, None)
        with row("user-actions"):
            _draw_suspend(several, is_suspended=not all(user.is_suspended for user in several))


def _draw_user(person: PersonServices, user: UserUsage) -> None:
    if days := usage_chart.choose_days():
        overview.draw_usage(person, days, user.user_id)
    _draw_limits([user], user)
    is_admin = user.role is AccountRole.ADMIN
    role = AccountRole.USER if is_admin else AccountRole.ADMIN

    def set_role() -> None:
        administration = find_person().administration
        _change_each([user], lambda user_id: administration.set_role(user_id, role))
        is_now = "no longer an admin" if is_admin else "an admin now"
        st.toast(f"{safe_md.label(user.email)} is {is_now}.")

    with row("user-actions"):
        label = "Remove admin role" if is_admin else "Make admin"
        quiet_button(label, "shield_person", "set-role", set_role)
        _draw_suspend([user], is_suspended=not user.is_suspended)
        tip = "Ends all sessions and running replies. The user can sign in again."
        quiet_button("Sign out everywhere", "logout", "sign-out", _sign_out, user, tip=tip)
        quiet_button("Delete user", "delete", "delete-user", ask_for, delete_dialog, user)


def _draw_limits(users: Sequence[UserUsage], stored: Limits | None) -> None:
    def save(changes: Mapping[str, int | None]) -> None:
        set_caps = find_person().administration.set_caps
        _change_each(users, lambda user_id: set_caps(user_id, changes))

    whose = safe_md.label(users[0].email) if stored else words.count(len(users), "user")
    form = "-".join(["limits", *(str(user.user_id) for user in users)])  # or others got its entries
    forms.draw_limits(form, f"Limits for {whose}", stored, save)


def _draw_suspend(users: Sequence[UserUsage], *, is_suspended: bool) -> None:
    def suspend() -> None:
        set_suspended = find_person().administration.suspend
        _change_each(users, lambda user_id: set_suspended(user_id, is_suspended=is_suspended))
        st.toast("Suspended." if is_suspended else "Access restored.")

    label = "Suspend" if is_suspended else "Restore access"
    tip = "Signs the user out everywhere and stops replies. Nothing is deleted."
    quiet_button(label, "block", "suspend", suspend, tip=tip)


def _change_each(users: Sequence[UserUsage], change: Callable[[UserId], None]) -> None:
    """Call *change* for each of *users*, the admin last, whose session it may end.

    Raise BadInput that names who is refused.
    """
    admin, refused = find_person().account.user_id, list[str]()
    for user in sorted(users, key=lambda user: user.user_id == admin):
        try:
            change(user.user_id)
        except LastAdmin as error:
            refused.append(f"{safe_md.label(user.email)}: {error.public}")
        except NotFound:
            refused.append(f"{safe_md.label(user.email)}: This account no longer exists.")
    if refused:
        raise BadInput(" ".join(refused))


def _sign_out(user: UserUsage) -> None:
    _change_each([user], find_person().administration.sign_out)
    st.toast(f"{safe_md.label(user.email)} is signed out everywhere.")


@st.dialog("Delete user?", on_dismiss="rerun")
@show_errors()
def delete_dialog(user: UserUsage) -> None:
    """Delete the account of *user* once the address is typed."""
    st.markdown(
        f"**{safe_md.label(user.email)}**: {words.count(user.conversations, 'chat')}, memories, spaces and preferences"
        " will be permanently deleted. Costs and message counts remain in the totals."
    )
    typed = st.text_input("Type the email address to confirm", key=f"delete-{user.user_id}")
    if not editing.is_confirmed("Delete user", "delete-user"):
        return
    if typed.strip().lower() != user.email.lower():
        st.warning("This is not the email address of the user.")
        return
    _change_each([user], find_person().administration.delete)
    st.session_state.news = f"{safe_md.label(user.email)} was deleted."
    st.session_state.pop("chosen-users")
    st.rerun()
