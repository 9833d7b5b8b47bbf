"""The audit as a table: changes to accounts and to the deployment."""

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import cast
from uuid import UUID

import streamlit as st

from pages._parts import words
from pages._parts.elements import GridRow, draw_grid
from services import bootstrap
from services.domain.accounts import Activity, AuditEntry, Failure
from services.domain.addresses import NO_ADDRESS

_ACTIONS = {
    "account.begin": "Account created",
    "account.delete": "Account deleted",
    "account.end": "Deleted account's data removed",
    "account.suspend": "Access changed",
    "address.confirm": "Email address confirmed",
    "address.change": "Email address changed",
    "address.free": "Email address removed",
    "address.fail": "Wrong code for an email address",
    "address.restore": "Email address taken back",
    "address.set": "Email address set",
    "caps.deployment": "Shared monthly limit changed",
    "caps.set": "Limits changed",
    "change.fail": "Account change refused",
    "enrolment.fail": "Wrong code for a new authenticator app",
    "factor.add": "Authenticator app set up",
    "factor.fail": "Wrong two-step verification code",
    "factor.remove": "Authenticator app turned off",
    "factor.replace": "Authenticator app replaced",
    "factor.use": "Two-step verification code used",
    "identity.add": "Sign-in added",
    "identity.move": "Sign-in moved to another issuer",
    "identity.remove": "Sign-in removed",
    "identity.use": "Sign-in used",
    "invitation.make": "Invitation created",
    "invitation.revoke": "Invitation revoked",
    "key.put": "Encryption key created",
    "model.set": "Model changed",
    "passkey.add": "Passkey added",
    "passkey.fail": "Passkey refused",
    "passkey.remove": "Passkey removed",
    "passkey.use": "Passkey used",
    "passkey_factor.add": "Passkey turned on as second step",
    "passkey_factor.remove": "Passkey turned off as second step",
    "password.reset": "Password reset",
    "password.set": "Password set",
    "password.add": "Password added",
    "proof.fail": "Identity not confirmed: wrong password or code",
    "recovery.renew": "Recovery codes renewed",
    "recovery.use": "Recovery code used",
    "reset.fail": "Wrong code to reset the password",
    "role.set": "Role changed",
    "session.end_all": "Signed out everywhere",
    "session.prove": "Identity confirmed",
    "session.revoke": "Devices signed out",
    "settings.set": "Settings changed",
    "sign_in.fail": "Wrong code to sign in",
    "sign_in.operator": "Signed in with a password set by an admin",
    "sign_in.repair": "Sign-in repaired",
}
_VALUES = words.LIMIT_NAMES | {
    "input_micro": "Input price",
    "cached_input_micro": "Price of cached input",
    "output_micro": "Output price",
    "refuses_unknown_prices": "Refused",
    "is_offered": "Offered",
    "confirms_by_code": "Email addresses confirmed",
    "requires_factor": "Two-step verification required",
    "retention_days": "Days unused",
    "sign_ups": "Who can create an account",
    "count": "Attempts",
    "ended": words.DEVICES,
}

_TOMBSTONE = "@deleted.invalid"  # the end of the email address of an account that is being deleted
# keys of details that are not shown: an id, and two details with the same value in all entries
_HIDDEN = ("invitation", "mode", "version")


def draw(entries: Sequence[AuditEntry], *, names_users: bool) -> None:
    """Draw *entries* as a table, the newest first.

    *names_users*: add columns for the user whose account an entry is about, and for the change. A user's own entries have
    few changes to name, so these stand beside the action.
    """
    columns = ["Action", *([words.USER, "Change"] if names_users else []), "By"]
    rows = [
        GridRow(
            words.moment(entry.at, has_date=True),
            [*_changed(entry, names_users=names_users), _by(entry)],
        )
        # the ids of failures, by which stores sort, begin with the hour alone
        for entry in sorted(entries, key=attrgetter("at"), reverse=True)
    ]
    with st.container(key="audit-table"):
        draw_grid("Time", columns, rows)


def _changed(entry: AuditEntry, *, names_users: bool) -> list[str]:
    """Return the cells of *entry* between its time and its actor."""
    action, changed = _ACTIONS.get(entry.action, entry.action), change(entry.detail)
    if names_users:
        return [action, name(entry.target), changed]
    return [f"{action} ({changed})" if changed else action]


def _by(entry: AuditEntry) -> str:
    by = name(entry.actor) or ("Unknown" if entry.is_failure else "Server")
    if entry.action == Failure.ENROLMENT:  # an app is set up only after a proof of who the user is
        by = name(entry.target) or words.YOU
    browser = entry.browser if isinstance(entry, Activity) else None
    return f"{by}, in {browser}" if browser else by


def name(user: str | None) -> str:
    """Return the email address of *user*, or a short stable name if the user was deleted and only the id is left.

    Return "You" for the only user of a deployment without sign-in, who has no address.
    """
    if user == NO_ADDRESS and bootstrap.current_app().is_alone:
        return words.YOU
    try:
        gone = UUID((user or "").removesuffix(_TOMBSTONE))
    except ValueError:
        return user or ""
    return f"Deleted user {gone.hex[:8]}"


def change(detail: Mapping[str, object]) -> str:
    """Return a change as text: `Daily limit: $1.00 → $2.50; Simultaneous replies: 4 → 2`."""
    return "; ".join(
        f"{_VALUES.get(name, name.replace('_', ' ').capitalize())}: {_written(name, value)}"
        for name, value in detail.items()
        if name not in _HIDDEN
    )


def _written(name: str, value: object) -> str:
    match value:
        case list():
            before, after = cast(list[object], value)
            return f"{_written(name, before)} → {_written(name, after)}"
        case bool():
            return "yes" if value else "no"
        case int() if name.endswith("_micro"):
            return words.price(value)
        case int():
            return words.number(value)
        case str() if name == "sign_ups":
            return {str(mode): text for mode, text in words.SIGN_UP_MODES.items()}.get(value, value)
        case None:
            return "none"
        case _:
            return str(value)
