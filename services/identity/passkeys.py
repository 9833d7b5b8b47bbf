"""Passkeys (WebAuthn Level 3): options for browsers, and the verification of their answers.

webauthn is imported at first use, so that the app starts without loading it. It verifies signatures and decodes CBOR;
all other rules are checked here, before the library is called, so that no rule depends on its version. An answer is a
JSON object, which assets/page/passkey.js makes, with octets in base64url:

    creation .... id, client_data, attestation, transports
    assertion ... id, client_data, authenticator_data, signature, user_handle (null, or left out: the authenticator has none)

No attestation is requested, and an attestation statement that is sent anyway is dropped unread.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum
from hashlib import sha256
from typing import Annotated, TypeVar

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from pydantic import BeforeValidator, Field, StrictBool, TypeAdapter, ValidationError

from services.crypto import Credentials
from services.crypto.vault import decode_base64url, encode_base64url
from services.domain.addresses import EmailAddress
from services.domain.passkeys import (
    LONGEST_CREDENTIAL_ID,
    LONGEST_PUBLIC_KEY,
    USER_HANDLE_BYTES,
    Passkey,
    RelyingParty,
    Transport,
)
from services.errors import PasskeyCopied, PasskeyFlaw, PasskeyMissing, PasskeyRefused

# maximum characters of an answer; services/web/form_guard.py allows forms of this length
LONGEST_ANSWER = 14_000
_CHALLENGE_BYTES = 32
_TIMEOUT_MS = 300_000
_NAME = "Daybook"
_TYPE = "public-key"
_ALGORITHMS = -7, -8, -257  # COSE numbers of ES256, EdDSA, RS256
_CREATE, _GET = "webauthn.create", "webauthn.get"
# Offsets in authenticator data: the hash of the relying party's id (32 octets), the flags (1), the sign count (4); in a
# creation, then the AAGUID (16), the length of the credential id (2), this id and the public key; last, extensions.
_FLAGS_AT = 32
_HEADER_BYTES = 37
_ID_LENGTH_AT = _HEADER_BYTES + 16
_ID_AT = _ID_LENGTH_AT + 2
_PRESENT, _VERIFIED, _ATTESTED = 1, 1 << 2, 1 << 6  # bits of the flags
_RSA_BITS = range(2048, 4097)  # accepted sizes of an RSA modulus, in bits
_RSA_EXPONENT = b"\x01\x00\x01"
# The y coordinates, little-endian, that encode the eight points of small order on Ed25519, with which anyone can sign; the
# last two are p and p + 1, other encodings of 0 and 1. From `ge25519_has_small_order` of libsodium.
_SMALL_ORDER = {
    bytes.fromhex(y)
    for y in (
        "00" * 32,
        "01" + "00" * 31,
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
    )
}
_STRINGS, _TAG = (2, 3), 6  # CBOR major types: byte and text strings; tags
# the highest length code in a CBOR head: higher codes are reserved, or mean an indefinite length
_MOST_LENGTH = 27

Answer = TypeVar("Answer")


def _octets(value: object) -> bytes:
    """Decode base64url for pydantic. Raise ValueError if *value* is not base64url."""
    octets = decode_base64url(value) if isinstance(value, str) else None
    if octets is None:
        raise ValueError("no base64url")
    return octets


_Octets = Annotated[bytes, BeforeValidator(_octets)]
_CredentialId = Annotated[_Octets, Field(min_length=1, max_length=LONGEST_CREDENTIAL_ID)]
_ClientDataJson = Annotated[_Octets, Field(max_length=2048)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Creation:
    """A browser's answer to `creation_options`."""

    id: _CredentialId = field(repr=False)
    client_data: _ClientDataJson = field(repr=False)
    attestation: Annotated[_Octets, Field(max_length=8192)] = field(repr=False)
    transports: Annotated[tuple[str, ...], Field(max_length=10)] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assertion:
    """A browser's answer to `request_options`, which is not verified yet."""

    id: _CredentialId = field(repr=False)
    client_data: _ClientDataJson = field(repr=False)
    authenticator_data: Annotated[_Octets, Field(max_length=1024)] = field(repr=False)
    signature: Annotated[_Octets, Field(max_length=1024)] = field(repr=False)
    user_handle: Annotated[_Octets, Field(max_length=USER_HANDLE_BYTES)] | None = field(
        default=None, repr=False
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _ClientData:
    """A browser's data about the page that asked for a passkey (`CollectedClientData`)."""

    type: str = field(repr=False)
    challenge: str = field(repr=False)
    origin: str = field(repr=False)
    crosses: Annotated[StrictBool, Field(alias="crossOrigin")] = False
    top: Annotated[str | None, Field(alias="topOrigin")] = field(default=None, repr=False)


_CREATION = TypeAdapter(_Creation)
_ASSERTION = TypeAdapter(Assertion)
_CLIENT_DATA = TypeAdapter(_ClientData)


class PasskeyUse(Enum):
    """The purposes for which a passkey is used."""

    # replaces the password and the second factor: the passkey identifies its user
    SIGN_IN = "sign_in"
    PROOF = "proof"  # proves who a signed-in user is, without password and second factor
    FACTOR = "factor"  # a second factor, after the password or an emailed code
    REQUIRED_FACTOR = "required_factor"  # a `FACTOR` that the deployment requires

    @property
    def verifies_user(self) -> bool:
        """True if the authenticator must ask for a PIN or a biometric."""
        return self is not PasskeyUse.FACTOR


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedPasskey:
    """A passkey, updated by its last use."""

    passkey: Passkey
    has_verified_user: bool  # True: this use counts as both factors


def new_challenge() -> bytes:
    """Return a challenge of 32 random octets. The caller stores it in a step, so that only one answer is accepted."""
    return secrets.token_bytes(_CHALLENGE_BYTES)


def new_user_handle() -> bytes:
    """Return 64 random octets that stand for a user in the user's passkeys, and reveal nothing about the user."""
    return secrets.token_bytes(USER_HANDLE_BYTES)


def creation_options(
    party: RelyingParty,
    challenge: bytes,
    user_handle: bytes,
    address: EmailAddress,
    passkeys: Sequence[Passkey],
) -> Mapping[str, object]:
    """Return the options, as JSON, for creating a passkey; devices that have one of *passkeys* are excluded.

    The new passkey can be used to sign in: it must be discoverable and verify its user.
    """
    return {
        "rp": {"id": party.id, "name": _NAME},
        "user": {"id": encode_base64url(user_handle), "name": address, "displayName": address},
        "challenge": encode_base64url(challenge),
        "pubKeyCredParams": [{"type": _TYPE, "alg": algorithm} for algorithm in _ALGORITHMS],
        "timeout": _TIMEOUT_MS,
        "excludeCredentials": _descriptors(passkeys, party),
        "authenticatorSelection": {
            "residentKey": "required",
            "requireResidentKey": True,
            "userVerification": "required",
        },
        "attestation": "none",
    }


def request_options(
    party: RelyingParty, challenge: bytes, use: PasskeyUse, passkeys: Sequence[Passkey]
) -> Mapping[str, object]:
    """Return the options, as JSON, for using one of *passkeys* or, for a sign-in, any passkey that the browser finds.

    Raise PasskeyMissing if none of *passkeys* is for *party*.
    """
    allowed: Sequence[Mapping[str, object]] = ()
    if use is not PasskeyUse.SIGN_IN and not (allowed := _descriptors(passkeys, party)):
        raise PasskeyMissing
    return {
        "rpId": party.id,
        "challenge": encode_base64url(challenge),
        "timeout": _TIMEOUT_MS,
        "allowCredentials": allowed,
        "userVerification": "required" if use.verifies_user else "preferred",
    }


def verify_creation(
    answer: str, party: RelyingParty, challenge: bytes, name: str, now: datetime
) -> Passkey:
    """Verify *answer* to `creation_options`, and return the new passkey. Raise PasskeyRefused if a check fails."""
    from webauthn import verify_registration_response
    from webauthn.helpers.cose import COSEAlgorithmIdentifier
    from webauthn.helpers.structs import AuthenticatorAttestationResponse, RegistrationCredential

    creation = _read(_CREATION, answer)
    _check_client_data(creation.client_data, _CREATE, party, challenge)
    attestation, data = _without_statement(creation.attestation)
    _check_data(data, party, verifies_user=True, is_creation=True)
    made = _unless_refused(
        lambda: verify_registration_response(
            credential=RegistrationCredential(
                id=encode_base64url(creation.id),
                raw_id=creation.id,
                response=AuthenticatorAttestationResponse(creation.client_data, attestation),
            ),
            expected_challenge=challenge,
            expected_rp_id=party.id,
            expected_origin=party.origin,
            require_user_verification=True,
            # allow all algorithms here, because `_is_accepted` checks them
            supported_pub_key_algs=list(COSEAlgorithmIdentifier),
        )
    )
    if not made:
        raise PasskeyRefused(PasskeyFlaw.FORM)
    if not _is_accepted(made.credential_public_key):
        raise PasskeyRefused(PasskeyFlaw.ALGORITHM)
    if made.credential_id != creation.id:
        raise PasskeyRefused(PasskeyFlaw.CREDENTIAL)
    return Passkey(
        credential_id=creation.id,
        public_key=made.credential_public_key,
        sign_count=made.sign_count,
        rp_id=party.id,
        name=name,
        created_at=now,
        is_synced=made.credential_backed_up,
        verifies_user=made.user_verified,
        transports=tuple(one for one in Transport if one in creation.transports),
    )


def read_assertion(answer: str) -> Assertion:
    """Parse the assertion in *answer*; its ids say which passkey to look up. Raise PasskeyRefused if *answer* is malformed."""
    return _read(_ASSERTION, answer)


def verify_assertion(
    assertion: Assertion,
    passkey: Passkey,
    user_handle: bytes,
    party: RelyingParty,
    challenge: bytes,
    use: PasskeyUse,
    now: datetime,
) -> UsedPasskey:
    """Verify *assertion*, and return *passkey* updated by this use; *user_handle* names the user of the passkey.

    Raise PasskeyRefused if a check fails, or PasskeyCopied if the sign count shows that the passkey was copied.
    """
    from webauthn import verify_authentication_response
    from webauthn.helpers.structs import AuthenticationCredential, AuthenticatorAssertionResponse

    if assertion.id != passkey.credential_id:
        raise PasskeyRefused(PasskeyFlaw.CREDENTIAL)
    if passkey.rp_id != party.id:
        raise PasskeyRefused(PasskeyFlaw.RELYING_PARTY)
    if assertion.user_handle is None and use is PasskeyUse.SIGN_IN:
        raise PasskeyRefused(PasskeyFlaw.USER)
    if assertion.user_handle not in (None, user_handle):
        raise PasskeyRefused(PasskeyFlaw.USER)
    if not _is_accepted(passkey.public_key):
        raise PasskeyRefused(PasskeyFlaw.ALGORITHM)
    _check_client_data(assertion.client_data, _GET, party, challenge)
    data = assertion.authenticator_data
    _check_data(data, party, verifies_user=use.verifies_user, is_creation=False)
    found = _unless_refused(
        lambda: verify_authentication_response(
            credential=AuthenticationCredential(
                id=encode_base64url(assertion.id),
                raw_id=assertion.id,
                response=AuthenticatorAssertionResponse(
                    assertion.client_data, data, assertion.signature
                ),
            ),
            expected_challenge=challenge,
            expected_rp_id=party.id,
            expected_origin=party.origin,
            credential_public_key=passkey.public_key,
            # 0 disables the library's check of the count, which comes before the signature check: otherwise a forged
            # answer would be reported as a copied passkey
            credential_current_sign_count=0,
            require_user_verification=use.verifies_user,
        )
    )
    if not found:
        raise PasskeyRefused(PasskeyFlaw.SIGNATURE)
    if found.new_sign_count <= passkey.sign_count and (found.new_sign_count or passkey.sign_count):
        raise PasskeyCopied
    used = replace(
        passkey,
        sign_count=found.new_sign_count,
        last_used_at=now,
        is_synced=found.credential_backed_up,
    )
    return UsedPasskey(passkey=used, has_verified_user=found.user_verified)


def without_refused_passkeys(credentials: Credentials) -> Credentials:
    """Return *credentials* without the passkeys whose public keys `verify_assertion` refuses."""
    keys = credentials.passkeys
    if not keys:
        return credentials
    each = tuple(passkey for passkey in keys.each if _is_accepted(passkey.public_key))
    accepted = replace(keys, each=each, is_factor=keys.is_factor and bool(each))
    return replace(credentials, passkeys=accepted)


def _descriptors(
    passkeys: Sequence[Passkey], party: RelyingParty
) -> Sequence[Mapping[str, object]]:
    """Return the descriptors, as JSON, of the *passkeys* for *party*."""
    return [
        {
            "type": _TYPE,
            "id": encode_base64url(one.credential_id),
            "transports": list(one.transports),
        }
        for one in passkeys
        if one.rp_id == party.id
    ]


def _read(form: TypeAdapter[Answer], answer: str | bytes) -> Answer:
    if len(answer) <= LONGEST_ANSWER:
        with suppress(ValidationError):
            return form.validate_json(answer)
    # raised outside of the block, because inside it the chained traceback would contain the answer
    raise PasskeyRefused(PasskeyFlaw.FORM)


def _check_client_data(octets: bytes, kind: str, party: RelyingParty, challenge: bytes) -> None:
    """Check the browser's data about the page that asked for the passkey. Raise PasskeyRefused if a check fails."""
    data = _read(_CLIENT_DATA, octets)
    if data.type != kind:
        raise PasskeyRefused(PasskeyFlaw.TYPE)
    if data.challenge != encode_base64url(challenge):
        raise PasskeyRefused(PasskeyFlaw.CHALLENGE)
    if data.origin != party.origin:
        raise PasskeyRefused(PasskeyFlaw.ORIGIN)
    if data.crosses or data.top is not None:
        raise PasskeyRefused(PasskeyFlaw.FRAME)


def _check_data(
    data: bytes, party: RelyingParty, *, verifies_user: bool, is_creation: bool
) -> None:
    """Check the authenticator data, without the signature. Raise PasskeyRefused if a check fails."""
    if len(data) < (_ID_AT if is_creation else _HEADER_BYTES):
        raise PasskeyRefused(PasskeyFlaw.FORM)
    if data[:_FLAGS_AT] != sha256(party.id.encode()).digest():
        raise PasskeyRefused(PasskeyFlaw.RELYING_PARTY)
    flags = data[_FLAGS_AT]
    if not flags & _PRESENT:
        raise PasskeyRefused(PasskeyFlaw.PRESENCE)
    if verifies_user and not flags & _VERIFIED:
        raise PasskeyRefused(PasskeyFlaw.VERIFICATION)
    cbor_at = _HEADER_BYTES
    if is_creation:
        cbor_at = _ID_AT + int.from_bytes(data[_ID_LENGTH_AT:_ID_AT])
    if bool(flags & _ATTESTED) != is_creation or not _is_plain_cbor(data[cbor_at:]):
        raise PasskeyRefused(PasskeyFlaw.FORM)


def _without_statement(attestation: bytes) -> tuple[bytes, bytes]:
    """Return *attestation* without its statement, and the authenticator data in it. Raise PasskeyRefused if it is malformed."""
    from webauthn.helpers import encode_cbor, parse_cbor

    if _is_plain_cbor(attestation):
        match _unless_refused(lambda: parse_cbor(attestation)):
            case {"authData": bytes(data)}:
                return encode_cbor({"fmt": "none", "attStmt": {}, "authData": data}), data
            case _:
                pass
    raise PasskeyRefused(PasskeyFlaw.FORM)


def _is_plain_cbor(octets: bytes) -> bool:
    """Return True if the items in *octets* are complete, of definite length and without tags, as CTAP2 requires.

    With tags, one item may refer to others: cbor2 would expand a public key of 300 octets to gigabytes when it encodes
    the key.
    """
    at = 0
    while at < len(octets):
        major, length = octets[at] >> 5, octets[at] & 31
        if major == _TAG or length > _MOST_LENGTH:
            return False
        at += 1
        if length >= 24:
            width = 1 << length - 24  # the number of octets that encode the length
            length = int.from_bytes(octets[at : at + width])
            at += width
        if major in _STRINGS:
            at += length
    return at == len(octets)


def _is_accepted(public_key: bytes) -> bool:
    """Return True for a well-formed COSE key that `_is_supported`."""
    return bool(_unless_refused(lambda: _is_supported(public_key)))


def _is_supported(public_key: bytes) -> bool:
    """Return True for a key of ES256 on P-256, of EdDSA on Ed25519 (not of small order), or of RS256 with 2048 to 4096 bits.

    Raise the library's errors for a point that is not on the curve.
    """
    from webauthn.helpers import decode_credential_public_key, decoded_public_key_to_cryptography
    from webauthn.helpers.cose import COSECRV, COSEAlgorithmIdentifier
    from webauthn.helpers.decode_credential_public_key import (
        DecodedEC2PublicKey,
        DecodedOKPPublicKey,
        DecodedRSAPublicKey,
    )

    if len(public_key) > LONGEST_PUBLIC_KEY:
        return False
    key = decode_credential_public_key(public_key)
    decoded_public_key_to_cryptography(key)
    match key:
        case DecodedEC2PublicKey(alg=COSEAlgorithmIdentifier.ECDSA_SHA_256, crv=COSECRV.P256):
            return True
        case DecodedOKPPublicKey(alg=COSEAlgorithmIdentifier.EDDSA, crv=COSECRV.ED25519, x=point):
            y = bytes((*point[:-1], point[-1] & 0x7F))  # without the sign bit of x
            return y not in _SMALL_ORDER
        case DecodedRSAPublicKey(alg=COSEAlgorithmIdentifier.RSASSA_PKCS1_v1_5_SHA_256):
            # `bit_length` does not count leading zeros of the modulus
            return int.from_bytes(key.n).bit_length() in _RSA_BITS and key.e == _RSA_EXPONENT
        case _:
            return False


def _unless_refused(ask: Callable[[], Answer]) -> Answer | None:
    """Return the result of the library call *ask*; None if it raises an error, because the error would repeat the answer."""
    from webauthn.helpers.exceptions import WebAuthnException

    from_malformed_cbor = ArithmeticError, AttributeError, LookupError, TypeError, ValueError
    with suppress(WebAuthnException, InvalidSignature, UnsupportedAlgorithm, *from_malformed_cbor):
        return ask()
    return None
