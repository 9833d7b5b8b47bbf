"""The passkeys of a user: where they work, their bounds, their changes, and their field in a document."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as some

from services.crypto.passkeys import read, written
from services.domain.passkeys import (
    MOST_PASSKEYS,
    Passkey,
    Passkeys,
    RelyingParty,
    Transport,
    relying_party,
)
from services.errors import BadInput, PasskeyExists, PasskeyMissing, TooManyPasskeys
from services.store.passkeys import added, checked_name, find, removed, renamed

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)
LAPTOP = Passkey(
    credential_id=b"laptop",
    public_key=b"key",
    sign_count=0,
    rp_id="daybook.test",
    name="Laptop",
    created_at=NOON,
)
PHONE = replace(LAPTOP, credential_id=b"phone", name="Phone", is_synced=True)
MAYAS = Passkeys(user_handle=bytes(64), each=(LAPTOP, PHONE), is_factor=True)


@pytest.mark.parametrize(
    ("public_url", "host", "expected"),
    [
        ("https://daybook.test", "evil.test", ("daybook.test", "https://daybook.test")),
        ("https://daybook.test:8443", "", ("daybook.test", "https://daybook.test:8443")),
        ("http://daybook.localhost", "", ("daybook.localhost", "http://daybook.localhost")),
        (None, "localhost:8501", ("localhost", "http://localhost:8501")),
        (None, "daybook.localhost", ("daybook.localhost", "http://daybook.localhost")),
        *((None, host, None) for host in ("127.0.0.1:8501", "[::1]:8501", "192.0.2.1", "daybook")),
        *((None, host, None) for host in ("localhost.evil.test", "evillocalhost", "localhost.")),
        *((None, host, None) for host in ("", "[", "evil.test/localhost", "localhost@evil.test")),
        ("http://daybook.test", "localhost", None),
        ("https://192.0.2.1", "localhost", None),
        ("https://[2001:db8::1]", "localhost", None),
    ],
)
def test_relying_party_is_the_configured_host_or_localhost(public_url, host, expected):
    party = expected and RelyingParty(id=expected[0], origin=expected[1])

    assert relying_party(public_url, "http", host) == party


def test_host_of_the_address_bar_is_not_trusted_with_https_either():
    assert relying_party(None, "https", "evil.test") is None
    local = RelyingParty(id="localhost", origin="https://localhost")
    assert relying_party(None, "https", "localhost") == local


@pytest.mark.parametrize(
    "changes",
    [
        *({"credential_id": b""}, {"credential_id": bytes(1024)}),
        *({"public_key": b""}, {"public_key": bytes(1025)}),
        *({"sign_count": -1}, {"sign_count": 2**32}),
        *({"rp_id": ""}, {"name": ""}, {"name": "n" * 61}),
    ],
)
def test_passkey_out_of_bounds_is_none(changes):
    with pytest.raises(ValueError, match="has"):
        replace(LAPTOP, **changes)


@pytest.mark.parametrize(
    "changes",
    [{"user_handle": bytes(63)}, {"each": (LAPTOP, LAPTOP)}, {"each": ()}],
)
def test_passkeys_out_of_bounds_are_none(changes):
    with pytest.raises(ValueError, match="user"):
        replace(MAYAS, **changes)


def numbered(count):
    return tuple(replace(LAPTOP, credential_id=bytes([n])) for n in range(count))


def test_user_adds_at_most_twenty_passkeys():
    passkeys = Passkeys(user_handle=bytes(64))
    for one in numbered(MOST_PASSKEYS):
        passkeys = added(passkeys, one)

    assert passkeys.each == numbered(20)
    with pytest.raises(TooManyPasskeys):
        added(passkeys, PHONE)
    with pytest.raises(PasskeyExists):
        added(passkeys, passkeys.each[0])
    with pytest.raises(ValueError, match="20"):
        replace(passkeys, each=numbered(21))


def test_one_passkey_is_renamed():
    assert renamed(MAYAS, b"phone", " Old phone ").each == (
        LAPTOP,
        replace(PHONE, name="Old phone"),
    )


@pytest.mark.parametrize("name", ["", "  ", "n" * 61, "two\nlines", "a\u202eb"])
def test_name_that_cannot_be_shown_is_refused(name):
    with pytest.raises(BadInput) as refused:
        checked_name(name)
    assert refused.value.public == "Enter a name (max. 60 characters)."


def test_factor_ends_with_the_last_passkey():
    one = removed(MAYAS, b"laptop")

    assert (one.each, one.is_factor) == ((PHONE,), True)
    assert removed(one, b"phone") == Passkeys(user_handle=bytes(64))


def test_used_passkey_takes_its_own_place():
    after = replace(LAPTOP, sign_count=3, last_used_at=NOON)

    assert MAYAS.used(after) == replace(MAYAS, each=(after, PHONE))
    assert find(MAYAS.used(after), b"laptop") == after
    for other in ({"credential_id": b"lap"}, {"public_key": b"another key"}):
        assert MAYAS.used(replace(after, **other)) == MAYAS


@pytest.mark.parametrize(
    "change",
    [
        lambda: find(MAYAS, b"lap"),
        lambda: removed(MAYAS, b"lap"),
        lambda: renamed(MAYAS, b"lap", "Tablet"),
    ],
    ids=["find", "remove", "rename"],
)
def test_unknown_passkey_is_missing(change):
    with pytest.raises(PasskeyMissing):
        change()


seconds = some.integers(0, 2**32).map(lambda at: datetime.fromtimestamp(at, UTC))
each = some.builds(
    Passkey,
    credential_id=some.binary(min_size=1, max_size=64),
    public_key=some.binary(min_size=1, max_size=90),
    sign_count=some.integers(0, 2**32 - 1),
    rp_id=some.text(min_size=1, max_size=20),
    name=some.text(min_size=1, max_size=60),
    created_at=seconds,
    last_used_at=some.none() | seconds,
    is_synced=some.booleans(),
    verifies_user=some.booleans(),
    transports=some.lists(some.sampled_from(Transport), unique=True).map(tuple),
)
lists = some.lists(each, max_size=4, unique_by=lambda one: one.credential_id).map(tuple)


@given(lists, some.binary(min_size=64, max_size=64), some.booleans())
def test_written_passkeys_are_read_again(each, user_handle, is_factor):
    passkeys = Passkeys(user_handle=user_handle, each=each, is_factor=is_factor and bool(each))

    assert read(json.loads(json.dumps(written(passkeys)))) == passkeys


def changed(**fields):
    return {"user_handle": "A" * 86, "is_factor": False, "each": []} | fields


def changed_one(**fields):
    (one,) = written(replace(MAYAS, each=(LAPTOP,)))["each"]
    return changed(each=[one | fields])


def test_absent_passkeys_are_none_and_empty_ones_some():
    assert read(None) is None
    assert read(changed()) == Passkeys(user_handle=bytes(64))
    assert read(changed_one()).each == (LAPTOP,)


@pytest.mark.parametrize(
    "value",
    [
        *([], "", 0, {}, changed(added=1), changed(user_handle="AA"), changed(user_handle="A=")),
        *(changed(each={}), changed(each=[1]), changed(is_factor=1), changed(is_factor=True)),
        *(changed_one(added=1), changed_one(id=""), changed_one(key="A="), changed_one(count=-1)),
        *(changed_one(rp=None), changed_one(name=""), changed_one(made="1"), changed_one(used="")),
        *(changed_one(synced=0), changed_one(transports=["smoke"]), changed_one(transports="usb")),
    ],
)
def test_field_of_a_newer_version_is_not_read(value):
    with pytest.raises(ValueError, match=r"\w"):
        read(value)
