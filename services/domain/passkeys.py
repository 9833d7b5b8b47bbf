"""Passkeys (WebAuthn credentials) in the form in which they are stored, and the site for which they are made."""

from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from ipaddress import ip_address
from urllib.parse import urlsplit

from services.domain.hosts import is_localhost

MOST_PASSKEYS = 20  # maximum passkeys of one user
USER_HANDLE_BYTES = 64
LONGEST_PASSKEY_NAME = 60  # characters
LONGEST_CREDENTIAL_ID = 1023  # octets (WebAuthn Level 3, section 4)
LONGEST_PUBLIC_KEY = 1024  # octets; an RSA key of 4096 bits has about 530
_MOST_SIGN_COUNT = 2**32 - 1


class Transport(StrEnum):
    """The ways in which a browser reaches a passkey's authenticator."""

    USB = "usb"
    NFC = "nfc"
    BLE = "ble"
    SMART_CARD = "smart-card"
    HYBRID = "hybrid"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Passkey:
    """The public half of a user's passkey."""

    credential_id: bytes = field(repr=False)
    public_key: bytes = field(repr=False)  # COSE (RFC 9052)
    sign_count: int  # the authenticator's counter at the last use; always 0 if it has none
    rp_id: str = field(repr=False)  # the host name of the relying party
    name: str = field(repr=False)  # the user may change the name
    created_at: datetime  # in UTC, whole seconds
    last_used_at: datetime | None = None
    is_synced: bool = False  # true: the passkey is backed up, or is on several devices
    # true: the authenticator asked for a PIN or a biometric when it made the passkey
    verifies_user: bool = False
    transports: tuple[Transport, ...] = ()

    def __post_init__(self) -> None:
        """Raise ValueError if a field is out of bounds."""
        if not 0 < len(self.credential_id) <= LONGEST_CREDENTIAL_ID:
            raise ValueError("a credential id has 1 to 1,023 octets")
        if not 0 < len(self.public_key) <= LONGEST_PUBLIC_KEY:
            raise ValueError("a public key has 1 to 1,024 octets")
        if not 0 <= self.sign_count <= _MOST_SIGN_COUNT:
            raise ValueError("a sign count has 32 bits")
        if not self.rp_id or not 0 < len(self.name) <= LONGEST_PASSKEY_NAME:
            raise ValueError("a passkey has a relying party, and a name of at most 60 characters")


@dataclass(frozen=True, slots=True, kw_only=True)
class Passkeys:
    """The passkeys of a user."""

    user_handle: bytes = field(repr=False)  # random octets by which passkeys identify the user
    each: tuple[Passkey, ...] = ()  # oldest first
    is_factor: bool = False  # true: a passkey is asked for after the password or a mailed code

    def __post_init__(self) -> None:
        """Raise ValueError if the user handle does not have 64 octets, if there are too many passkeys, if two have the same
        id, or if `is_factor` is true without any passkey.
        """
        if len(self.user_handle) != USER_HANDLE_BYTES:
            raise ValueError("a user handle has 64 octets")
        if len({one.credential_id for one in self.each}) != len(self.each):
            raise ValueError("a user has each passkey once")
        if not self.is_factor <= len(self.each) <= MOST_PASSKEYS:
            raise ValueError("a user has at most 20 passkeys, and one if it is asked for")

    def used(self, passkey: Passkey) -> "Passkeys":
        """Return the passkeys after *passkey* was used: the entry with the same id and public key is updated."""
        each = tuple(
            replace(
                one,
                sign_count=max(one.sign_count, passkey.sign_count),
                last_used_at=passkey.last_used_at,
                is_synced=passkey.is_synced,
            )
            if (one.credential_id, one.public_key) == (passkey.credential_id, passkey.public_key)
            else one
            for one in self.each
        )
        return replace(self, each=each)


@dataclass(frozen=True, slots=True, kw_only=True)
class RelyingParty:
    """The site that passkeys are made for."""

    id: str = field(repr=False)  # the host name that browsers bind a passkey to
    origin: str = field(repr=False)  # the one origin whose responses are accepted


def relying_party(public_url: str | None, scheme: str, host: str) -> RelyingParty | None:
    """Return the relying party of a page, or None if browsers offer no passkeys there (see `PasskeysUnusable`).

    The relying party is the host of *public_url* (DAYBOOK_URL, without a path). If *public_url* is None, it is the host in
    the address bar (*scheme*, and *host* with the port), but only localhost or a name below it: an attacker's DNS could
    point any other name at this server. Browsers offer no passkeys for IP addresses, and over http only for localhost.
    """
    origin = public_url or f"{scheme}://{host}"
    try:
        parts = urlsplit(origin)
    except ValueError:
        return None
    name = parts.hostname or ""
    if is_localhost(name) or (public_url and parts.scheme == "https" and not _is_ip(name)):
        return RelyingParty(id=name, origin=origin)
    return None


def _is_ip(name: str) -> bool:
    with suppress(ValueError):
        ip_address(name)
        return True
    return False
