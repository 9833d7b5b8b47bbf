"""Users' credentials: their document, their seal, the look-up values of addresses, and managed passwords."""

import hmac
import json
import string
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from services.crypto import (
    Credentials,
    Factor,
    Place,
    RootKeys,
    Vault,
    managed_password,
    open_credentials,
    seal_credentials,
)
from services.crypto.vault import decode_base64url, subkey, token_version
from services.domain.addresses import Confirmed, ConfirmedBy, checked_address
from services.domain.single_sign_on import MOST_IDENTITIES, Identity, LinkedIdentity
from services.errors import NewerVersion, Tampered
from tests.unit.test_keyring import AFTER, BEFORE, DURING, ROOT_1
from tests.unit.test_passkeys import LAPTOP, MAYAS, PHONE
from tests.unit.test_vault import ANA, BEN, full_traceback, hkdf, refuses, use_salt

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "credentials.json").read_text())
SECRET = bytes(range(160, 192))
CREDENTIALS = Credentials(
    address=checked_address("ana@example.com"),
    password_hash="a hash",
    account_secret=SECRET,
    managed_password="the password at Auth",
    generation=7,
)


def each(name):
    return pytest.mark.parametrize("vector", VECTORS[name], ids=lambda vector: vector["name"])


def opened(vector):
    keys = RootKeys.parse(vector["ring"])
    return open_credentials(keys, vector["token"], UUID(vector["owner_id"]))


# --- the frozen vectors ---------------------------------------------------------------------------------


@each("opens")
def test_frozen_credentials_open_and_are_sealed_again(vector, monkeypatch):
    written, credentials = json.loads(vector["document"]), opened(vector)

    assert credentials.is_pending == (written["state"] == "pending")
    assert credentials.address == written["address"]
    assert credentials.password_hash == written["hash"]
    assert credentials.has_operator_password == ("operator_hash" in written)
    assert (credentials.account_secret is None) == (written["account_secret"] is None)
    assert credentials.account_secret in (None, SECRET)
    assert credentials.managed_password == written["managed_password"]
    assert credentials.generation == written["generation"]
    assert (credentials.confirmed is None) == ("confirmed" not in written)
    assert len(credentials.former) == len(written.get("former", []))
    assert (credentials.factor is None) == ("factor" not in written)
    assert list(credentials.recovery) == written.get("recovery_codes", [])
    assert len(credentials.identities) == len(written.get("identities", []))
    assert (credentials.passkeys is None) == ("passkeys" not in written)
    assert credentials.uses == written.get("uses", 0)
    use_salt(monkeypatch, vector["salt"])
    keys, owner = RootKeys.parse(vector["ring"]), UUID(vector["owner_id"])
    assert seal_credentials(keys, credentials, owner) == vector["token"]


@each("refused")
def test_frozen_failures_of_credentials_stay_failures(vector):
    with pytest.raises(Tampered) as failure:
        opened(vector)

    assert type(failure.value) is Tampered


@each("unreadable")
def test_document_that_this_version_cannot_read_is_a_newer_one(vector):
    with pytest.raises(NewerVersion) as failure:
        opened(vector)

    assert failure.value.__context__ is None
    shown = full_traceback(failure.value)
    assert not any(text in shown for text in ("ana@example.com", "Aa0!", "argon2id"))


@each("address_tags")
def test_frozen_address_has_the_same_look_up_values(vector):
    ring, address = RootKeys.parse(vector["ring"]), checked_address(vector["address"])

    for tags, name in ((ring.address_tags, "tags"), (ring.former_address_tags, "former_tags")):
        assert tags(address) == {int(version): tag for version, tag in vector[name].items()}


@each("way_in_tags")
def test_frozen_ways_in_have_the_same_look_up_values(vector):
    ring = RootKeys.parse(vector["ring"])

    match vector["listed"]:
        case ["identity", issuer, subject]:
            tags = ring.identity_tags(Identity(issuer, subject))
        case ["passkey", credential_id]:
            tags = ring.passkey_tags(decode_base64url(credential_id))

    assert tags == {int(version): tag for version, tag in vector["tags"].items()}


