"""Read, check and change the credentials of accounts, for the operator's commands."""

from collections.abc import Collection, Generator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from services.crypto import Credentials, RootKeys, hash_password
from services.domain import UserId
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
from services.identity.passkeys import without_refused_passkeys
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

# the clocks of the app and the store may differ by this much, so a look-up value may expire earlier than the credentials say
_CLOCKS_APART = timedelta(minutes=5)
_CHANGED = "The account was changed at the same time: try again."
_ONLY_ADMIN = (
    "This is the only admin. To give the account another address, run `set-address`; to free this one, make another account "
    "an admin first (`grant-admin`)."
)
_ONLY_PASSKEYS = "This account has no second factor. The option --passkeys removes its passkeys."
_CONFIRMED = "This address was confirmed by the account's user, and stays with the account."


def open_account(
    operator: Operator, ring: RootKeys, email: EmailAddress
) -> tuple[StoredCredentials, Credentials]:
    """Return the credentials of the account *email*: as they are stored, and decrypted.

    Raise BadInput (no such account), NewerVersion, Misconfigured (the credentials are gone, or cannot be decrypted).
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
    """Give the account *email* a new password, and end all its sessions; return True if its address was confirmed before.

    The user can sign in with that password even if `SignInPolicy` has disabled passwords. If the account has no address
    (as in a deployment without sign-in), it gets *email*, which then counts as confirmed; otherwise its address stays.

    Raise WeakPassword, BadInput (no such account, or it was changed at the same time), and the errors of
    `open_account`.
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
    """Change the address *email* of an account to *new*, which then counts as confirmed; return True if *email* was confirmed.

    The same address confirms *email*. All sessions end. The account's former addresses become free: the user cannot restore them.

    Raise BadInput (no such account, or it was changed at the same time; another account has the address *new*, or may
    restore it), and the errors of `open_account`.
    """
    stored, credentials = open_account(operator, ring, email)
    if credentials.address != email:
        raise BadInput("This account has no address yet: `set-password` gives it one.")
    if new == email and credentials.confirmed:
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
    """An account with an identity at the old issuer, after the attempt to move the identity to the new issuer."""

    address: EmailAddress = field(repr=False)
    is_confirmed: bool  # True: the address is confirmed
    problem: str = ""  # if the identity was not moved: the reason, as a sentence


def move_issuer(operator: Operator, ring: RootKeys, old: str, new: str) -> Generator[MovedAccount]:
    """Change the issuer of identities from *old* to *new*, account by account; yield each account that has such an identity.

    The sessions of these accounts end. After an interrupted call, another call moves the remaining accounts.

    Raise BadInput if *new* is not an issuer's URL, and Misconfigured if the store cannot be used.
    """
    if new == old or not is_address(new) or "?" in new:
        raise BadInput(
            "The new issuer should be another https address, as the provider's metadata has it."
        )
    for stored in operator.credentials():
        # skip credentials that cannot be decrypted; `operate check` reports them
        with suppress(Tampered):
            credentials = open_stored(ring, stored)
            if moved := credentials.with_issuer(old, new):
                problem = _move(operator, ring, stored, moved)
                yield MovedAccount(moved.address, moved.confirmed is not None, problem)


def _move(operator: Operator, ring: RootKeys, stored: StoredCredentials, moved: Credentials) -> str:
    """Replace *stored* with *moved*; return "" or, if the store refused the change, a sentence that says why."""
    row, action = (
        seal_stored(ring, moved, stored.id, replaces=stored),
        CredentialsAction.IDENTITY_MOVED,
    )
    # use the root key that sealed the credentials, so that their look-up values need no second root key
    ways_in = ways_in_of(ring.of(stored.sealed), moved)
    try:
        is_moved = operator.change_credentials(
            row, stored.generation, action=action, ways_in=ways_in
        )
    except WayInTaken:
        return "Another account has the same identity."
    return "" if is_moved else _CHANGED


def has_way_in(ring: RootKeys, policy: SignInPolicy | None, stored: StoredCredentials) -> bool:
    """Return False if the credentials can be decrypted, but give the user no way to sign in on this deployment.

    *policy*: None for a deployment without sign-in, which the user of an account without an address needs.
    """
    try:
        credentials = open_stored(ring, stored)
    except Tampered:
        return True
    if policy is None:
        return credentials.address == NO_ADDRESS
    return policy.has_way_in(without_refused_passkeys(credentials))


def holds_refused_passkey(ring: RootKeys, stored: StoredCredentials) -> bool:
    """Return True if the credentials can be decrypted and contain a passkey whose public key is not accepted."""
    try:
        credentials = open_stored(ring, stored)
    except Tampered:
        return False
    return without_refused_passkeys(credentials) != credentials


def _confirmed() -> Confirmed:
    at = datetime.now(UTC).replace(microsecond=0)
    return Confirmed(how=ConfirmedBy.OPERATOR, at=at)


def free_address(operator: Operator, ring: RootKeys, email: EmailAddress) -> EmailAddress:
    """Take *email* from an account that never confirmed it, and end all sessions; return the account's placeholder.

    The account keeps its texts and its password. The address is not reserved: the owner of the mailbox can sign up with it.

    Raise BadInput (no such account, the last admin's, or it was changed at the same time; the address was confirmed, or is a
    placeholder), and the errors of `open_account`.
    """
    stored, credentials = open_account(operator, ring, email)
    if operator.is_last_admin(UserId(stored.id)):
        raise BadInput(_ONLY_ADMIN)
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


def reset_factors(
    operator: Operator, ring: RootKeys, email: EmailAddress, *, keeps_passkeys: bool = True
) -> bool:
    """Remove the second factor and the recovery codes of the account *email*; return True if its address is confirmed.

    All sessions end. A user who restores a former address does not get the factor back. Passkeys no longer serve as a
    second factor; *keeps_passkeys*: False removes them, too, and what a former address has of them.

    Raise BadInput (no such account; nothing to remove, not even with a former address; or the account was changed at
    the same time), and the errors of `open_account`.
    """
    stored, credentials = open_account(operator, ring, email)
    has_passkeys = credentials.passkeys is not None and credentials.passkeys.each != ()
    new = credentials.without_factor(keeps_passkeys=keeps_passkeys)
    # compare the whole credentials, because a former address may have a factor that the present address lacks
    if replace(new, generation=credentials.generation) == credentials:
        raise BadInput(_ONLY_PASSKEYS if has_passkeys else "This account has no second factor.")
    row = seal_stored(ring, new, stored.id, replaces=stored)
    removed, ways_in = CredentialsAction.FACTOR_REMOVED, None
    if has_passkeys and not keeps_passkeys:
        # use the root key that sealed the credentials, so that their look-up values need no second root key
        removed, ways_in = CredentialsAction.PASSKEY_REMOVED, ways_in_of(ring.of(row.sealed), new)
    if not operator.change_credentials(row, stored.generation, action=removed, ways_in=ways_in):
        raise BadInput(_CHANGED)
    return credentials.confirmed is not None


def opens(ring: RootKeys, stored: StoredCredentials) -> bool:
    """Return False if the credentials cannot be decrypted, or if their look-up value does not match the address in them."""
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
    """Compare *lookups* with a user's credentials (identities, passkeys and former addresses); return the differences.

    *stored*: None if the user has no credentials; *lookups*: the user's look-up values that have not expired. Credentials
    that cannot be decrypted are not reported here.
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
