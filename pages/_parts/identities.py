"""The part of the Account page that lists, adds, renames and removes sign-ins through single sign-on providers.

The forms that change these sign-ins are native HTML forms, which post to routes outside Streamlit.
"""

from collections.abc import Sequence

import streamlit as st

from pages._parts import outcomes, proven_actions, providers, words
from pages._parts.devices import OTHERS_FIELD
from pages._parts.elements import draw_cancel, row
from pages._parts.passkey_forms import name_field
from pages._parts.proven_actions import Actions, draw_dialog_form
from pages._session import find_user
from services.domain.single_sign_on import MOST_IDENTITIES, LinkedIdentity, OfferedProvider
from services.errors import LastWayIn

_RENAME, _REMOVE = "Rename sign-in", "Remove sign-in"


def draw(actions: Actions) -> None:
    """Draw the provider accounts that are linked to the user, and the buttons that change them."""
    offered, own = providers.offered(), actions.user.sign_in_details.identities
    if not offered and not own:
        return
    st.header(providers.TITLE, anchor=False)
    if not own:
        st.markdown("Sign in with an account that you have elsewhere, without your password here.")
    with st.container(key="identities", gap="small"):
        for one in own:
            _draw_one(one, offered, actions)
    if offered and len(own) < MOST_IDENTITIES:
        form = providers.forms("link", offered, words.ADD, proven_actions.IDENTITY)
        actions.draw_form(proven_actions.IDENTITY, "Add a sign-in", form)


def _draw_one(one: LinkedIdentity, offered: Sequence[OfferedProvider], actions: Actions) -> None:
    label = _label(one, offered)
    with row(f"identity-{one.identity.mark}", wrap=False):
        with st.container(gap=None, width="stretch"):
            st.text(label if one.name == label else f"{label}: {one.name}")
            st.caption(_times(one))
        rename, remove = _name("rename", one), _name("remove", one)
        actions.draw_dialog(words.RENAME, "edit", rename, rename_identity_dialog, one)
        actions.draw_dialog(words.REMOVE, "link_off", remove, remove_identity_dialog, one, label)


@st.dialog(_RENAME, width="small", on_dismiss="rerun")
def rename_identity_dialog(one: LinkedIdentity) -> None:
    """Ask for a new name for a sign-in through a provider."""
    button = f'<button type="submit">{words.SAVE}</button>'
    content = f"{_mark_field(one)}{name_field(one.name, 'identity_name')}{button}"
    draw_dialog_form(_name("rename", one), "/identity/rename", content)


@st.dialog(_REMOVE, width="small", on_dismiss="rerun")
def remove_identity_dialog(one: LinkedIdentity, label: str) -> None:
    """Ask for confirmation before a sign-in through a provider is removed, or say why the last way in cannot be removed."""
    if one == find_user().sign_in_details.last_way:
        outcomes.draw(_name("remove", one))
        st.markdown(LastWayIn.public)
        draw_cancel("cancel-identity")
        return
    st.markdown("It will no longer open your account. You can add it again.")
    st.text(label if one.name == label else f"{label}: {one.name}")
    button = f'<button type="submit" class="db-danger">{_REMOVE}</button>'
    content = f"{_mark_field(one)}{OTHERS_FIELD}{button}"
    draw_dialog_form(_name("remove", one), "/identity/remove", content)


def _name(act: str, one: LinkedIdentity) -> str:
    """Return the name of the action *act* for *one*, as in `Actions`."""
    return f"{act}-{one.identity.mark}"


def _mark_field(one: LinkedIdentity) -> str:
    return f'<input type="hidden" name="identity" value="{one.identity.mark}">'


def _times(one: LinkedIdentity) -> str:
    return f"{words.added(one.created_at)} · {words.last_used(one.last_used_at)}"


def _label(one: LinkedIdentity, offered: Sequence[OfferedProvider]) -> str:
    labels = (each.label for each in offered if each.issuer == one.identity.issuer)
    return next(labels, "No longer available")
