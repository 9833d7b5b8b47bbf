"""The credentials of an account, opened for the operator's commands."""

from collections.abc import Collection, Generator
from contextlib import suppress
from dataclasses import dataclass, field, replace
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
from services.errors import (
    AddressTaken,
    BadInput,
    Misconfigured,
    NewerVersion,
    Tampered,
    WayInTaken,
)
from services.provider_settings import is_address
from services.store.backend import StoredCredentials
from services.store.credentials import (
    claims_of,
    former_lookups_of,
    lookups_of,
    open_stored,
    seal_stored,
    way_in_tags,
    ways_in_of,
)
from services.store.operator import LookupFault, Operator
from services.store.sign_in_policy import SignInPolicy

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

    The password opens the account also where `SignInPolicy` has passwords off. An address that it gives is confirmed, one that the
    account had is as it was. Return True if the user had confirmed it.

    Raise WeakPassword, BadInput (no such account, or it was changed at the same time), and the errors of `open_account`.
    """
    check_new_password(email, password)
    stored, credentials = open_account(operator, ring, email)
    new = replace(
        credentials,
        address=email,
        password_hash=hash_password(password),
        has_operator_password=True,
        generation=credentials.generation + 1,
    )
    first_address = email if credentials.address == NO_ADDRESS else None
    if first_address:
        new = replace(new, confirmed=_confirmed())
    row = seal_stored(ring, new, stored.id, replaces=stored)
    if not operator.change_credentials(row, stored.generation, first_address):
        raise BadInput(_CHANGED)
    return credentials.confirmed is not None


def set_address(operator: Operator, ring: RootKeys, email: EmailAddress, new: EmailAddress) -> bool:
    """Give the account *email* the address *new*, which is then confirmed, and end all sessions; return True if *email* was confirmed.

    The earlier addresses of the account are free: its user cannot take them back.

    Raise BadInput (no such account, or it was changed at the same time; another account has *new*, or may take it back), and
    the errors of `open_account`.
    """
    stored, credentials = open_account(operator, ring, email)
    if credentials.address != email:
        raise BadInput("This account has no address yet: `set-password` gives it one.")
    if new == email:
        raise BadInput("The account has this address already.")
    moved = replace(
        credentials,
        address=new,
        confirmed=_confirmed(),
        former=(),
        generation=credentials.generation + 1,
    )
    row, action = (
        seal_stored(ring, moved, stored.id, replaces=stored),
        CredentialsAction.ADDRESS_SET,
    )
    claims = claims_of(ring, new)
    try:
        is_set = operator.change_credentials(row, stored.generation, new, action, claims)
    except AddressTaken:
        raise BadInput(f"Another account has {new}, or may take it back.") from None
    if not is_set:
        raise BadInput(_CHANGED)
    return credentials.confirmed is not None


@dataclass(frozen=True, slots=True)
class MovedAccount:
    """An account whose identity was at an issuer that has another name now."""

    address: EmailAddress = field(repr=False)
    is_confirmed: bool  # the address
    problem: str = ""  # a sentence, if nothing was changed


def move_issuer(operator: Operator, ring: RootKeys, old: str, new: str) -> Generator[MovedAccount]:
    """Have the identities at the issuer *old* be at *new*, one account after the other; yield each that has one.

    Their sessions end. A call that was cut short goes on when it is called again.

    Raise BadInput (*new* is no issuer), Misconfigured.
    """
    if new == old or not is_address(new) or "?" in new:
        raise BadInput(
            "The new issuer should be another https address, as the provider's metadata has it."
        )
    for stored in operator.credentials():
        with suppress(Tampered):  # `check` names these
            credentials = open_stored(ring, stored)
            if moved := credentials.with_issuer(old, new):
                problem = _move(operator, ring, stored, moved)
                yield MovedAccount(moved.address, moved.confirmed is not None, problem)


def _move(operator: Operator, ring: RootKeys, stored: StoredCredentials, moved: Credentials) -> str:
    """Store *moved* in place of *stored*; return a sentence if that was refused."""
    row, action = (
        seal_stored(ring, moved, stored.id, replaces=stored),
        CredentialsAction.IDENTITY_MOVED,
    )
    ways_in = ways_in_of(ring, moved)
    try:
        is_moved = operator.change_credentials(
            row, stored.generation, action=action, ways_in=ways_in
        )
    except WayInTaken:
        return "Another account has the same identity."
    return "" if is_moved else _CHANGED


def has_way_in(ring: RootKeys, policy: SignInPolicy, stored: StoredCredentials) -> bool:
    """Return False for credentials that open, and hold nothing that lets their user in on the deployment."""
    try:
        return policy.has_way_in(open_stored(ring, stored))
    except Tampered:
        return True


def _confirmed() -> Confirmed:
    at = datetime.now(UTC).replace(microsecond=0)
    return Confirmed(how=ConfirmedBy.OPERATOR, at=at)


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
