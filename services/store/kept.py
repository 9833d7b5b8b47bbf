"""The passkeys and identities that a reset of the password keeps or removes. Pure.

A form lists them by marks: the kind of each and the day on which it was added, as in "passkey.2026-11-26". So no address
holds the name of one.
"""

from collections.abc import Collection
from dataclasses import replace
from datetime import date, datetime

from services.crypto import Credentials
from services.domain.passkeys import Passkey
from services.domain.single_sign_on import LinkedIdentity

_PASSKEY, _IDENTITY = "passkey", "identity"


def marks(credentials: Credentials) -> tuple[str, ...]:
    """Return the marks of the passkeys and identities, each once."""
    passkeys = credentials.passkeys.each if credentials.passkeys else ()
    return tuple(dict.fromkeys(map(_mark, (*passkeys, *credentials.identities))))


def without(credentials: Credentials, gone: Collection[str]) -> Credentials:
    """Return the credentials without the passkeys and identities that have a mark of *gone*."""
    passkeys = credentials.passkeys
    if passkeys:
        each = tuple(one for one in passkeys.each if _mark(one) not in gone)
        passkeys = replace(passkeys, each=each, is_factor=passkeys.is_factor and bool(each))
    identities = tuple(one for one in credentials.identities if _mark(one) not in gone)
    return replace(credentials, passkeys=passkeys, identities=identities)


def without_newer(credentials: Credentials, since: datetime) -> Credentials:
    """Return the credentials without the passkeys and identities that were added after *since*.

    The passkeys stay where no second factor would be left without them: what is asked for is not lost by its age.
    """
    identities = tuple(one for one in credentials.identities if one.created_at <= since)
    left = replace(credentials, identities=identities)
    if passkeys := credentials.passkeys:
        each = tuple(one for one in passkeys.each if one.created_at <= since)
        is_factor = passkeys.is_factor and bool(each)
        left = replace(left, passkeys=replace(passkeys, each=each, is_factor=is_factor))
    if credentials.wants_factor and not left.wants_factor:
        left = replace(left, passkeys=credentials.passkeys)
    return left


def read_marks(text: str) -> tuple[str, ...]:
    """Return the marks in *text*, which separates them by tildes; what is none is left out."""
    return tuple(one for one in text.split("~") if _is_mark(one))


def _mark(one: Passkey | LinkedIdentity) -> str:
    return f"{_PASSKEY if isinstance(one, Passkey) else _IDENTITY}.{one.created_at.date()}"


def _is_mark(text: str) -> bool:
    kind, _, day = text.partition(".")
    try:
        return kind in (_PASSKEY, _IDENTITY) and str(date.fromisoformat(day)) == day
    except ValueError:
        return False