# --- their place and their keys -------------------------------------------------------------------------


def test_credentials_are_sealed_under_their_label_at_their_place():
    token = seal_credentials(BEFORE, CREDENTIALS, ANA)
    place = Place(table="credentials", column="sealed", row_id=ANA, user_id=ANA)

    assert '"generation": 7' in Vault(subkey(ROOT_1, "credentials")).open(token, place)


def test_look_up_value_is_an_hmac_under_its_label():
    key = hkdf(ROOT_1, None, b"daybook p1 address", 32)

    tag = BEFORE.address_tags(CREDENTIALS.address)[1]

    assert tag == hmac.digest(key, b"ana@example.com", "sha256").hex()
    assert tag not in (BEFORE.bucket("ana@example.com"), BEFORE.device_tag("ana@example.com"))


def test_look_up_value_of_a_former_address_is_that_of_a_list_with_its_kind():
    key = hkdf(ROOT_1, None, b"daybook p1 look-up", 32)

    tag = BEFORE.former_address_tags(CREDENTIALS.address)[1]

    listed = b'["former_address", "ana@example.com"]'
    assert tag == hmac.digest(key, listed, "sha256").hex()


def test_credentials_are_sealed_anew_under_a_new_root_key():
    token = seal_credentials(BEFORE, CREDENTIALS, ANA)
    assert DURING.needs_rewrap(token)

    later = seal_credentials(DURING, open_credentials(DURING, token, ANA), ANA)

    assert token_version(later) == 2
    assert open_credentials(AFTER, later, ANA) == CREDENTIALS
    refuses(open_credentials, AFTER, token, ANA)
    refuses(open_credentials, DURING, later, BEN)


def test_address_has_a_look_up_value_under_each_root_key():
    tags = DURING.address_tags(CREDENTIALS.address)

    before, after = (keys.address_tags(CREDENTIALS.address) for keys in (BEFORE, AFTER))
    assert tags == before | after
    assert len(set(tags.values())) == 2


# --- the document ---------------------------------------------------------------------------------------


def test_field_of_a_newer_version_outlives_a_change():
    vector = next(one for one in VECTORS["opens"] if "newer" in one["name"])
    seen = opened(vector)

    token = seal_credentials(DURING, replace(seen, password_hash="another", generation=8), ANA)

    now = open_credentials(DURING, token, ANA)
    assert now.newer == {"recovery": {"codes": [1, 2]}, "note": "é"}
    assert (now.password_hash, now.generation) == ("another", 8)


def test_confirmation_of_an_address_is_kept():
    at = datetime(2026, 11, 25, 12, tzinfo=UTC)
    confirmed = replace(CREDENTIALS, confirmed=Confirmed(how=ConfirmedBy.CODE, at=at))

    token = seal_credentials(BEFORE, confirmed, ANA)

    assert open_credentials(BEFORE, token, ANA) == confirmed
    assert CREDENTIALS.confirmed is None


def test_newer_field_replaces_no_known_one():
    token = seal_credentials(BEFORE, replace(CREDENTIALS, newer={"generation": 1}), ANA)

    assert open_credentials(BEFORE, token, ANA) == CREDENTIALS


def test_mark_of_an_operator_is_of_one_hash():
    marked = replace(CREDENTIALS, has_operator_password=True)
    token = seal_credentials(BEFORE, marked, ANA)
    document = json.loads(BEFORE.open_credentials(token, ANA))

    assert open_credentials(BEFORE, token, ANA) == marked
    # as an earlier version of the app writes it, where the user sets another password
    changed = BEFORE.seal_credentials(json.dumps(document | {"hash": "another"}), ANA)
    assert not open_credentials(BEFORE, changed, ANA).has_operator_password
    none = BEFORE.seal_credentials(json.dumps(document | {"hash": None}), ANA)
    assert not open_credentials(BEFORE, none, ANA).has_operator_password
    with pytest.raises(ValueError, match="operator"):
        replace(marked, password_hash=None)


