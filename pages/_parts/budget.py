"""Choices after the budget has refused a message: a cheaper model, a smaller memory policy, or a higher limit."""

from collections.abc import Sequence
from contextlib import suppress

import streamlit as st
from streamlit.errors import StreamlitPageNotFoundError

from pages._parts import memory, models, safe_md, words
from pages._parts.elements import quiet_button, row
from pages._tab import Refusal
from services import bootstrap
from services.bootstrap import Affordable, ThreadView, UserServices
from services.domain import AccountRole
from services.domain.accounts import Limit
from services.errors import Cap, OverBudget

_MOST = 2  # the largest number of models, and of memory policies, that are offered
_NEAR = 0.9  # a limit is shown on the page once this share of it is used
_ADMIN = "pages/admin.py"


def draw_near(user: UserServices, view: ThreadView) -> None:
    """Draw a line above the composer about the limit that is likely to be reached first, if it is nearly reached."""
    account, is_free = user.account, view.setup.offer.info.is_free
    limits = [one for one in account.limits if one.cap is Cap.DAILY_TOKENS or not is_free]
    if not limits:
        return
    low = {
        one: one.left < (view.need.tokens if one.cap is Cap.DAILY_TOKENS else view.need.micro)
        for one in limits
    }
    if account.shared_limit and not is_free:
        # never shown as low, because users must not see how much of the shared budget is left
        low[account.shared_limit] = False
    limit = max(low, key=lambda one: (low[one], one.share))
    if low[limit] and limit.share < _NEAR:
        left, resets = words.left_of(limit), words.resets(limit.cap)
        st.caption(f"{words.LIMITS[limit.cap]}: only {left} left. {resets}.")
    else:
        draw_if_near(limit, account.role)


def draw_if_near(limit: Limit, role: AccountRole) -> None:
    """Draw a line about *limit* if it is nearly used up."""
    if limit.share < _NEAR:
        return
    name, resets = words.LIMITS[limit.cap], words.resets(limit.cap)
    if limit.used < limit.most:
        st.caption(f"{name} nearly reached: {words.used_of(limit)}. {resets}.")
    elif not limit.most:
        st.caption(f"{name} is 0. An admin can raise it.")
    elif role is AccountRole.ADMIN:
        st.caption(f"{name} reached. {resets}.")
    else:
        st.caption(f"{name} reached. {resets}, or an admin can raise it.")


def draw_choices(user: UserServices, view: ThreadView, refusals: Sequence[Refusal]) -> None:
    """Draw, below *refusals*, the choices that the budget still allows, and how to raise the limit."""
    errors = [refusal.error for refusal in refusals if isinstance(refusal.error, OverBudget)]
    if not errors or errors[-1].cap not in words.LIMITS:
        return
    error, prompt = errors[-1], next((refusal.prompt for refusal in refusals if refusal.prompt), "")
    # a cheaper model does not help with a token limit; if the shared budget is too low, only free
    # models are offered, because it is unknown how much of that budget is left
    if error.cap is not Cap.DAILY_TOKENS:
        _draw_offers(view, view.affordable(prompt, error.left))
    if user.account.role is not AccountRole.ADMIN:
        st.caption("An admin can raise the limit.")
        return
    # Streamlit may not find the page until the next run, because this run has registered it
    with suppress(StreamlitPageNotFoundError):
        is_in_settings = error.cap is Cap.DEPLOYMENT or bootstrap.current_app().is_alone
        tab = words.SETTINGS if is_in_settings else words.USERS
        icon, query = ":material/tune:", {"tab": tab}
        st.page_link(_ADMIN, label="Raise the limit", icon=icon, query_params=query)


def _draw_offers(view: ThreadView, found: Affordable) -> None:
    conversation = None if view.is_new else view.thread.conversation
    with row("within-budget", "xxsmall"):
        for name in found.models[:_MOST]:
            label, key = f"Use {safe_md.label(name, 40)}", f"use-{name}"
            here = conversation.id if conversation else None
            quiet_button(label, "neurology", key, models.choose, here, name)
        for policy in found.policies[:_MOST]:
            key = f"switch-{policy.name}"
            quiet_button(
                words.switch_to(policy), "history", key, memory.choose, conversation, policy
            )
