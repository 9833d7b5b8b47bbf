"""The settings tab: limits for new users or the only user, the shared limit, the retention of unused chats, and two-step
verification.
"""

from collections.abc import Mapping
from functools import partial

import streamlit as st

from pages._admin import forms
from pages._parts import editing, outcomes, words
from pages._parts.elements import draw_switch
from pages._session import ask_for, find_user, show_errors
from services import bootstrap
from services.bootstrap import UserServices
from services.domain.accounts import UserOrder
from services.errors import Cap, FactorNeeded, ProofNeeded

_NO_CHATS = "No chats would be deleted."
_RETENTION = (
    "Chats are deleted this many days after their last message. Users see a warning above their chats 14 days before."
    " Pinned and archived chats are deleted, too. After the period is set or shortened, no chat is deleted for 14 days."
    " Deleted chats cannot be restored."
)
_REQUIRE = "Require two-step verification"
_SET_UP_FIRST = "Set up two-step verification for your own account first."
# a plain link, because `st.page_link` may not find the page until the second run
_TO_ACCOUNT = '<a class="db-jump" href="/account" target="_self">Open Account</a>'


def draw(admin: UserServices) -> None:
    """Draw the forms and, on a deployment for several users, the switch that requires two-step verification."""
    settings = admin.administration.deployment()
    is_alone = bootstrap.current_app().is_alone
    if is_alone:
        _draw_own_limits(admin)
    else:
        title, caption = "Limits for new users", "Existing users keep theirs."
        forms.draw_limits("default", title, settings.defaults, _change, caption)
    spent = words.cents(settings.spent_this_month_micro)
    caption = f"{spent} used this month. Once it is reached, nobody can send messages. {words.resets(Cap.DEPLOYMENT)}."
    most, stored = 10**15, settings.monthly_cap_micro
    cap = forms.Number("monthly_cap_micro", words.MONTHLY_LIMIT, stored, most, "No limit")
    forms.draw("deployment", words.SHARED_LIMIT, [cap], _set_deployment, caption)
    days = forms.Number("retention_days", "Days", settings.retention_days, 3650, "Never", least=15)
    title = "Deletion of unused chats"
    buttons = forms.draw("retention", title, [days], _change, _RETENTION)
    args = ["retention", partial(_preview, days)]
    buttons.form_submit_button("Preview", on_click=outcomes.act_at, args=args)
    if not is_alone:
        _draw_factor_rule(admin)


def _draw_own_limits(admin: UserServices) -> None:
    def save(changes: Mapping[str, int | None]) -> None:
        user = find_user()
        user.administration.set_caps(user.user_id, changes)

    # none if the account was deleted in another tab meanwhile
    for own in admin.administration.list_users("", UserOrder.EMAIL, 0, 1).users:
        forms.draw_limits("own", "Your limits", own, save)


def _draw_factor_rule(admin: UserServices) -> None:
    stored = admin.factor_rule.is_required()
    with st.container(key="factor-rule", border=True, gap="xsmall"):
        st.html(f"<strong>{words.TWO_STEP}</strong>")
        if stored or admin.sign_in_details.factor:
            draw_switch(_REQUIRE, stored, partial(ask_for, factor_dialog))
            st.caption(
                "Nobody signs in without a second step, such as a code of an authenticator app or a passkey."
                if stored
                else "Users choose if signing in asks for a code of an authenticator app or for a passkey."
            )
        else:
            st.text(_REQUIRE)
            st.caption(_SET_UP_FIRST)
            st.html(_TO_ACCOUNT, width="content")


@st.dialog(words.TWO_STEP, width="small", on_dismiss="rerun")
@show_errors()
def factor_dialog(is_on: bool) -> None:
    """Ask for confirmation before two-step verification is required (*is_on*) or made optional for all users."""
    st.markdown(
        "Devices that signed in without a second step are signed out, and people who have not set one up do so when they "
        "sign in again. Running replies stop; what they have so far is saved."
        if is_on
        else "Users may turn it off then. Nobody is signed out."
    )
    label = "Require it" if is_on else "Stop requiring it"
    if editing.is_confirmed(label, "factor-rule"):
        try:
            find_user().factor_rule.require(is_on=is_on)
        except FactorNeeded:
            st.error(_SET_UP_FIRST)
        except ProofNeeded as error:
            st.error(error.public)
            st.html(_TO_ACCOUNT, width="content")
        else:
            st.rerun()


def _preview(days: forms.Number) -> str:
    entered = forms.entries("retention", [days])[days.name]
    if entered is None:
        return _NO_CHATS
    found = find_user().administration.preview_retention(entered)
    if not found.conversations:
        return _NO_CHATS
    chats, users = words.count(found.conversations, "chat"), words.count(found.users, "user")
    return f"{chats} of {users} ({words.size(found.bytes)}) would be deleted within 14 days."


def _change(changes: Mapping[str, int | None]) -> None:
    find_user().administration.change_settings(changes)


def _set_deployment(entered: Mapping[str, int | None]) -> None:
    find_user().administration.set_deployment_cap(**entered)