def test_address_taken_back_brings_no_operators_password():
    confirmed = Confirmed(how=ConfirmedBy.CODE, at=NOON)
    marked = replace(CREDENTIALS, has_operator_password=True, confirmed=confirmed)
    moved = marked.moved(checked_address("ana@example.net"), confirmed, NOON + timedelta(days=3))

    for hashed in ("a new hash", None):
        back = moved.taken_back(moved.former[0], confirmed, hashed)
        assert (back.password_hash, back.has_operator_password) == (hashed, False)
    assert "operator_hash" not in moved.former[0].ways_in


def test_account_secret_has_32_octets():
    with pytest.raises(ValueError, match="account secret"):
        replace(CREDENTIALS, account_secret=SECRET[:31])


def test_no_repr_shows_credentials():
    assert repr(CREDENTIALS) == "Credentials(generation=7, uses=0)"


# --- managed passwords ----------------------------------------------------------------------------------


def test_managed_password_has_forty_characters_of_four_classes():
    made = [managed_password() for _ in range(300)]

    assert len(set(made)) == 300
    letters = string.ascii_lowercase, string.ascii_uppercase, string.digits, string.punctuation
    for password in made:
        assert len(password) == len(password.encode()) == 40
        assert all(set(password) & set(kind) for kind in letters)
        assert set(password) <= set("".join(letters))


def test_managed_passwords_use_every_character_about_as_often():
    text = "".join(managed_password() for _ in range(300))

    counts = [text.count(sign) for sign in set(text)]
    assert len(counts) > 75
    assert max(counts) < 3 * min(counts)


# --- former addresses -----------------------------------------------------------------------------------

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=72)
CODE = Confirmed(how=ConfirmedBy.CODE, at=NOON)
B, C = checked_address("b@example.com"), checked_address("c@example.com")


def test_confirmed_address_that_is_left_is_a_former_one():
    first = replace(CREDENTIALS, confirmed=CODE, newer={"keys": ["own"]})

    moved = first.moved(B, CODE, LATER)

    assert (moved.address, moved.confirmed, moved.generation) == (B, CODE, 8)
    former = moved.former_at(CREDENTIALS.address, NOON)
    assert (former.until, former.ways_in) == (LATER, {"keys": ["own"]})
    assert moved.former_at(CREDENTIALS.address, LATER) is None
    assert CREDENTIALS.moved(B, CODE, LATER).former == ()  # never confirmed
    token = seal_credentials(BEFORE, moved, ANA)
    assert open_credentials(BEFORE, token, ANA) == moved


def test_former_address_brings_its_ways_in_back_and_a_new_password():
    first = replace(CREDENTIALS, confirmed=CODE, newer={"keys": ["own"]})
    second = first.moved(B, CODE, LATER)
    third = replace(second, newer={"keys": ["own", "a thief's"]}).moved(C, CODE, LATER)
    stolen = replace(third, password_hash="a thief's", newer={"keys": ["a thief's"]})

    back = stolen.taken_back(stolen.former_at(B, NOON), CODE, "new")

    assert (back.address, back.password_hash, back.generation) == (B, "new", 10)
    assert back.newer == {"keys": ["own", "a thief's"]}
    assert [one.address for one in back.former] == [CREDENTIALS.address]
    first_again = back.taken_back(back.former[0], CODE, "newer")
    assert (first_again.newer, first_again.former) == ({"keys": ["own"]}, ())
    kept = (first_again.account_secret, first_again.managed_password)
    assert kept == (CREDENTIALS.account_secret, CREDENTIALS.managed_password)


def test_former_addresses_end_and_the_oldest_are_kept():
    credentials = replace(CREDENTIALS, confirmed=CODE)
    for number in range(6):
        address = checked_address(f"{number}@example.com")
        credentials = credentials.moved(address, CODE, LATER)
    assert credentials.former[0].address == CREDENTIALS.address
    assert len(credentials.former) == 4

    confirmed = replace(CODE, at=LATER)
    last = credentials.moved(B, confirmed, LATER + timedelta(hours=72))

    assert [one.address for one in last.former] == [credentials.address]


