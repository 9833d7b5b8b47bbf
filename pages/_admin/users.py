"""The users tab: usage, limits and roles of users."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from html import escape

import streamlit as st
from streamlit.typing import ButtonColumnClickState

from pages._admin import forms, overview
from pages._parts import editing, outcomes, tables, words
from pages._parts.elements import GridRow, draw_download, draw_grid, quiet_button, row
from pages._session import ask_for, find_user, show_errors
from pages._tab import tab
from services.bootstrap import UserServices
from services.domain import AccountRole, UserId
from services.domain.accounts import Limits, SignInState, UserOrder, UserUsage
from services.domain.addresses import LONGEST_ADDRESS
from services.errors import BadInput, LastAdmin, NotFound

_ORDERS = {
    UserOrder.COST: words.COST_THIS_MONTH,
    UserOrder.ACTIVE: words.LAST_MESSAGE,
    UserOrder.REPLIES: words.MESSAGES_THIS_MONTH,
    UserOrder.TOKENS: "Tokens this month",
    UserOrder.EMAIL: "Email address",
}
_PAGE = 100
_MOST = 500  # the largest number of users that the store lists at once
_OPEN = "Open"  # the label of the column and of its buttons
_STATE = "State"
_LIST, _USER = "users", "user-actions"  # the places on the page where `outcomes` draws results
_NAMED = 10  # a message names up to this many users; if there are more, it only says how many


def table_row(user: UserUsage) -> dict[str, object]:
    """Return the table row of *user*, with only the columns that fit beside the sidebar at 1280 px.

    Opening a user shows more figures.
    """
    return {
        words.USER: user.email,
        "Role": user.role.value.capitalize(),
        _STATE: _state(user),
        words.COST_TODAY: user.cost_today_micro / words.MILLION,
        words.COST_THIS_MONTH: user.cost_this_month_micro / words.MILLION,
        words.MESSAGES_THIS_MONTH: user.replies_this_month,
        words.LAST_MESSAGE: user.last_active_at,
    }


def account_phrases(user: UserUsage, sign_in: SignInState) -> list[str]:
    """Return phrases about the account of *user*, in Markdown: state, role, age, confirmation, second step, last message."""
    begun_at, factors = sign_in.begun_at, ["an authenticator app"] * sign_in.has_app
    factors += ["a passkey"] * sign_in.asks_passkey
    last = user.last_active_at
    return [
        f"**{_state(user)}**" if user.is_suspended else _state(user),
        user.role.value.capitalize(),
        f"Account since {words.moment(begun_at, has_date=True) if begun_at else 'unknown'}",
        "Email confirmed" if sign_in.is_confirmed else "Email not confirmed",
        f"Second step: {' or '.join(factors) or 'none'}",
        f"Last message {words.moment(last, has_date=True)}" if last else "No messages yet",
    ]


def _state(user: UserUsage) -> str:
    return "Suspended" if user.is_suspended else "Active"


def figures(user: UserUsage) -> list[GridRow]:
    """Return the table rows with the usage of *user* today and this month."""
    costs = user.cost_today_micro, user.cost_this_month_micro
    limits = user.daily_cap_micro, user.monthly_cap_micro
    left = limits[0] - costs[0], limits[1] - costs[1]
    cap = user.daily_cap_tokens
    tokens_today = words.number(user.tokens_today)
    tokens = user.tokens_in_this_month + user.tokens_out_this_month
    if cap is not None:
        tokens_today += f" of {words.number(cap)}"
    messages = words.number(user.replies_today), words.number(user.replies_this_month)
    return [
        GridRow(words.COST, [words.cents(cost) for cost in costs]),
        GridRow("Limit", [words.cents(limit) for limit in limits]),
        GridRow("Left", [words.cents(max(0, each)) for each in left]),
        GridRow(words.MESSAGES, messages),
        GridRow("Tokens", [tokens_today, words.number(tokens)]),
    ]


def draw(admin: UserServices) -> None:
    """Draw the list of users, and the limits and the role of a chosen user."""
    with row("user-search"):
        sought = st.text_input(
            "Search users", key="user-words", max_chars=LONGEST_ADDRESS, width=260
        )
        order = st.selectbox("Sort by", _ORDERS, format_func=_ORDERS.__getitem__, width=220)
        draw_download("/export/users.csv")
    page_key = f"user-page-{sought}-{order}"
    skip = _PAGE * (st.session_state.get(page_key, 1) - 1)
    page = admin.administration.list_users(sought, order, skip, _PAGE)
    if skip and not page.users:  # all users on this page of the list were deleted
        st.session_state.pop(page_key)
        st.rerun()
    if page.users:
        _draw_table(page.users)
    else:
        st.info("No users found.")
    if page.total > _PAGE:
        with row("user-pages"):
            span = f"{words.number(skip + 1)}\N{EN DASH}{words.number(skip + len(page.users))}"
            st.caption(f"{span} of {words.number(page.total)}", width="content")
            st.pagination(-(-page.total // _PAGE), key=page_key, width=360)
    outcomes.draw(_LIST)
    shown = {user.user_id: user for user in page.users}
    chosen = _chosen(admin, shown)
    choices = shown | {user.user_id: user for user in chosen}
    if not choices:
        return
    st.session_state["chosen-users"] = [user.user_id for user in chosen]
    st.multiselect(
        "Edit users",
        choices,
        format_func=lambda user_id: choices[user_id].email,
        placeholder="Select users…",
        # the fuzzy search would also offer to select users whose addresses only resemble the entered text
        filter_mode="contains",
        key="chosen-users",
        on_change=_choose,
        args=[choices],
        width=520,
    )
    if len(chosen) == 1:
        _draw_user(admin, chosen[0])
    elif chosen:
        with row("user-actions"):
            _draw_suspend(chosen, is_suspended=not all(user.is_suspended for user in chosen))
        outcomes.draw(_USER)
        _draw_limits(chosen, None)


def _draw_table(users: Sequence[UserUsage]) -> None:
    """Draw a row for each user, with a button that opens the user's details."""
    button = st.column_config.ButtonColumn(
        "", width=64, type="tertiary", key="open-user", on_click=_open, args=(users,)
    )
    # not pinned, because Streamlit draws a pinned column in grey
    address = st.column_config.TextColumn(width=220)
    state = st.column_config.TextColumn(width=96)  # shows "Suspended" uncut
    messages = st.column_config.Column(words.MESSAGES, help="This month")
    tables.draw(
        ({_OPEN: _OPEN} | table_row(user) for user in users),
        "usage-table",
        "Usage of each user, today and this month",
        missing="never",
        forms={words.COST_TODAY: _cents, words.COST_THIS_MONTH: _cents},
        columns={
            _OPEN: button,
            words.USER: address,
            _STATE: state,
            words.MESSAGES_THIS_MONTH: messages,
        },
    )


