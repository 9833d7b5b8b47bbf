"""The credentials of an account, opened for the operator's commands."""

from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from services.crypto import Credentials, RootKeys, hash_password
from services.domain.accounts import CredentialsAction
from services.domain.addresses import (
    NO_ADDRESS,
    Confirmed,
    ConfirmedBy,
    EmailAddress,
    has_mailbox,
    new_placeholder,
)
from services.domain.passwords import check_new_password
from services.errors import BadInput, Misconfigured, NewerVersion, Tampered
from services.store.backend import StoredCredentials
from services.store.credentials import (
    former_lookups_of,
    lookups_of,
    open_stored,
    seal_stored,
    way_in_tags,
)
from services.store.operator import LookupFault, Operator

# a stored look-up may expire earlier than the app's clock says
_CLOCKS_APART = timedelta(minutes=5)
_CHANGED = "The account was changed at the same time: try again."
_CONFIRMED = "This address was confirmed by the account's user, and stays with the account."


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


def set_password(operator: Operator, ring: RootKeys, email: EmailAddress, password: str) -> bool:
    """Give the account *email* a new password, and the only user without an address this one; end all sessions.

    An address that it gives is confirmed, one that the account had is as it was. Return True if the user had confirmed it.

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
    row = seal_stored(ring, new, stored.id, replaces=stored)
    if not operator.change_credentials(row, stored.generation, first_address):
        raise BadInput(_CHANGED)
    return credentials.confirmed is not None


def free_address(operator: Operator, ring: RootKeys, email: EmailAddress) -> EmailAddress:
    """Take *email* from an account that never confirmed it, and end all sessions; return the placeholder that it has now.

    The account keeps its text and password. The address is not reserved: the owner of the mailbox can sign up with it.

    Raise BadInput (no such account, or it was changed at the same time; the address was confirmed, or is a placeholder),
    and the errors of `open_account`.
    """
    stored, credentials = open_account(operator, ring, email)
    if credentials.confirmed:
        raise BadInput(_CONFIRMED)
    if not has_mailbox(credentials.address):
        raise BadInput("This account has a placeholder, and no address to free.")
    placeholder = new_placeholder()
    new = replace(credentials, address=placeholder, generation=credentials.generation + 1)
    row = seal_stored(ring, new, stored.id, replaces=stored)
    freed = CredentialsAction.ADDRESS_FREED
    if not operator.change_credentials(row, stored.generation, placeholder, freed):
        raise BadInput(_CHANGED)
    return placeholder


def reset_factors(operator: Operator, ring: RootKeys, email: EmailAddress) -> bool:
    """Remove the second factor of the account *email*, with its recovery codes, also from former ways in; end all sessions.

    Return True if the user has confirmed the address. Passkeys stay, and are no longer asked for.

    Raise BadInput (no such account, it has none, or it was changed at the same time), and the errors of `open_account`.
    """
    stored, credentials = open_account(operator, ring, email)
    if not credentials.wants_factor:
        raise BadInput("This account has no second factor.")
    new = credentials.without_factor()
    row = seal_stored(ring, new, stored.id, replaces=stored)
    removed = CredentialsAction.FACTOR_REMOVED
    if not operator.change_credentials(row, stored.generation, action=removed):
        raise BadInput(_CHANGED)
    return credentials.confirmed is not None


def opens(ring: RootKeys, stored: StoredCredentials) -> bool:
    """Return False for credentials that do not open, or are found by the look-up value of another address."""
    try:
        address = open_stored(ring, stored).address
    except NewerVersion:
        return True
    except Tampered:
        return False
    return stored.lookup in lookups_of(ring, address)


def lookup_faults(
    ring: RootKeys,
    stored: StoredCredentials | None,
    lookups: Collection[str],
    now: datetime | None = None,
) -> Collection[LookupFault]:
    """Compare the former addresses and ways in of the credentials of a user with the look-up values beside them that are good.

    None: the user has no credentials. Credentials that do not open are no fault here.
    """
    try:
        credentials = open_stored(ring, stored) if stored else None
    except Tampered:
        return ()
    now = now or datetime.now(UTC)
    named = list[tuple[bool, Collection[str]]]()
    if credentials:
        named += [
            (one.until - _CLOCKS_APART > now, former_lookups_of(ring, one.address))
            for one in credentials.former
        ]
        named += [(True, tags.values()) for tags in way_in_tags(ring, credentials)]
    faults = list[LookupFault]()
    if not set(lookups) <= {value for _, values in named for value in values}:
        faults.append(LookupFault.UNNAMED)
    if any(is_due and not set(values) & set(lookups) for is_due, values in named):
        faults.append(LookupFault.MISSING)
    return faults
