"""A software authenticator for passkeys: it makes the answers of browsers, and every forged one."""

import json
import secrets
from dataclasses import dataclass, field
from hashlib import sha256

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from services.crypto.vault import decode_base64url, encode_base64url

PRESENT, VERIFIED, ELIGIBLE, SYNCED, ATTESTED, EXTENDED = 1, 4, 8, 16, 64, 128  # flags
KEYS = {
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": Ed25519PrivateKey.generate,
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
}


def cose(key):
    """The public key of *key* as COSE has it."""
    match key.public_key():
        case ec.EllipticCurvePublicKey() as public:
            numbers, size = public.public_numbers(), (public.key_size + 7) // 8
            curve = {256: 1, 384: 2}[public.key_size]
            return {
                1: 2,
                3: -7,
                -1: curve,
                -2: octets(numbers.x, size),
                -3: octets(numbers.y, size),
            }
        case rsa.RSAPublicKey() as public:
            numbers = public.public_numbers()
            e = octets(numbers.e, (numbers.e.bit_length() + 7) // 8)
            return {1: 3, 3: -257, -1: octets(numbers.n, public.key_size // 8), -2: e}
        case public:
            raw = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
            return {1: 1, 3: -8, -1: 6, -2: raw}


def octets(number, size):
    return number.to_bytes(size)


def sign(key, data):
    match key:
        case ec.EllipticCurvePrivateKey():
            return key.sign(data, ec.ECDSA(SHA256()))
        case rsa.RSAPrivateKey():
            return key.sign(data, padding.PKCS1v15(), SHA256())
        case _:
            return key.sign(data)


@dataclass
class Authenticator:
    """One passkey and the browser before it. The keywords of `create` and `get` forge parts of an answer."""

    origin: str
    user_handle: bytes | None = None  # learnt when the passkey is made
    key: object = field(default_factory=KEYS["ES256"])
    id: bytes = field(default_factory=lambda: secrets.token_bytes(16))
    count: int = 0  # counts up, unless it is None
    flags: int = PRESENT | VERIFIED

    def create(self, options, *, statement=None, **forged):
        """Return the answer to the options of a creation."""
        self.user_handle = decode_base64url(options["user"]["id"])
        forged = {"flags": self.flags | ATTESTED} | forged
        data = self._data(options["rp"]["id"], **forged)
        attestation = {"fmt": "none", "attStmt": {}} | (statement or {}) | {"authData": data}
        answer = {
            "id": self.id,
            "client_data": self._client_data("webauthn.create", options, **forged),
            "attestation": forged.get("attestation", cbor2.dumps(attestation)),
        }
        return _text(answer | forged.get("answer", {}), transports=forged.get("transports", []))

    def get(self, options, **forged):
        """Return the answer to the options of a request."""
        if self.count is not None:
            self.count += 1
        data = self._data(options["rpId"], **forged)
        client_data = self._client_data("webauthn.get", options, **forged)
        signature = sign(forged.get("key", self.key), data + sha256(client_data).digest())
        answer = {
            "id": self.id,
            "client_data": client_data,
            "authenticator_data": data,
            "signature": signature,
            "user_handle": self.user_handle,
        }
        return _text(answer | forged.get("answer", {}))

    def _client_data(self, kind, options, **forged):
        found = {"type": kind, "challenge": options["challenge"], "origin": self.origin}
        return json.dumps(found | forged.get("client_data", {})).encode()

    def _data(self, rp_id, *, flags=None, rp=None, count=None, tail=b"", **forged):
        flags = self.flags if flags is None else flags
        head = sha256((rp or rp_id).encode()).digest() + bytes([flags])
        head += octets((self.count or 0) if count is None else count, 4)
        if flags & ATTESTED:
            public = forged.get("public_key", cbor2.dumps(cose(self.key)))
            stated = forged.get("attested_id", self.id)
            head += bytes(16) + octets(len(stated), 2) + stated + public
        return head + tail


def _text(answer, **others):
    encoded = {n: encode_base64url(v) if isinstance(v, bytes) else v for n, v in answer.items()}
    return json.dumps(encoded | others)


def shared_references(depth):
    """A public key, in CBOR, of some octets for each of *depth* lists, each twice the list before, by reference."""
    lists = [b"\xd8\x1c\x82\x01\x01"]
    lists += [b"\xd8\x1c\x82" + (b"\xd8\x1d" + cbor2.dumps(at)) * 2 for at in range(depth - 1)]
    return b"\xa1\x01" + bytes([0x98, depth]) + b"".join(lists)