def _cents(dollars: float) -> str:
    return words.cents(round(dollars * words.MILLION))


def _open(users: Sequence[UserUsage]) -> None:
    click: ButtonColumnClickState = st.session_state["open-user"]
    _choose_all([users[click.row]])
    tab().opened_rows += 1


def _choose(choices: Mapping[UserId, UserUsage]) -> None:
    chosen: list[UserId] = st.session_state["chosen-users"]
    _choose_all([choices[user_id] for user_id in chosen])


def _choose_all(users: Sequence[UserUsage]) -> None:
    outcomes.forget()
    tab().chosen_users = {user.user_id: user for user in users}


def _chosen(admin: UserServices, shown: Mapping[UserId, UserUsage]) -> list[UserUsage]:
    """Return the chosen users. The figures of users in the table are current.

    A user who is not in the table is read again only if no other user is chosen: for several, no figures are drawn.
    """
    chosen = [shown.get(user_id, user) for user_id, user in tab().chosen_users.items()]
    if len(chosen) == 1 and chosen[0].user_id not in shown:
        return _reread(admin, chosen[0])
    return chosen


def _reread(admin: UserServices, user: UserUsage) -> list[UserUsage]:
    """Return *user* with the current figures, or an empty list if the account no longer exists."""
    # page by page, because the search also finds all users whose email addresses contain that of *user*
    for skip in itertools.count(0, _MOST):
        page = admin.administration.list_users(user.email, UserOrder.EMAIL, skip, _MOST)
        found = [one for one in page.users if one.user_id == user.user_id]
        if found or skip + _MOST >= page.total:
            return found
    return []


def _draw_user(admin: UserServices, user: UserUsage) -> None:
    is_admin = user.role is AccountRole.ADMIN
    role = AccountRole.USER if is_admin else AccountRole.ADMIN

    def set_role() -> str:
        administration = find_user().administration
        _change_each([user], lambda user_id: administration.set_role(user_id, role))
        return f"{user.email} is {'no longer an admin' if is_admin else 'an admin now'}."

    opened = tab().opened_rows
    # assets/page/reveal.js scrolls to the user
    reveal = f' data-reveal="{opened}"' if opened else ""
    st.html(f'<h2 class="db-who"{reveal}>{escape(user.email)}</h2>')
    with show_errors():
        st.caption(" · ".join(account_phrases(user, admin.sign_in_state_of(user.user_id))))
    with row("user-actions"):
        label = "Remove admin role" if is_admin else "Make admin"
        _draw_action(label, "shield_person", "set-role", set_role)
        _draw_suspend([user], is_suspended=not user.is_suspended)
        tip = "Ends all sessions and running replies. The user can sign in again."
        act = partial(_sign_out, user)
        _draw_action("Sign out everywhere", "logout", "sign-out", act, tip=tip)
        quiet_button("Delete user", "delete", "delete-user", ask_for, delete_dialog, user)
    outcomes.draw(_USER)
    draw_grid("Usage", [words.TODAY, "This month"], figures(user))
    st.caption(f"{words.count(user.conversations, 'chat')}, {words.size(user.bytes)}")
    _draw_limits([user], user)
    overview.draw_usage(admin, user.user_id)