def test_address_that_is_the_current_one_again_is_no_former_one():
    moved = replace(CREDENTIALS, confirmed=CODE).moved(B, CODE, LATER)

    back = moved.moved(CREDENTIALS.address, CODE, LATER)

    assert [one.address for one in back.former] == [B]


# --- the second factor ----------------------------------------------------------------------------------

FACTOR = Factor(secret=bytes(range(20)), since=NOON, step=59853600)
CODES = ("a" * 64, "b" * 64)  # hashes of recovery codes


def version(credentials):
    """The version of the document that is sealed and opened again."""
    token = seal_credentials(BEFORE, credentials, ANA)
    assert open_credentials(BEFORE, token, ANA) == credentials
    return json.loads(BEFORE.open_credentials(token, ANA))["version"]


def test_factor_is_a_way_in_that_an_address_brings_back():
    first = replace(CREDENTIALS, confirmed=CODE, factor=FACTOR, recovery=CODES, uses=3)
    second = replace(first.moved(B, CODE, LATER), factor=None, recovery=(), uses=5)

    back = second.taken_back(second.former_at(CREDENTIALS.address, NOON), CODE, "new")

    assert (back.factor, back.recovery, back.uses) == (FACTOR, CODES, 5)
    alien = replace(CREDENTIALS, confirmed=CODE).moved(B, CODE, LATER)
    stolen = replace(alien, factor=FACTOR, uses=1)
    own = stolen.taken_back(stolen.former_at(CREDENTIALS.address, NOON), CODE, "new")
    assert (own.factor, own.uses) == (None, 1)


def test_factor_that_comes_back_keeps_what_was_used_up():
    first = replace(CREDENTIALS, confirmed=CODE, factor=FACTOR, recovery=CODES)
    moved = first.moved(B, CODE, LATER)

    def back(now):
        now = replace(now, factor=None, recovery=())  # a thief has removed it
        found = now.taken_back(now.former_at(CREDENTIALS.address, NOON), CODE, "new")
        return found.factor, found.recovery

    later, spent = FACTOR.step + 1, CODES[0]
    used = replace(FACTOR, step=later)
    assert back(moved.used(step=later)) == (used, CODES)
    assert back(moved.used(step=later).used(spent=spent)) == (used, CODES[1:])
    assert back(moved.used(spent=spent)) == (FACTOR, CODES[1:])
    assert back(moved.used(step=FACTOR.step - 1)) == (FACTOR, CODES)
    assert back(first.used(step=later).moved(B, CODE, LATER)) == (used, CODES)


def test_factor_that_an_operator_removes_comes_back_by_no_address():
    first = replace(CREDENTIALS, confirmed=CODE, factor=FACTOR, recovery=CODES)

    left = first.moved(B, CODE, LATER).without_factor()

    back = left.taken_back(left.former_at(CREDENTIALS.address, NOON), CODE, "new")
    for one in (left, back):
        assert (one.factor, one.recovery) == (None, ())
    assert left.generation == 9


def test_use_of_another_factor_leaves_a_former_one():
    own = replace(CREDENTIALS, factor=replace(FACTOR, secret=bytes(20)), recovery=("c" * 64,))
    moved = replace(own, confirmed=CODE).moved(B, CODE, LATER)
    stolen = replace(moved, factor=FACTOR, recovery=CODES)

    used = stolen.used(step=FACTOR.step + 1).used(spent=CODES[0])

    assert used.former == stolen.former
    assert (used.uses, used.recovery) == (2, CODES[1:])
    newer = replace(moved.former[0], ways_in={"factor": "phone"})
    assert replace(stolen, former=(newer,)).used(step=FACTOR.step + 1).former == (newer,)


