"""The passkeys and identities that a password reset keeps or removes. Pure functions.

Forms and their URLs name each item by a mark: its kind, the minute in which it was added (UTC), and a hash of its id, for example
"passkey.2026-11-26T09:40Z.0123456789abcdef". Therefore no URL contains the name or the id of a passkey or an identity.
"""

import hashlib
import json
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import UTC, datetime

from services.crypto import Credentials
from services.domain.passkeys import Passkey
from services.domain.single_sign_on import LinkedIdentity

_PASSKEY, _IDENTITY = "passkey", "identity"
_HASH_CHARACTERS = 16  # a mark contains this many hexadecimal digits of a SHA-256 hash


def marks(credentials: Credentials) -> tuple[str, ...]:
    """Return a mark (kind, time and hash of the id) for each of a user's passkeys and identities, without duplicates."""
    passkeys = credentials.passkeys.each if credentials.passkeys else ()
    return tuple(dict.fromkeys(map(_mark, (*passkeys, *credentials.identities))))


def with_only(credentials: Credentials, kept: Collection[str]) -> Credentials:
    """Return the credentials with only those passkeys and identities whose marks are in *kept*."""
    return _filtered(credentials, lambda one: _mark(one) in kept)


def without_newer(credentials: Credentials, since: datetime) -> Credentials:
    """Return the credentials without the passkeys and identities that were added after *since*.

    All passkeys are kept if the account would lose its second factor without the newer ones.
    """
    left = _filtered(credentials, lambda one: one.created_at <= since)
    if credentials.wants_factor and not left.wants_factor:
        left = replace(left, passkeys=credentials.passkeys)
    return left


def _filtered(
    credentials: Credentials, keeps: Callable[[Passkey | LinkedIdentity], bool]
) -> Credentials:
    """Return the credentials with only those passkeys and identities for which *keeps* returns True."""
    passkeys = credentials.passkeys
    if passkeys:
        each = tuple(filter(keeps, passkeys.each))
        passkeys = replace(passkeys, each=each, is_factor=passkeys.is_factor and bool(each))
    identities = tuple(filter(keeps, credentials.identities))
    return replace(credentials, passkeys=passkeys, identities=identities)


def read_marks(text: str) -> tuple[str, ...]:
    """Return the marks in *text*, where tildes separate them; malformed parts are ignored."""
    return tuple(one for one in text.split("~") if _is_mark(one))


def _mark(one: Passkey | LinkedIdentity) -> str:
    if isinstance(one, Passkey):
        kind, own_id = _PASSKEY, one.credential_id.hex()
    else:
        kind, own_id = _IDENTITY, json.dumps([one.identity.issuer, one.identity.subject])
    digest = hashlib.sha256(own_id.encode()).hexdigest()[:_HASH_CHARACTERS]
    return f"{kind}.{_minute(one.created_at)}.{digest}"


def _minute(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%MZ}"


def _is_mark(text: str) -> bool:
    kind, _, rest = text.partition(".")
    at, _, digest = rest.partition(".")
    is_digest = len(digest) == _HASH_CHARACTERS and {*digest} <= {*"0123456789abcdef"}
    try:
        is_dated = _minute(datetime.fromisoformat(at)) == at
        return kind in (_PASSKEY, _IDENTITY) and is_digest and is_dated
    except (ValueError, OverflowError):
        return False
