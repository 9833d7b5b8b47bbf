"""Encryption and decryption of stored credentials, and the look-up values by which credentials are found."""

from uuid import UUID

from services.crypto import Credentials, RootKeys, open_credentials, seal_credentials
from services.domain import UserId
from services.domain.addresses import EmailAddress
from services.errors import Tampered
from services.store.backend import StoredCredentials


def lookups_of(root_keys: RootKeys, email: EmailAddress) -> tuple[str, ...]:
    """Return the look-up values (HMACs) of *email*, one for each root key."""
    return tuple(root_keys.address_tags(email).values())


def former_lookups_of(root_keys: RootKeys, email: EmailAddress) -> tuple[str, ...]:
    """Return the look-up values (HMACs) of *email* as a former address, one for each root key."""
    return tuple(root_keys.former_address_tags(email).values())


def way_in_tags(root_keys: RootKeys, credentials: Credentials) -> list[dict[int, str]]:
    """Return the look-up values, keyed by root key version, of each of a user's identities and passkeys."""
    identities = [root_keys.identity_tags(one.identity) for one in credentials.identities]
    passkeys = credentials.passkeys.each if credentials.passkeys else ()
    return [*identities, *(root_keys.passkey_tags(one.credential_id) for one in passkeys)]


def ways_in_of(root_keys: RootKeys, credentials: Credentials) -> tuple[str, ...]:
    """Return the look-up values of the identities and passkeys of a user under the current root key."""
    return tuple(tags[root_keys.current] for tags in way_in_tags(root_keys, credentials))


def renamed_lookups(root_keys: RootKeys, credentials: Credentials) -> dict[str, str]:
    """Map a user's look-up values under other root keys to the values under the current one.

    They are the values of former addresses, identities and passkeys.
    """
    current = root_keys.current
    former = [root_keys.former_address_tags(one.address) for one in credentials.former]
    return {
        value: tags[current]
        for tags in (*former, *way_in_tags(root_keys, credentials))
        for version, value in tags.items()
        if version != current
    }


def claims_of(root_keys: RootKeys, email: EmailAddress) -> tuple[str, ...]:
    """Return the look-up values of *email*: as the current address of an account, and as a former address."""
    return (*lookups_of(root_keys, email), *former_lookups_of(root_keys, email))


def open_stored(
    root_keys: RootKeys, stored: StoredCredentials, email: EmailAddress | None = None
) -> Credentials:
    """Decrypt credentials; *email*: the address that they must contain. Raise Tampered, or NewerVersion (newer format)."""
    credentials = open_credentials(root_keys, stored.sealed, stored.id)
    is_pending = stored.user_id is None
    if (
        (credentials.is_pending, credentials.generation) != (is_pending, stored.generation)
        or (credentials.uses, credentials.wants_factor) != (stored.uses, stored.wants_factor)
        or stored.user_id not in (None, stored.id)
        or email not in (None, credentials.address)
    ):
        raise Tampered
    return credentials


def seal_stored(
    root_keys: RootKeys,
    credentials: Credentials,
    owner_id: UUID,
    replaces: StoredCredentials | None = None,
) -> StoredCredentials:
    """Seal credentials under the current root key; *owner_id*: the user's id, or the row's id while the sign-up is pending.

    *replaces*: the stored row, if the look-up values that belong to it stay unchanged. The credentials are then sealed
    under the root key of that row; when a session is next opened, the credentials and the look-up values are replaced
    under the current root key. So no look-up value needs an older root key than the credentials, and
    `Backend.root_key_versions`, which reads only the key versions of credentials, covers both.
    """
    if replaces:
        root_keys = root_keys.of(replaces.sealed)
    return StoredCredentials(
        id=owner_id,
        user_id=None if credentials.is_pending else UserId(owner_id),
        lookup=root_keys.address_tags(credentials.address)[root_keys.current],
        sealed=seal_credentials(root_keys, credentials, owner_id),
        generation=credentials.generation,
        uses=credentials.uses,
        wants_factor=credentials.wants_factor,
    )
