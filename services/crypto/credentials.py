"""The credentials of one user: the document that opens an account, and its seal.

A document is a JSON object. This version of the app writes and reads

    version .......... 1
    state ............ "pending" until the row belongs to a user, then "set"
    address .......... the address that the user signs in with
    hash ............. the hash of the password (password_hash.py); null: the account has no password
    account_secret ... 32 octets in base64url, made when the row is bound to its user; null while it is pending
    managed_password . the user's random password at Supabase Auth
    generation ....... a number that grows by one with each change of a way in
    invitation ....... the code of the invitation that a pending sign-up has, or null
    confirmed ........ how and when the address was confirmed: an object of `how` ("code": a code of ours, "operator":
                       a command gave the account this address, "provider") and `at`, in seconds since 1970; null,
                       or left out: it never was

and keeps fields that it does not know. A document that it cannot read raises NewerVersion. keyring.py gives the place
at which credentials are sealed.
"""

import json
import secrets
import string
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from services.crypto.keyring import RootKeys
from services.crypto.vault import KEY_BYTES, decode_base64url, encode_base64url
from services.domain.addresses import Confirmed, ConfirmedBy, EmailAddress
from services.errors import NewerVersion

_VERSION = 1
_MANAGED_CHARACTERS = 40
# Supabase Auth can require a character of each class
_CLASSES = (string.ascii_lowercase, string.ascii_uppercase, string.digits, "!#$%&()*+-=?@[]^_{}~")


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """The credentials of one user, or of a sign-up that is pending: then there is no account secret yet."""

    address: EmailAddress = field(repr=False)
    password_hash: str | None = field(repr=False)
    account_secret: bytes | None = field(repr=False)
    managed_password: str = field(repr=False)
    generation: int
    invitation: str | None = field(default=None, repr=False)
    confirmed: Confirmed | None = field(default=None, repr=False)  # None: the address never was
    # fields that only a newer version of the app knows
    newer: Mapping[str, object] = field(default_factory=dict[str, object], repr=False)

    def __post_init__(self) -> None:
        """Raise ValueError if the account secret has another size."""
        if self.account_secret is not None and len(self.account_secret) != KEY_BYTES:
            raise ValueError("an account secret has 32 octets")

    @property
    def is_pending(self) -> bool:
        return self.account_secret is None


def seal_credentials(root_keys: RootKeys, credentials: Credentials, owner_id: UUID) -> str:
    """Seal *credentials*; *owner_id* is the user's id, or that of the row while they are pending."""
    return root_keys.seal_credentials(_document(credentials), owner_id)


def open_credentials(root_keys: RootKeys, token: str, owner_id: UUID) -> Credentials:
    """Open the credentials of *owner_id*. Raise Tampered, NewerVersion."""
    credentials = _read(root_keys.open_credentials(token, owner_id))
    if credentials is None:
        raise NewerVersion
    return credentials


def managed_password() -> str:
    """Return a random password for a user at Supabase Auth: 40 characters of four classes, some 250 bits."""
    while True:
        password = "".join(secrets.choice("".join(_CLASSES)) for _ in range(_MANAGED_CHARACTERS))
        if all(set(password) & set(each) for each in _CLASSES):
            return password


def _document(credentials: Credentials) -> str:
    secret = credentials.account_secret
    known: dict[str, object] = {
        "version": _VERSION,
        "state": "pending" if credentials.is_pending else "set",
        "address": credentials.address,
        "hash": credentials.password_hash,
        "account_secret": None if secret is None else encode_base64url(secret),
        "managed_password": credentials.managed_password,
        "generation": credentials.generation,
        "invitation": credentials.invitation,
    }
    if confirmed := credentials.confirmed:
        known["confirmed"] = {"how": confirmed.how, "at": int(confirmed.at.timestamp())}
    return json.dumps({**credentials.newer, **known}, ensure_ascii=False)


def _read(text: str) -> Credentials | None:
    """Return the credentials, or None on failure, because an exception's traceback would hold the document."""
    try:
        document: Mapping[str, object] = json.loads(text)
    except ValueError:
        return None
    match document:
        case {
            "version": 1,
            "state": "pending" | "set" as state,
            "address": str(address),
            "hash": str() | None as hashed,
            "account_secret": str() | None as secret,
            "managed_password": str(managed),
            "generation": int(generation),
            "invitation": str() | None as invitation,
            **newer,
        }:
            with suppress(ValueError, OverflowError, OSError):
                confirmed = _confirmed(newer.pop("confirmed", None))
                credentials = Credentials(
                    address=EmailAddress(address),
                    password_hash=hashed,
                    account_secret=None if secret is None else decode_base64url(secret),
                    managed_password=managed,
                    generation=generation,
                    invitation=invitation,
                    confirmed=confirmed,
                    newer=newer,
                )
                return credentials if credentials.is_pending == (state == "pending") else None
        case _:
            pass
    return None


def _confirmed(value: object) -> Confirmed | None:
    """Read a confirmation. Raise ValueError if this version cannot."""
    match value:
        case None:
            return None
        case {"how": str(how), "at": int(at)}:
            return Confirmed(how=ConfirmedBy(how), at=datetime.fromtimestamp(at, UTC))
        case _:
            raise ValueError("a confirmation of a newer version")
