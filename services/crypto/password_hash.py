"""Hashes of users' passwords with Argon2id (RFC 9106), stored as PHC strings.

A password is normalised to NFC and encoded in UTF-8. The salt has 16 random octets, the hash 32 octets. The cost is
64 MiB and 3 passes, in one Argon2 lane, because more lanes would only occupy more threads.
"""

import os
from contextlib import suppress

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from services.domain.safe_text import normalize
from services.errors import Tampered

_SALT_BYTES, _HASH_BYTES = 16, 32
_MEMORY_KIB, _PASSES, _LANES = 65_536, 3, 1
# a salt and a hash that match no known password; a password for an unknown user is compared with them, so that the response
# time does not reveal whether a user exists
_ANY = f"{'A' * 22}${'A' * 43}"


def hash_password(password: str) -> str:
    """Return a new hash of *password*. Hashing takes about 0.2 s of one core and 64 MiB of memory."""
    argon2 = Argon2id(
        salt=os.urandom(_SALT_BYTES),
        length=_HASH_BYTES,
        iterations=_PASSES,
        lanes=_LANES,
        memory_cost=_MEMORY_KIB,
    )
    return argon2.derive_phc_encoded(_octets(password))


def check_password(password: str, hashed: str | None) -> bool:
    """Return True if *hashed* is a hash of *password*. For None (no user or password), return False after equal work.

    Raise Tampered, without hashing, if *hashed* has other cost parameters than this module uses, because the library would
    accept any parameters.
    """
    costs = f"$argon2id$v=19$m={_MEMORY_KIB},t={_PASSES},p={_LANES}$"
    if hashed is not None and not (hashed.startswith(costs) and len(hashed) == len(costs + _ANY)):
        raise Tampered
    with suppress(InvalidKey):
        Argon2id.verify_phc_encoded(_octets(password), hashed or costs + _ANY)
        return hashed is not None
    return False


def _octets(password: str) -> bytes:
    # new passwords never have lone surrogates, but a wrong password at sign-in may have some, and must not cause an error
    return normalize("NFC", password).encode(errors="surrogatepass")