def _draw_action(
    label: str, icon: str, key: str, act: Callable[[], str], tip: str | None = None
) -> None:
    """Draw a button; its result is shown below the row of buttons."""
    quiet_button(label, icon, key, outcomes.act_at, _USER, act, tip=tip)


def _draw_limits(users: Sequence[UserUsage], stored: Limits | None) -> None:
    def save(changes: Mapping[str, int | None]) -> None:
        set_caps = find_user().administration.set_caps
        _change_each(users, lambda user_id: set_caps(user_id, changes))

    whose = users[0].email if stored else words.count(len(users), "user")
    # each selection of users has its own form key, so that entries do not appear in the form for other users
    form = "-".join(["limits", *(str(user.user_id) for user in users)])
    forms.draw_limits(form, f"Limits for {whose}", stored, save)


def _draw_suspend(users: Sequence[UserUsage], *, is_suspended: bool) -> None:
    tip = "Signs the user out everywhere and stops replies. Nothing is deleted."
    if is_suspended:
        quiet_button("Suspend", "block", "suspend", ask_for, suspend_dialog, users, tip=tip)
    else:
        act = partial(_set_suspended, users, is_suspended=False)
        _draw_action("Restore access", "lock_open", "suspend", act)


def _set_suspended(users: Sequence[UserUsage], *, is_suspended: bool) -> str:
    set_suspended = find_user().access.suspend
    _change_each(users, lambda user_id: set_suspended(user_id, is_suspended=is_suspended))
    _choose_all([replace(user, is_suspended=is_suspended) for user in users])
    whose = _names(users)
    return f"{whose} suspended." if is_suspended else f"Access restored for {whose}."


@st.dialog("Suspend?", on_dismiss="rerun")
@show_errors()
def suspend_dialog(users: Sequence[UserUsage]) -> None:
    """Suspend *users* after a confirmation that names them."""
    _draw_names(users)
    st.caption("Signed out everywhere, and running replies stop. Nothing is deleted.")
    if editing.is_confirmed("Suspend", "suspend"):
        outcomes.act_at(_USER, partial(_set_suspended, users, is_suspended=True))
        st.rerun()


def _names(users: Sequence[UserUsage]) -> str:
    if len(users) > _NAMED:
        return words.count(len(users), "user")
    return ", ".join(user.email for user in users)


def _draw_names(users: Sequence[UserUsage]) -> None:
    named = "<br>".join(escape(user.email) for user in users)
    count = f"<p>{words.count(len(users), 'user')}:</p>" if len(users) > 1 else ""
    st.html(f'{count}<p class="db-names">{named}</p>')


def _change_each(users: Sequence[UserUsage], change: Callable[[UserId], None]) -> None:
    """Call *change* for each of *users*, the calling admin last, because the change may end the admin's session.

    Raise BadInput, which names the users for whom *change* failed.
    """
    admin, refused = find_user().account.user_id, list[str]()
    for user in sorted(users, key=lambda user: user.user_id == admin):
        try:
            change(user.user_id)
        except LastAdmin as error:
            refused.append(f"{user.email}: {error.public}")
        except NotFound:
            refused.append(f"{user.email}: This account no longer exists.")
    if refused:
        raise BadInput(" ".join(refused))


def _sign_out(user: UserUsage) -> str:
    _change_each([user], find_user().access.sign_out)
    return f"{user.email} is signed out everywhere."


@st.dialog("Delete user?", on_dismiss="rerun")
@show_errors()
def delete_dialog(user: UserUsage) -> None:
    """Delete the account of *user* once the admin has typed its email address."""
    _draw_names([user])
    st.markdown(
        f"{words.count(user.conversations, 'chat')}, memories, spaces and preferences"
        " will be permanently deleted. Costs and message counts remain in the totals."
    )
    typed = st.text_input(
        "Type the email address to confirm",
        max_chars=LONGEST_ADDRESS,
        key=f"delete-{user.user_id}",
    )
    if not editing.is_confirmed("Delete user", "delete-user"):
        return
    if typed.strip().lower() != user.email.lower():
        st.warning("This is not the email address of the user.")
        return
    outcomes.act_at(_LIST, partial(_delete, user))
    st.rerun()


def _delete(user: UserUsage) -> str:
    _change_each([user], find_user().access.delete)
    tab().chosen_users = {}
    return f"{user.email} was deleted."
