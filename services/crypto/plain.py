"""Keys and vaults for a store without encryption, in which each stored token is the readable text itself."""

import hashlib
from uuid import UUID

from services.crypto.keyring import UserKeys
from services.crypto.vault import (
    KEY_BYTES,
    Head,
    Place,
    Vault,
    decode_base64url,
    encode_base64url,
)
from services.errors import Tampered

_NO_KEY = bytes(KEY_BYTES)


class PlainVault(Vault):
    """A `Vault` that encrypts nothing. Heads have counts but no MAC, so that texts can be edited by hand in the store."""

    __slots__ = ()

    def seal(self, plaintext: str, place: Place) -> str:
        return plaintext

    def open(self, token: str, place: Place) -> str:
        return token

    def seal_octets(self, octets: bytes, place: Place) -> str:
        return encode_base64url(octets)

    def open_octets(self, token: str, place: Place) -> bytes:
        """Decode *token*. Raise Tampered if it is not valid base64url."""
        octets = decode_base64url(token)
        if octets is None:
            raise Tampered
        return octets

    def row_mac(self, token: str, place: Place, attachments: str | None = None) -> bytes:
        return b""

    def piece_mac(self, token: str, place: Place) -> bytes:
        return hashlib.sha256(token.encode()).digest()

    def seal_head(self, head: Head, user_id: UUID, conversation_id: UUID) -> str:
        return f"{head.rev} {head.count} {head.last_seq}"

    def open_head(self, token: str, user_id: UUID, conversation_id: UUID) -> Head:
        """Parse the head in *token*. Raise Tampered if *token* is not a head."""
        try:
            return Head(*map(int, token.split()))
        except (ValueError, TypeError):
            raise Tampered from None


NO_VAULT = PlainVault(_NO_KEY)


class PlainKeys(UserKeys):
    """The `UserKeys` of a user whose texts are not sealed."""

    __slots__ = ()

    def unwrap(
        self, token: str, user_key_version: int, conversation_id: UUID, key_version: int
    ) -> bytes:
        return _NO_KEY

    def conversation_vault(self, key: bytes, version: int = 1) -> Vault:
        return PlainVault(_NO_KEY, version)

    def vault(self, purpose: str) -> Vault:
        return NO_VAULT

    def open(self, purpose: str, token: str, place: Place) -> str:
        return token
