"""Sealing, key wrapping and server proofs; the database never holds a usable key or readable text."""

from services.crypto.keyring import RootKeys, UserKey, UserKeys, VaultRing, new_key
from services.crypto.proof import ServerProof, sha
from services.crypto.vault import LARGEST_TEXT, Head, Place, Vault, token_version

__all__ = [
    "LARGEST_TEXT",
    "Head",
    "Place",
    "RootKeys",
    "ServerProof",
    "UserKey",
    "UserKeys",
    "Vault",
    "VaultRing",
    "new_key",
    "sha",
    "token_version",
]
