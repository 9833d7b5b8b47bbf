"""Recovery codes: ten codes of 120 random bits, each usable once in place of an authenticator-app code or a passkey.

A code has 24 characters of Crockford's base32, in groups of four. Only its plain SHA-256 hash is stored. No slow hash is
needed: the codes are random, and 2^120 codes are too many to try.
"""

import hashlib
import secrets
from collections.abc import Iterable

from services.domain.accounts import RECOVERY_CODES

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # without I, L, O and U; 5 bits per character
_LENGTH, _GROUP = 24, 4
_LONGEST_ENTRY = 100  # maximum characters that a user may type for one code
_LOOK_ALIKES = str.maketrans("ILO", "110")


def new_codes() -> tuple[str, ...]:
    """Return ten new codes in the form that users see, such as `7K3M-…`: six groups of four characters."""
    return tuple(_new_code() for _ in range(RECOVERY_CODES))


def recovery_hashes(codes: Iterable[str]) -> tuple[str, ...]:
    """Return the hashes of *codes*, which are stored in place of the codes."""
    return tuple(hashed for code in codes if (hashed := recovery_hash(code)))


def recovery_hash(text: str) -> str | None:
    """Return the SHA-256, in hex, of the code that a user typed; None if *text* does not have the form of a code.

    Case, blanks and hyphens are ignored, and I, L and O are read as 1, 1 and 0.
    """
    if len(text) > _LONGEST_ENTRY or not text.isascii():
        return None
    code = "".join(text.replace("-", " ").split()).upper().translate(_LOOK_ALIKES)
    if len(code) != _LENGTH or not set(code) <= set(_ALPHABET):
        return None
    return hashlib.sha256(code.encode()).hexdigest()


def _new_code() -> str:
    signs = "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))
    return "-".join(signs[start : start + _GROUP] for start in range(0, _LENGTH, _GROUP))
