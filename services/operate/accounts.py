"""The credentials of an account, opened for the operator's commands."""

from dataclasses import replace
from datetime import UTC, datetime

from services.crypto import Credentials, RootKeys, hash_password
from services.domain.accounts import CredentialsAction
from services.domain.addresses import NO_ADDRESS, Confirmed, ConfirmedBy, EmailAddress
from services.domain.passwords import check_new_password
from services.errors import BadInput, Misconfigured, NewerVersion, Tampered
from services.store.backend import StoredCredentials
from services.store.credentials import lookups_of, open_stored, seal_stored
from services.store.operator import Operator


def open_account(
    operator: Operator, ring: RootKeys, email: EmailAddress
) -> tuple[StoredCredentials, Credentials]:
    """Return the credentials of the account *email*, as stored and opened.

    Raise BadInput (no such account), NewerVersion, Misconfigured (they are gone, or do not open).
    """
    stored = operator.find_credentials(email, lookups_of(ring, email))
    try:
        if stored:
            credentials = open_stored(ring, stored)
            if credentials.address in (email, NO_ADDRESS):
                return stored, credentials
    except NewerVersion:
        raise
    except Tampered:
        pass
    raise Misconfigured(
        "The credentials of this account are gone or do not open, and its chats open with them alone: "
        "put its row of private.credentials back from a backup."
    )


def set_password(operator: Operator, ring: RootKeys, email: EmailAddress, password: str) -> None:
    """Give the account *email* a new password, and the only user without an address this one; end all sessions.

    An address that it gives is confirmed, one that the account had is as it was.

    Raise WeakPassword, BadInput (no such account, or it was changed at the same time), and the errors of `open_account`.
    """
    check_new_password(email, password)
    stored, credentials = open_account(operator, ring, email)
    new = replace(
        credentials,
        address=email,
        password_hash=hash_password(password),
        generation=credentials.generation + 1,
    )
    first_address = email if credentials.address == NO_ADDRESS else None
    if first_address:
        at = datetime.now(UTC).replace(microsecond=0)
        new = replace(new, confirmed=Confirmed(how=ConfirmedBy.OPERATOR, at=at))
    row = seal_stored(ring, new, stored.id)
    if not operator.change_credentials(row, stored.generation, first_address):
        raise BadInput("The account was changed at the same time: try again.")


def reset_factors(operator: Operator, ring: RootKeys, email: EmailAddress) -> None:
    """Remove the second factor of the account *email*, with its recovery codes; end all sessions.

    Raise BadInput (no such account, it has none, or it was changed at the same time), and the errors of `open_account`.
    """
    stored, credentials = open_account(operator, ring, email)
    if credentials.factor is None:
        raise BadInput("This account has no second factor.")
    new = replace(credentials, factor=None, generation=credentials.generation + 1)
    row, removed = seal_stored(ring, new, stored.id), CredentialsAction.FACTOR_REMOVED
    if not operator.change_credentials(row, stored.generation, action=removed):
        raise BadInput("The account was changed at the same time: try again.")


def opens(ring: RootKeys, stored: StoredCredentials) -> bool:
    """Return False for credentials that do not open, or are found by the look-up value of another address."""
    try:
        address = open_stored(ring, stored).address
    except NewerVersion:
        return True
    except Tampered:
        return False
    return stored.lookup in lookups_of(ring, address)
