"""The list of the devices on which a user is signed in, and the buttons that sign them out."""

from collections.abc import Sequence

import streamlit as st

from pages._parts import editing, outcomes, words
from pages._parts.elements import row
from pages._parts.form_fields import revealed
from pages._parts.proven_actions import Actions, ask
from pages._session import find_user, run_to_end, show_errors, tell
from services.domain.accounts import Device
from services.errors import ProofNeeded

_OTHERS, _END_OTHERS = "Sign out everywhere else", "end-others"
# the HTML of a checkbox in forms that change a sign-in method; if ticked, all other devices are signed out
OTHERS_FIELD = """<label class="db-check"><input type="checkbox" name="others" value="yes">
        Sign out my other devices</label>"""


def draw(devices: Sequence[Device], actions: Actions) -> None:
    """Draw *devices*, and the buttons that sign them out."""
    st.header(words.DEVICES, anchor=False)
    st.markdown("Where you are signed in.")
    with st.container(key="devices", gap="small"):
        for device in devices:
            end = f"end-{device.id}"
            with row(f"device-{device.id}", wrap=False):
                with st.container(gap=None, width="stretch"):
                    st.text(_capitalized(device.browser))
                    st.caption(_times(device))
                if not device.is_this_one:
                    label = f"{words.SIGN_OUT}: {device.browser}"
                    actions.draw_act(label, "logout", end, _end, device)
            if end == actions.opens:
                st.html(revealed(end, ""))
                outcomes.draw(end)
    if len(devices) > 1:
        actions.draw_dialog(_OTHERS, "logout", _END_OTHERS, others_dialog)


@st.dialog(_OTHERS, width="small", on_dismiss="rerun")
@show_errors()
def others_dialog() -> None:
    """Ask for confirmation before all other devices are signed out."""
    st.markdown(
        "All your other devices are signed out. Replies that are running there stop; what they have so far is saved."
    )
    if editing.is_confirmed(words.SIGN_OUT, "end-others"):
        with st.spinner("Signing out…"), run_to_end():
            try:
                ended = find_user().devices.end_others()
                tell(f"Signed out on {words.count(ended, 'device')}.")
            except ProofNeeded:
                ask(_END_OTHERS)
        st.rerun()


def _end(device: Device) -> None:
    find_user().devices.end(device.id)
    tell(f"Signed out: {device.browser}.")


def _times(device: Device) -> str:
    if device.is_this_one:
        seen = "This device"
    elif device.last_seen_at:
        seen = f"Last active {words.moment(device.last_seen_at, has_date=True)}"
    else:
        seen = "Last active: unknown"
    if device.first_seen_at is None:
        return seen
    return f"{seen} · Signed in {words.moment(device.first_seen_at, has_date=True)}"


def _capitalized(name: str) -> str:
    return name[:1].upper() + name[1:]
