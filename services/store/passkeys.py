"""Changes to the passkeys in a user's credentials."""

from dataclasses import replace

from services.domain.passkeys import LONGEST_PASSKEY_NAME, MOST_PASSKEYS, Passkey, Passkeys
from services.errors import BadName, PasskeyExists, PasskeyMissing, TooManyPasskeys


def checked_name(text: str) -> str:
    """Return *text*, the name of a passkey or identity, without whitespace around it. Raise BadName if it is invalid."""
    name = text.strip()
    if not 0 < len(name) <= LONGEST_PASSKEY_NAME or not name.isprintable():
        raise BadName
    return name


def added(passkeys: Passkeys, new: Passkey) -> Passkeys:
    """Return the passkeys with a *new* one. Raise TooManyPasskeys, PasskeyExists."""
    if any(one.credential_id == new.credential_id for one in passkeys.each):
        raise PasskeyExists
    if len(passkeys.each) >= MOST_PASSKEYS:
        raise TooManyPasskeys
    return replace(passkeys, each=(*passkeys.each, new))


def renamed(passkeys: Passkeys, credential_id: bytes, name: str) -> Passkeys:
    """Return *passkeys*, with the passkey *credential_id* renamed to *name*. Raise PasskeyMissing, BadName."""
    before = find(passkeys, credential_id)
    after = replace(before, name=checked_name(name))
    return replace(passkeys, each=tuple(after if one is before else one for one in passkeys.each))


def removed(passkeys: Passkeys, credential_id: bytes) -> Passkeys:
    """Return *passkeys* without the passkey *credential_id*; if none is left, set `is_factor` to False.

    Raise PasskeyMissing.
    """
    gone = find(passkeys, credential_id)
    left = tuple(one for one in passkeys.each if one is not gone)
    return replace(passkeys, each=left, is_factor=passkeys.is_factor and bool(left))


def find(passkeys: Passkeys, credential_id: bytes) -> Passkey:
    """Return the passkey with this id. Raise PasskeyMissing."""
    for one in passkeys.each:
        if one.credential_id == credential_id:
            return one
    raise PasskeyMissing