def test_document_has_version_2_once_it_has_had_a_factor():
    """An earlier version of the app would drop the factor when it writes."""
    confirmed = replace(CREDENTIALS, confirmed=CODE)
    moved = replace(confirmed, factor=FACTOR).moved(B, CODE, LATER)

    assert [version(one) for one in (confirmed, confirmed.moved(B, CODE, LATER))] == [1, 1]
    had = replace(confirmed, factor=FACTOR), replace(confirmed, uses=1), replace(moved, factor=None)
    assert [version(one) for one in had] == [2, 2, 2]


def test_factor_that_comes_back_is_not_used_up_by_the_one_of_a_thief():
    moved = replace(CREDENTIALS, confirmed=CODE, factor=FACTOR).moved(B, CODE, LATER)
    thief = Factor(secret=bytes(20), since=NOON, step=FACTOR.step + 1_000)
    taken = replace(moved, factor=thief, uses=10)

    back = taken.taken_back(moved.former_at(CREDENTIALS.address, NOON), CODE, "new")

    assert back.factor == FACTOR


@pytest.mark.parametrize("wrong", [{"secret": bytes(19)}, {"step": -1}])
def test_factor_has_one_form(wrong):
    with pytest.raises(ValueError, match="factor"):
        replace(FACTOR, **wrong)


@pytest.mark.parametrize("wrong", ["A" * 64, "a"])
def test_recovery_codes_are_kept_as_hashes(wrong):
    with pytest.raises(ValueError, match="recovery"):
        replace(CREDENTIALS, factor=FACTOR, recovery=(wrong,))


def test_recovery_codes_are_of_the_app_and_of_a_passkey_that_is_asked_for():
    """They go with the last of the two, and a code that is used up stays so."""
    both = replace(CREDENTIALS, factor=FACTOR, passkeys=MAYAS, recovery=CODES)
    optional = replace(MAYAS, is_factor=False)

    def kept(**changed):
        token = seal_credentials(BEFORE, replace(both, **changed), ANA)
        return open_credentials(BEFORE, token, ANA).recovery

    assert [kept(), kept(factor=None), kept(passkeys=optional)] == [CODES] * 3
    assert [kept(factor=None, passkeys=one) for one in (optional, None)] == [(), ()]
    used = replace(both, factor=None).used(spent=CODES[0])
    assert (used.recovery, used.uses) == (CODES[1:], 1)
    assert CREDENTIALS.used(step=1) == CREDENTIALS


def test_no_repr_shows_a_factor():
    shown = repr(replace(CREDENTIALS, factor=FACTOR, recovery=CODES)) + repr(FACTOR)

    assert not any(text in shown for text in ("aaaa", "\\x01", "secret"))


# --- identities and passkeys ----------------------------------------------------------------------------

WORK = LinkedIdentity(
    identity=Identity("https://login.example.com", "ana"),
    name="Work",
    created_at=NOON,
    last_used_at=LATER,
)
HOME = replace(WORK, identity=Identity("https://home.example.com", "ana"), last_used_at=None)


def test_document_has_version_3_once_it_has_identities_or_passkeys():
    """An earlier version of the app would let nobody in by them, and bring them back with an address."""
    confirmed = replace(CREDENTIALS, confirmed=CODE, factor=FACTOR)
    had = [
        replace(confirmed, **ways_in)
        for ways_in in ({"identities": (WORK, HOME)}, {"passkeys": MAYAS})
    ]
    left = [
        replace(one.moved(B, CODE, LATER), identities=(), passkeys=None, factor=None) for one in had
    ]

    assert [version(one) for one in (confirmed, *had, *left)] == [2, 3, 3, 3, 3]


def test_identities_and_passkeys_are_ways_in_that_an_address_brings_back():
    first = replace(CREDENTIALS, confirmed=CODE, identities=(WORK,), passkeys=MAYAS)
    moved = first.moved(B, CODE, LATER)
    stolen = replace(moved, identities=(HOME,), passkeys=replace(MAYAS, each=(LAPTOP,)))

    back = stolen.taken_back(stolen.former_at(CREDENTIALS.address, NOON), CODE, "new")

    assert (back.identities, back.passkeys) == ((WORK,), MAYAS)
    alien = replace(CREDENTIALS, confirmed=CODE).moved(B, CODE, LATER)
    taken = replace(alien, identities=(HOME,), passkeys=MAYAS)
    own = taken.taken_back(taken.former_at(CREDENTIALS.address, NOON), CODE, "new")
    assert (own.identities, own.passkeys) == ((), None)


