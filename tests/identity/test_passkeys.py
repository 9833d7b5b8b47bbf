"""Passkeys: what their options say, which answers are taken, and that each forged answer fails by its own check."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import cbor2
import pytest
import webauthn
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as some
from webauthn.helpers import parse_authentication_options_json, parse_registration_options_json

from services.crypto.vault import decode_base64url, encode_base64url
from services.domain.addresses import EmailAddress
from services.domain.passkeys import Passkey, RelyingParty, Transport
from services.errors import PasskeyCopied, PasskeyFlaw, PasskeyMissing, PasskeyRefused
from services.identity.passkeys import (
    LONGEST_ANSWER,
    PasskeyUse,
    creation_options,
    new_challenge,
    new_user_handle,
    read_assertion,
    request_options,
    verify_assertion,
    verify_creation,
)
from services.web.form_guard import LONGEST_FORM
from tests.passkeys import (
    ATTESTED,
    ELIGIBLE,
    EXTENDED,
    KEYS,
    PRESENT,
    SYNCED,
    VERIFIED,
    Authenticator,
    cose,
    shared_references,
)

PARTY = RelyingParty(id="daybook.test", origin="https://daybook.test")
ELSEWHERE = RelyingParty(id="evil.test", origin="https://evil.test")
MAYA = EmailAddress("maya@daybook.test")
HANDLE, CHALLENGE = new_user_handle(), new_challenge()
NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
REQUEST = {"rpId": PARTY.id, "challenge": encode_base64url(CHALLENGE)}
P384 = ec.generate_private_key(ec.SECP384R1())
RSA_1024 = rsa.generate_private_key(65537, 1024)  # noqa: S505
PADDED = {-1: bytes(128) + cose(RSA_1024)[-1]}  # as many octets as 2048 bits have
RSA_E3 = rsa.generate_private_key(3, 2048)


def make(authenticator, **forged):
    """The passkey that *authenticator* makes, as the server stores it."""
    options = creation_options(PARTY, CHALLENGE, HANDLE, MAYA, ())
    answer = authenticator.create(options, **forged)
    return verify_creation(answer, PARTY, CHALLENGE, "Laptop", NOW)


@pytest.fixture
def authenticator():
    return Authenticator(PARTY.origin)


@pytest.fixture
def passkey(authenticator):
    return make(authenticator)


def use(
    passkey, answer, use=PasskeyUse.SIGN_IN, *, handle=HANDLE, party=PARTY, challenge=CHALLENGE
):
    assertion = read_assertion(answer)
    return verify_assertion(assertion, passkey, handle, party, challenge, use, NOW)


def flaw(act, *arguments, **keywords):
    """The flaw for which *act* is refused."""
    with pytest.raises(PasskeyRefused) as refused:
        act(*arguments, **keywords)
    error = refused.value
    assert (error.__cause__, error.__context__) == (None, None)  # they would hold the answer
    return error.flaw


@pytest.mark.parametrize("algorithm", KEYS)
def test_passkey_signs_in(algorithm):
    authenticator = Authenticator(PARTY.origin, key=KEYS[algorithm]())
    passkey = make(authenticator, transports=["usb", "nfc", "by pigeon"])

    used = use(passkey, authenticator.get(REQUEST))

    assert passkey == Passkey(
        credential_id=authenticator.id,
        public_key=cbor2.dumps(cose(authenticator.key)),
        sign_count=0,
        rp_id=PARTY.id,
        name="Laptop",
        created_at=NOW,
        verifies_user=True,
        transports=(Transport.USB, Transport.NFC),
    )
    assert used.has_verified_user
    assert (used.passkey.sign_count, used.passkey.last_used_at) == (1, NOW)


def test_creation_options_ask_for_what_is_verified(passkey):
    options = creation_options(PARTY, CHALLENGE, HANDLE, MAYA, [passkey])

    read = parse_registration_options_json(json.dumps(options))
    assert (read.rp.id, read.user.id, read.challenge) == (PARTY.id, HANDLE, CHALLENGE)
    assert (len(HANDLE), len(CHALLENGE)) == (64, 32)
    assert [one.alg for one in read.pub_key_cred_params] == [-7, -8, -257]
    assert [one.id for one in read.exclude_credentials] == [passkey.credential_id]
    assert read.attestation == "none"
    selection = read.authenticator_selection
    assert (selection.resident_key, selection.user_verification) == ("required", "required")
    assert selection.require_resident_key
    options = creation_options(ELSEWHERE, CHALLENGE, HANDLE, MAYA, [passkey])
    read = parse_registration_options_json(json.dumps(options))
    assert read.exclude_credentials == []


@pytest.mark.parametrize(
    ("use", "verification", "names_passkeys"),
    [
        (PasskeyUse.SIGN_IN, "required", False),
        (PasskeyUse.PROOF, "required", True),
        (PasskeyUse.FACTOR, "preferred", True),
    ],
)
def test_request_options_are_those_of_the_use(passkey, use, verification, names_passkeys):
    options = request_options(PARTY, CHALLENGE, use, [passkey])

    read = parse_authentication_options_json(json.dumps(options))
    assert (read.rp_id, read.challenge) == (PARTY.id, CHALLENGE)
    assert read.user_verification == verification
    allowed = [passkey.credential_id] if names_passkeys else []
    assert [one.id for one in read.allow_credentials or []] == allowed


@pytest.mark.parametrize("use", [PasskeyUse.PROOF, PasskeyUse.FACTOR])
def test_passkeys_of_another_address_are_none(passkey, use):
    with pytest.raises(PasskeyMissing):
        request_options(ELSEWHERE, CHALLENGE, use, [passkey])


# --- forged answers ---------------------------------------------------------------------------------

PAGE = [  # what a browser says of the page
    ({"client_data": {"challenge": encode_base64url(bytes(32))}}, PasskeyFlaw.CHALLENGE),
    ({"client_data": {"challenge": REQUEST["challenge"] + "="}}, PasskeyFlaw.CHALLENGE),
    ({"client_data": {"challenge": ""}}, PasskeyFlaw.CHALLENGE),
    ({"client_data": {"origin": "https://evil.test"}}, PasskeyFlaw.ORIGIN),
    ({"client_data": {"origin": "http://daybook.test"}}, PasskeyFlaw.ORIGIN),
    ({"client_data": {"origin": "https://daybook.test:8501"}}, PasskeyFlaw.ORIGIN),
    ({"client_data": {"origin": "https://sub.daybook.test"}}, PasskeyFlaw.ORIGIN),
    ({"client_data": {"crossOrigin": True}}, PasskeyFlaw.FRAME),
    ({"client_data": {"topOrigin": "https://evil.test"}}, PasskeyFlaw.FRAME),
    ({"client_data": {"crossOrigin": "false"}}, PasskeyFlaw.FORM),
    ({"client_data": {"origin": None}}, PasskeyFlaw.FORM),
    ({"rp": "evil.test"}, PasskeyFlaw.RELYING_PARTY),
]


@pytest.mark.parametrize(
    ("forged", "expected"),
    [
        *PAGE,
        ({"client_data": {"type": "webauthn.get"}}, PasskeyFlaw.TYPE),
        ({"flags": VERIFIED | ATTESTED}, PasskeyFlaw.PRESENCE),
        ({"flags": PRESENT | ATTESTED}, PasskeyFlaw.VERIFICATION),
        ({"flags": PRESENT | VERIFIED}, PasskeyFlaw.FORM),
        ({"flags": PRESENT | VERIFIED | ATTESTED | SYNCED}, PasskeyFlaw.FORM),
        ({"attested_id": b"another"}, PasskeyFlaw.CREDENTIAL),
        ({"attested_id": b"", "answer": {"id": b""}}, PasskeyFlaw.FORM),
        ({"public_key": cbor2.dumps(cose(P384))}, PasskeyFlaw.ALGORITHM),
        ({"public_key": cbor2.dumps(cose(P384) | {3: -36})}, PasskeyFlaw.ALGORITHM),
        ({"public_key": cbor2.dumps(cose(KEYS["ES256"]()) | {3: -36})}, PasskeyFlaw.ALGORITHM),
        (
            {"public_key": cbor2.dumps(cose(KEYS["ES256"]()) | {9: bytes(1000)})},
            PasskeyFlaw.ALGORITHM,
        ),
        ({"public_key": cbor2.dumps(cose(RSA_1024))}, PasskeyFlaw.ALGORITHM),
        ({"public_key": cbor2.dumps(cose(RSA_1024) | PADDED)}, PasskeyFlaw.ALGORITHM),
        ({"public_key": cbor2.dumps(cose(RSA_E3))}, PasskeyFlaw.ALGORITHM),
        ({"public_key": cbor2.dumps(cose(RSA_1024) | {3: -65535})}, PasskeyFlaw.ALGORITHM),
        ({"public_key": cbor2.dumps(cose(KEYS["RS256"]()) | {3: -37})}, PasskeyFlaw.ALGORITHM),
        ({"public_key": cbor2.dumps(cose(KEYS["EdDSA"]()) | {-1: 7})}, PasskeyFlaw.ALGORITHM),
        ({"public_key": cbor2.dumps({1: 7, 3: -48, -1: bytes(900)})}, PasskeyFlaw.ALGORITHM),
        # a point that is not on the curve, and none
        (
            {"public_key": cbor2.dumps(cose(KEYS["ES256"]()) | {-2: b"\1" * 32})},
            PasskeyFlaw.ALGORITHM,
        ),
        ({"public_key": b"\x04"}, PasskeyFlaw.ALGORITHM),
        ({"public_key": cbor2.dumps(["no", "map"])}, PasskeyFlaw.FORM),
        ({"tail": b"\0"}, PasskeyFlaw.FORM),
        ({"attestation": cbor2.dumps({"fmt": "none", "attStmt": {}})}, PasskeyFlaw.FORM),
        ({"attestation": cbor2.dumps({"fmt": "none", "authData": "text"})}, PasskeyFlaw.FORM),
        ({"attestation": b""}, PasskeyFlaw.FORM),
        ({"attestation": b"\x9b" + b"\xff" * 8}, PasskeyFlaw.FORM),
    ],
)
def test_forged_creation_is_refused(authenticator, forged, expected):
    assert flaw(make, authenticator, **forged) is expected


@pytest.mark.parametrize(
    ("forged", "expected"),
    [
        *PAGE,
        ({"client_data": {"type": "webauthn.create"}}, PasskeyFlaw.TYPE),
        ({"flags": VERIFIED}, PasskeyFlaw.PRESENCE),
        ({"flags": PRESENT}, PasskeyFlaw.VERIFICATION),
        ({"flags": PRESENT | VERIFIED | ATTESTED, "attested_id": b""}, PasskeyFlaw.FORM),
        ({"flags": PRESENT | VERIFIED | EXTENDED}, PasskeyFlaw.SIGNATURE),
        ({"flags": PRESENT | VERIFIED | SYNCED}, PasskeyFlaw.SIGNATURE),
        ({"tail": b"\xa0"}, PasskeyFlaw.SIGNATURE),
        ({"key": KEYS["ES256"]()}, PasskeyFlaw.SIGNATURE),
        ({"answer": {"signature": b""}}, PasskeyFlaw.SIGNATURE),
        ({"answer": {"id": b"another"}}, PasskeyFlaw.CREDENTIAL),
        ({"answer": {"user_handle": bytes(64)}}, PasskeyFlaw.USER),
        ({"answer": {"user_handle": b""}}, PasskeyFlaw.USER),
        ({"answer": {"user_handle": None}}, PasskeyFlaw.USER),
        ({"answer": {"authenticator_data": bytes(36)}}, PasskeyFlaw.FORM),
    ],
)
def test_forged_assertion_is_refused(authenticator, passkey, forged, expected):
    assert flaw(use, passkey, authenticator.get(REQUEST, **forged)) is expected


# y coordinates of the points of small order of Ed25519, and other encodings of two: `ge25519_has_small_order` of libsodium
SMALL_ORDER = [
    *(0, 1, 2**255 - 20, 2**255 - 19, 2**255 - 18),
    0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7,
    0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
]


@pytest.mark.parametrize("sign", [0, 1 << 255])
@pytest.mark.parametrize("y", SMALL_ORDER)
def test_passkey_that_anybody_can_sign_for_is_refused(authenticator, y, sign):
    point = (y | sign).to_bytes(32, "little")
    public_key = cbor2.dumps({1: 1, 3: -8, -1: 6, -2: point})

    assert flaw(make, authenticator, public_key=public_key) is PasskeyFlaw.ALGORITHM
    passkey = replace(make(authenticator), public_key=public_key)
    assert flaw(use, passkey, authenticator.get(REQUEST)) is PasskeyFlaw.ALGORITHM


def test_signature_forged_for_a_key_of_small_order_is_refused(authenticator):
    """With the neutral element as the key and as R, and S = 0, the library takes the signature of every message."""
    neutral = (1).to_bytes(32, "little")
    forged = neutral + bytes(32)
    Ed25519PublicKey.from_public_bytes(neutral).verify(forged, b"anything")
    passkey = replace(
        make(authenticator), public_key=cbor2.dumps({1: 1, 3: -8, -1: 6, -2: neutral})
    )

    answer = authenticator.get(REQUEST, answer={"signature": forged})

    assert flaw(use, passkey, answer) is PasskeyFlaw.ALGORITHM


def test_new_challenge_has_32_random_bytes():
    new = {new_challenge() for _ in range(5)}

    assert list(map(len, new)) == [32] * 5


def test_answer_is_good_for_one_challenge(authenticator, passkey):
    answer = authenticator.get(REQUEST)
    used = use(passkey, answer).passkey

    assert flaw(use, used, answer, challenge=new_challenge()) is PasskeyFlaw.CHALLENGE


def test_passkey_of_another_user_is_refused(authenticator, passkey):
    answer = authenticator.get(REQUEST)

    assert flaw(use, passkey, answer, handle=new_user_handle()) is PasskeyFlaw.USER
    other = make(Authenticator(PARTY.origin))
    assert flaw(use, other, answer) is PasskeyFlaw.CREDENTIAL


def test_passkey_of_another_address_is_refused(passkey):
    authenticator = Authenticator(ELSEWHERE.origin, HANDLE, id=passkey.credential_id)
    answer = authenticator.get(REQUEST, rp=ELSEWHERE.id)

    assert flaw(use, passkey, answer, party=ELSEWHERE) is PasskeyFlaw.RELYING_PARTY


def test_factor_needs_neither_user_handle_nor_verification():
    authenticator = Authenticator(PARTY.origin)
    passkey = replace(make(authenticator), verifies_user=False)  # no such passkey is made any more
    authenticator.flags, authenticator.user_handle = PRESENT, None

    used = use(passkey, authenticator.get(REQUEST), PasskeyUse.FACTOR)

    assert not used.has_verified_user
    answer = authenticator.get(REQUEST)
    assert flaw(use, passkey, answer, PasskeyUse.PROOF) is PasskeyFlaw.VERIFICATION
    answer = authenticator.get(REQUEST, answer={"user_handle": bytes(64)})
    assert flaw(use, passkey, answer, PasskeyUse.FACTOR) is PasskeyFlaw.USER


# --- the sign count -----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 6, 7])
def test_sign_count_that_goes_back_is_refused(authenticator, count):
    passkey = make(authenticator, count=7)

    with pytest.raises(PasskeyCopied):
        use(passkey, authenticator.get(REQUEST, count=count))
    assert use(passkey, authenticator.get(REQUEST, count=8)).passkey.sign_count == 8


def test_sign_count_is_compared_after_the_signature(authenticator):
    passkey = make(authenticator, count=7)
    answer = authenticator.get(REQUEST, count=1, key=KEYS["ES256"]())

    assert flaw(use, passkey, answer) is PasskeyFlaw.SIGNATURE


def test_authenticator_that_does_not_count_is_used_again(authenticator):
    authenticator.count = None
    passkey = make(authenticator)

    used = use(passkey, authenticator.get(REQUEST)).passkey
    assert use(used, authenticator.get(REQUEST)).passkey.sign_count == 0


def test_passkey_that_becomes_synced_is_noted(authenticator):
    authenticator.flags |= ELIGIBLE
    passkey = make(authenticator)
    assert not passkey.is_synced
    authenticator.flags |= SYNCED

    assert use(passkey, authenticator.get(REQUEST)).passkey.is_synced
    assert make(authenticator).is_synced


# --- what browsers send ---------------------------------------------------------------------------------


def test_attestation_statement_is_not_read(authenticator):
    statement = {"fmt": "tpm", "attStmt": {"x5c": [b"no certificate"], "ver": "2.0", "sig": b""}}

    passkey = make(authenticator, statement=statement)

    assert use(passkey, authenticator.get(REQUEST)).has_verified_user


def test_extensions_that_were_not_asked_for_are_ignored(authenticator):
    flags, tail = PRESENT | VERIFIED | EXTENDED, cbor2.dumps({"credProtect": 2})

    passkey = make(authenticator, flags=flags | ATTESTED, tail=tail)

    assert use(passkey, authenticator.get(REQUEST, flags=flags, tail=tail)).has_verified_user


def test_references_inside_cbor_are_refused(authenticator, passkey):
    # without the check the answers are taken, as octets that are encoded again as 150 times as many
    bomb, flags = shared_references(12), PRESENT | VERIFIED | EXTENDED

    assert flaw(make, authenticator, flags=flags | ATTESTED, tail=bomb) is PasskeyFlaw.FORM
    statement = {"attStmt": cbor2.CBORTag(28, {})}
    assert flaw(make, authenticator, statement=statement) is PasskeyFlaw.FORM
    answer = authenticator.get(REQUEST, flags=flags, tail=bomb)
    assert flaw(use, passkey, answer) is PasskeyFlaw.FORM


@pytest.fixture
def no_library(monkeypatch):
    """Fail if the library is asked for anything."""

    def look(*_, **__):
        pytest.fail("The library has seen the answer.")

    for name in ("verify_registration_response", "verify_authentication_response"):
        monkeypatch.setattr(webauthn, name, look)
    monkeypatch.setattr("webauthn.helpers.parse_cbor", look)


@pytest.mark.parametrize(
    ("field", "most"),
    [
        *(("id", 1023), ("client_data", 2048), ("authenticator_data", 1024)),
        *(("signature", 1024), ("user_handle", 64)),
    ],
)
def test_field_that_is_too_large_is_refused_unread(authenticator, no_library, field, most):
    answer = authenticator.get(REQUEST, answer={field: bytes(most)})
    assert len(getattr(read_assertion(answer), field)) == most
    answer = authenticator.get(REQUEST, answer={field: bytes(most + 1)})

    assert flaw(read_assertion, answer) is PasskeyFlaw.FORM


@pytest.mark.parametrize(
    "forged",
    [
        {"answer": {"attestation": bytes(8193)}},
        {"client_data": {"more": " " * 2048}},
        {"transports": ["usb"] * 11},
    ],
)
def test_creation_that_is_too_large_is_refused_unread(authenticator, no_library, forged):
    assert flaw(make, authenticator, **forged) is PasskeyFlaw.FORM


def test_longest_answer_fits_a_form(authenticator):
    padding = " " * LONGEST_ANSWER
    answer = authenticator.get(REQUEST)

    assert read_assertion((answer + padding)[:LONGEST_ANSWER]).id == authenticator.id
    assert flaw(read_assertion, (answer + padding)[: LONGEST_ANSWER + 1]) is PasskeyFlaw.FORM
    assert LONGEST_ANSWER < LONGEST_FORM - 2000


@pytest.mark.parametrize(
    "answer",
    [
        *("", "null", "[]", "{}", "{", "\0", "[" * 10_000, '{"id": 1e999}', "\ud800"),
        '{"id": "AA", "client_data": "AA", "authenticator_data": "AA", "signature": "A="}',
        '{"id": "A A", "client_data": "AA", "authenticator_data": "AA", "signature": "AA"}',
        '{"id": "AA", "client_data": "\\ud800", "authenticator_data": "AA", "signature": "AA"}',
    ],
)
def test_text_that_is_no_answer_is_refused(answer):
    assert flaw(read_assertion, answer) is PasskeyFlaw.FORM


def test_attestation_that_is_cut_off_is_refused(authenticator):
    answer = json.loads(authenticator.create(creation_options(PARTY, CHALLENGE, HANDLE, MAYA, ())))
    whole = decode_base64url(answer["attestation"])

    for length in range(len(whole)):
        assert flaw(make, authenticator, attestation=whole[:length]) is PasskeyFlaw.FORM


SAVED = Authenticator(PARTY.origin)
SAVED_PASSKEY = make(SAVED)
CREATED = json.loads(SAVED.create(creation_options(PARTY, CHALLENGE, HANDLE, MAYA, ())))
GIVEN = json.loads(SAVED.get(REQUEST))


def changed(answer, field, at, octet):
    octets = bytearray(decode_base64url(answer[field]))
    octets[at % len(octets)] ^= octet
    return json.dumps(answer | {field: encode_base64url(bytes(octets))})


@given(
    some.sampled_from(["id", "client_data", "authenticator_data", "signature", "user_handle"]),
    some.integers(0, 2**16),
    some.integers(1, 255),
)
def test_assertion_with_a_changed_octet_is_refused(field, at, octet):
    assert flaw(use, SAVED_PASSKEY, changed(GIVEN, field, at, octet)) in PasskeyFlaw


def verify(answer):
    return verify_creation(answer, PARTY, CHALLENGE, "Laptop", NOW)


@given(some.integers(0, 2**16), some.integers(1, 255))
def test_creation_with_a_changed_octet_raises_no_other_error(at, octet):
    answer = changed(CREATED, "attestation", at, octet)
    try:
        passkey = verify(answer)
    except PasskeyRefused:
        return
    # an octet that nothing hangs on: of the AAGUID, the sign count, a flag
    assert passkey.credential_id == SAVED.id
    assert passkey.public_key == SAVED_PASSKEY.public_key


plain = some.recursive(
    some.none() | some.booleans() | some.integers(-(2**64), 2**64 - 1) | some.binary(max_size=40) | some.text(max_size=9) | some.floats(),
    lambda inner: some.lists(inner, max_size=4) | some.dictionaries(some.integers(-4, 4) | some.text(max_size=9), inner, max_size=5),
    max_leaves=12,
)  # fmt: skip
cose_like = some.fixed_dictionaries(
    {1: some.sampled_from([1, 2, 3, 7]) | plain, 3: some.sampled_from([-7, -8, -257]) | plain},
    optional={-1: some.sampled_from([1, 6]) | plain, -2: plain, -3: plain},
)


@given(plain | cose_like)
def test_any_public_key_raises_no_other_error(key):
    assert flaw(make, SAVED, public_key=cbor2.dumps(key)) in PasskeyFlaw


@given(plain)
def test_any_attestation_raises_no_other_error(attestation):
    assert flaw(make, SAVED, attestation=cbor2.dumps(attestation)) is PasskeyFlaw.FORM


@given(some.binary(max_size=200))
def test_any_octets_raise_no_other_error(octets):
    flags = PRESENT | VERIFIED | EXTENDED

    assert flaw(make, SAVED, attestation=octets) is PasskeyFlaw.FORM
    assert flaw(make, SAVED, public_key=octets) in PasskeyFlaw
    answer = SAVED.get(REQUEST, flags=flags, tail=octets, key=P384)
    assert flaw(use, SAVED_PASSKEY, answer) in PasskeyFlaw


def test_reprs_hold_no_answer(passkey):
    assertion = read_assertion(json.dumps(GIVEN))

    assert repr(assertion) == "Assertion()"
    assert str(passkey.credential_id) not in repr(passkey)
    assert "Laptop" not in repr(passkey)
