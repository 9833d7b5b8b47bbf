"""The tab of the deployment's settings: the limits of new users, the limit of all users together, and the retention."""

import streamlit as st

from pages._admin import limit_fields
from pages._parts import words
from pages._parts.elements import row
from pages._session import attempt, find_person, person_services
from services.bootstrap import PersonServices
from services.domain.accounts import DeploymentSettings, Limits

_DEPLOYMENT = "deployment-limit"
_LEAST_DAYS = 15


def draw(person: PersonServices) -> None:
    """Draw the forms."""
    settings = person.administration.deployment()
    _draw_defaults(settings.defaults)
    _draw_deployment(settings)
    _draw_retention(settings)


def _draw_defaults(defaults: Limits) -> None:
    with st.form("default-limits"):
        st.markdown("**Limits of new users**")
        st.caption("Users who have an account keep theirs.")
        limit_fields.draw("default", defaults)
        _draw_save(_set_defaults, defaults)


def _draw_deployment(settings: DeploymentSettings) -> None:
    stored = settings.monthly_cap_micro
    key = f"{_DEPLOYMENT}-{stored}"
    st.session_state.setdefault(key, None if stored is None else stored / words.MILLION)
    with st.form("deployment-limits"):
        st.markdown("**Limit of all users together**")
        spent = words.dollars(settings.spent_this_month_micro)
        st.caption(f"{spent} of it used this month. At the limit nobody can send messages.")
        label = f"{words.MONTHLY_LIMIT} ($)"
        st.number_input(label, 0.0, 1e9, None, placeholder="No limit", key=key, width=170)
        _draw_save(_set_deployment, key)


def _draw_retention(settings: DeploymentSettings) -> None:
    key = f"retention-{settings.retention_days}"
    st.session_state.setdefault(key, settings.retention_days)
    with st.form("retention"):
        st.markdown("**Delete unused chats**")
        st.caption(
            "Days after the last message. Users are warned for 14 days above their list of chats;"
            " after a change the first chats are deleted in 14 days. Deleted chats cannot be restored."
        )
        st.number_input("Days", _LEAST_DAYS, 3650, None, placeholder="Never", key=key, width=170)
        with row():
            _draw_save(_set_retention, key)
            is_asked = st.form_submit_button("Preview")
    if is_asked and (days := st.session_state[key]):
        found = person_services().administration.preview_retention(days)
        chats, users = words.count(found.conversations, "chat"), words.count(found.users, "user")
        st.info(f"{chats} of {users} ({words.size(found.bytes)}) would be deleted within 14 days.")


def _draw_save(save: object, *given: object) -> None:
    st.form_submit_button(words.SAVE, type="primary", on_click=attempt, args=[save, *given])


def _set_defaults(stored: Limits) -> None:
    find_person().administration.set_default_limits(limit_fields.entered("default", stored))
    st.toast("Limits of new users saved.")


def _set_deployment(key: str) -> None:
    dollars: float | None = st.session_state[key]
    micro = None if dollars is None else round(dollars * words.MILLION)
    find_person().administration.set_deployment_limit(micro)
    st.toast("Limit of all users saved.")


def _set_retention(key: str) -> None:
    find_person().administration.set_retention(st.session_state[key])
    st.toast("Deletion of unused chats saved.")
