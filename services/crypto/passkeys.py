"""The field of a credentials document that holds the user's passkeys.

The field is a JSON object with these fields:

user_handle .. 64 octets in base64url
is_factor .... true if sign-ins require a passkey after the password or a mailed code
each ......... the passkeys, the oldest first, at most 20. Each is an object of `id`, the credential id, and `key`, the
               public key (COSE), both in base64url; `count`, the sign count; `rp`, the id of the relying party;
               `name`; `made` and `used`, the times of its creation and its last use, in seconds since 1970 (`used`
               is null if it was never used); the booleans `synced` (`Passkey.is_synced`) and `verifies`
               (`Passkey.verifies_user`); `transports`, a list of names that WebAuthn defines
"""

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import cast

from services.crypto.vault import decode_base64url, encode_base64url
from services.domain.passkeys import Passkey, Passkeys, Transport

# the number of fields of the whole object, and of each passkey in it
_PASSKEYS_FIELDS, _PASSKEY_FIELDS = 3, 10


def written(passkeys: Passkeys) -> Mapping[str, object]:
    """Convert *passkeys* to the value of the document's field."""
    return {
        "user_handle": encode_base64url(passkeys.user_handle),
        "is_factor": passkeys.is_factor,
        "each": [
            {
                "id": encode_base64url(one.credential_id),
                "key": encode_base64url(one.public_key),
                "count": one.sign_count,
                "rp": one.rp_id,
                "name": one.name,
                "made": int(one.created_at.timestamp()),
                "used": one.last_used_at and int(one.last_used_at.timestamp()),
                "synced": one.is_synced,
                "verifies": one.verifies_user,
                "transports": list(one.transports),
            }
            for one in passkeys.each
        ],
    }


def read(value: object) -> Passkeys | None:
    """Read the passkeys in the field's *value*; None if *value* is None.

    Raise ValueError if this version cannot read all of it.
    """
    match value:
        case None:
            return None
        case {
            "user_handle": str(user_handle),
            "is_factor": bool(is_factor),
            "each": list(),
        } if len(fields := cast(dict[str, list[object]], value)) == _PASSKEYS_FIELDS:
            return Passkeys(
                user_handle=decode_base64url(user_handle) or b"",
                is_factor=is_factor,
                each=tuple(map(_read, fields["each"])),
            )
        case _:
            raise ValueError("passkeys of a newer version")


def used(value: object, passkey: Passkey) -> object:
    """Return the field's *value* after a use of *passkey*, whose new state replaces the stored one.

    Return *value* unchanged if it lacks the passkey, or if this version of the app cannot read it.
    """
    with suppress(ValueError, OverflowError, OSError):
        if passkeys := read(value):
            return written(passkeys.used(passkey))
    return value


def _read(value: object) -> Passkey:
    """Read one passkey. Raise ValueError, OverflowError or OSError if this version cannot read it."""
    match value:
        case {
            "id": str(credential_id),
            "key": str(public_key),
            "count": int(count),
            "rp": str(rp_id),
            "name": str(name),
            "made": int(made),
            "used": int() | None as used,
            "synced": bool(is_synced),
            "verifies": bool(verifies_user),
            "transports": list(),
        } if len(fields := cast(dict[str, list[str]], value)) == _PASSKEY_FIELDS:
            return Passkey(
                credential_id=decode_base64url(credential_id) or b"",
                public_key=decode_base64url(public_key) or b"",
                sign_count=count,
                rp_id=rp_id,
                name=name,
                created_at=_time(made),
                last_used_at=None if used is None else _time(used),
                is_synced=is_synced,
                verifies_user=verifies_user,
                transports=tuple(map(Transport, fields["transports"])),
            )
        case _:
            raise ValueError("a passkey of a newer version")


def _time(seconds: int) -> datetime:
    """Convert *seconds* since 1970 to a time in UTC. Raise ValueError, OverflowError or OSError if out of range."""
    return datetime.fromtimestamp(seconds, UTC)
