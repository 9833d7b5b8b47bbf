"""The part of the Account page that lists, adds, renames and removes passkeys."""

from base64 import urlsafe_b64encode
from collections.abc import Collection

import streamlit as st

from pages._parts import outcomes, proven_actions, second_factor, words
from pages._parts.devices import OTHERS_FIELD
from pages._parts.elements import draw_cancel, row
from pages._parts.passkey_forms import add_form, is_on, name_field, party_here
from pages._parts.proven_actions import Actions, draw_dialog_form
from pages._session import find_user
from services.domain.accounts import ProofScope
from services.domain.browsers import UNKNOWN_BROWSER, browser_name
from services.domain.passkeys import MOST_PASSKEYS, Passkey, RelyingParty
from services.errors import LastWayIn, PasskeysUnusable, TooManyPasskeys

_WHAT = "Sign in with your fingerprint, face, screen lock or security key, without a password or a code."
_OF_PROVIDER = (
    "Your organization's provider signs you in. A passkey can be your second step after it."
)
_RENAME, _REMOVE = "Rename passkey", "Remove passkey"


def draw(actions: Actions) -> None:
    """Draw the passkeys of the user, and the buttons that change them."""
    user = actions.user
    own = user.sign_in_details
    passkeys, party, factor = own.passkeys, party_here(), own.factor
    is_last_step = len(passkeys) == 1 and factor is not None and factor.since is None
    if not passkeys and not is_on():
        return
    st.header("Passkeys", anchor=False)
    if user.is_of_provider or is_on():
        st.markdown(_OF_PROVIDER if user.is_of_provider else _WHAT)
    with st.container(key="passkeys", gap="small"):
        for number, passkey in enumerate(passkeys):
            _draw_passkey(number, passkey, party, actions, is_last_step=is_last_step)
    if not passkeys:
        st.caption("No passkeys yet.")
    if not is_on():
        return
    if party is None:
        st.caption(PasskeysUnusable.public)
    elif len(passkeys) >= MOST_PASSKEYS:
        st.caption(TooManyPasskeys.public)
    else:
        name = _suggested_name({one.name for one in passkeys})
        back_to = proven_actions.form_address("/account", proven_actions.PASSKEY)
        others = OTHERS_FIELD if actions.scope is ProofScope.FULL else ""
        form = add_form(name, others, back_to)
        actions.draw_form(proven_actions.PASSKEY, words.ADD_PASSKEY, form)


def _draw_passkey(
    number: int,
    passkey: Passkey,
    party: RelyingParty | None,
    actions: Actions,
    *,
    is_last_step: bool,
) -> None:
    with row(f"passkey-{number}"):
        with st.container(gap=None, width="stretch"):
            st.text(passkey.name)
            st.caption(_details(passkey))
            if party is None or passkey.rp_id != party.id:
                st.text(f"Works at {passkey.rp_id} only, not at this address.")
        rename, remove = _name("rename", passkey), _name("remove", passkey)
        actions.draw_dialog(words.RENAME, "edit", rename, rename_passkey_dialog, passkey)
        actions.draw_dialog(
            words.REMOVE, "delete", remove, remove_passkey_dialog, passkey, is_last_step
        )


def _details(passkey: Passkey) -> str:
    parts = (
        words.added(passkey.created_at),
        words.last_used(passkey.last_used_at),
        "Synced between devices" if passkey.is_synced else "On one device",
    )
    return " · ".join(parts)


@st.dialog(_RENAME, width="small", on_dismiss="rerun")
def rename_passkey_dialog(passkey: Passkey) -> None:
    """Ask for a new name for a passkey."""
    button = f'<button type="submit">{words.SAVE}</button>'
    content = f"{_id_field(passkey)}{name_field(passkey.name)}{button}"
    draw_dialog_form(_name("rename", passkey), "/passkey/rename", content)


@st.dialog(_REMOVE, width="small", on_dismiss="rerun")
def remove_passkey_dialog(passkey: Passkey, is_last_step: bool = False) -> None:
    """Ask for confirmation before a passkey is removed, or say why the last way in cannot be removed.

    *is_last_step*: it is the account's only second factor.
    """
    if passkey == find_user().sign_in_details.last_way:
        outcomes.draw(_name("remove", passkey))
        st.markdown(LastWayIn.public)
        draw_cancel("cancel-passkey")
        return
    if is_last_step and second_factor.is_refused("Add another passkey first."):
        return
    st.text(f"{passkey.name} will no longer work here.")
    if is_last_step:
        st.markdown(
            "Daybook will then ask for no second step, and your recovery codes stop working. To avoid this, add another "
            "passkey first."
        )
    st.markdown(
        "Delete it on your device or in your password manager, too: Daybook cannot do that."
    )
    button = f'<button type="submit" class="db-danger">{words.REMOVE}</button>'
    content = f"{_id_field(passkey)}{OTHERS_FIELD}{button}"
    draw_dialog_form(_name("remove", passkey), "/passkey/remove", content)


def _name(act: str, passkey: Passkey) -> str:
    """Return the name of the action *act* for *passkey*, as in `Actions`."""
    return f"{act}-passkey-{_encoded(passkey)}"


def _id_field(passkey: Passkey) -> str:
    return f'<input type="hidden" name="passkey" value="{_encoded(passkey)}">'


def _encoded(passkey: Passkey) -> str:
    return urlsafe_b64encode(passkey.credential_id).decode().rstrip("=")


def _suggested_name(names: Collection[str]) -> str:
    """Return the browser's name, followed by a number if *names* already contains it."""
    browser = browser_name(st.context.headers.get("User-Agent", ""))
    name = words.PASSKEY if browser == UNKNOWN_BROWSER else browser
    numbered = (f"{name} {number}" for number in range(2, MOST_PASSKEYS + 2))
    return next(one for one in (name, *numbered) if one not in names)
