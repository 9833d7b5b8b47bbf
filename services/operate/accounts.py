"""The credentials of an account, opened for the operator's commands."""

from services.crypto import Credentials, RootKeys
from services.domain.addresses import NO_ADDRESS, EmailAddress
from services.errors import Misconfigured, NewerVersion, Tampered
from services.store.backend import StoredCredentials
from services.store.credentials import lookups_of, open_stored
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


def opens(ring: RootKeys, stored: StoredCredentials) -> bool:
    """Return False for credentials that do not open, or are found by the look-up value of another address."""
    try:
        address = open_stored(ring, stored).address
    except NewerVersion:
        return True
    except Tampered:
        return False
    return stored.lookup in lookups_of(ring, address)