def test_passkey_that_is_asked_for_is_a_second_factor():
    optional = replace(MAYAS, is_factor=False)

    wants = [
        replace(CREDENTIALS, **ways_in).wants_factor
        for ways_in in ({}, {"passkeys": optional}, {"passkeys": MAYAS}, {"factor": FACTOR})
    ]

    assert wants == [False, False, True, True]


def test_passkey_that_an_operator_no_longer_asks_for_is_asked_for_by_no_address():
    first = replace(CREDENTIALS, confirmed=CODE, passkeys=MAYAS)

    left = first.moved(B, CODE, LATER).without_factor()

    back = left.taken_back(left.former_at(CREDENTIALS.address, NOON), CODE, "new")
    for one in (left, back):
        assert (one.wants_factor, one.passkeys.each) == (False, (LAPTOP, PHONE))


def test_passkeys_that_an_operator_removes_come_back_by_no_address():
    first = replace(CREDENTIALS, confirmed=CODE, passkeys=MAYAS)

    left = first.moved(B, CODE, LATER).without_factor(keeps_passkeys=False)

    back = left.taken_back(left.former_at(CREDENTIALS.address, NOON), CODE, "new")
    for one in (left, back):
        assert one.passkeys == replace(MAYAS, each=(), is_factor=False)


def test_passkey_that_comes_back_keeps_its_sign_count():
    counted = replace(LAPTOP, sign_count=5)
    mine = replace(MAYAS, each=(counted, PHONE))
    moved = replace(CREDENTIALS, confirmed=CODE, passkeys=mine).moved(B, CODE, LATER)

    def back(now):
        now = replace(now, passkeys=None)  # a thief has removed them
        return now.taken_back(now.former_at(CREDENTIALS.address, NOON), CODE, "new").passkeys

    later = replace(counted, sign_count=9, last_used_at=LATER)
    used = moved.passkey_used(later)
    assert (used.passkeys.each, used.uses) == ((later, PHONE), 1)
    assert back(used).each == (later, PHONE)
    forged = replace(later, public_key=b"a thief's", sign_count=2**32 - 1)
    assert back(moved.passkey_used(forged)).each == mine.each
    assert back(moved.passkey_used(replace(counted, sign_count=1))).each[0].sign_count == 5
    newer = replace(moved.former[0], ways_in={"passkeys": "phone"})
    assert replace(moved, former=(newer,)).passkey_used(later).former == (newer,)
    assert CREDENTIALS.passkey_used(later) == CREDENTIALS


@pytest.mark.parametrize(
    "wrong",
    [
        (WORK, replace(WORK, name="Again")),
        tuple(
            replace(WORK, identity=Identity("https://example.com", str(number)))
            for number in range(MOST_IDENTITIES + 1)
        ),
    ],
    ids=["twice", "eleven"],
)
def test_user_has_each_identity_once_and_ten_at_most(wrong):
    with pytest.raises(ValueError, match="identit"):
        replace(CREDENTIALS, identities=wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "x" * 61},
        {"identity": Identity("", "ana")},
        {"identity": Identity("https://login.example.com", "")},
    ],
)
def test_linked_identity_has_an_issuer_a_subject_and_a_name(wrong):
    with pytest.raises(ValueError, match="identity"):
        replace(WORK, **wrong)


def test_no_repr_shows_identities_or_passkeys():
    shown = repr(replace(CREDENTIALS, identities=(WORK,), passkeys=MAYAS)) + repr(WORK)

    assert not any(text in shown for text in ("login", "ana", "Work", "laptop", "Laptop"))
