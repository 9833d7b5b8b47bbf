"""The credentials of an account, as the operator's commands open them."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from uuid import uuid4

import pytest

from services.crypto import Credentials, FormerAddress, RootKeys, new_key
from services.domain import UserId
from services.errors import Misconfigured, NewerVersion
from services.operate.accounts import lookup_faults, move_issuer, open_account, opens
from services.store.credentials import open_stored, seal_stored, way_in_tags
from services.store.operator import LookupFault, Mark, judge_lookups
from tests.unit.test_credentials import WORK
from tests.unit.test_passkeys import MAYAS

RING = RootKeys({1: new_key()}, current=1)
NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)
MAYA, OMAR = "maya@daybook.test", "omar@daybook.test"
NEW = "https://new.example.com"


def stored_of(email, ring=RING, **changes):
    fields = {
        "address": email,
        "password_hash": None,
        "account_secret": new_key(),
        "managed_password": "managed",
        "generation": 3,
    }
    return seal_stored(ring, Credentials(**fields | changes), UserId(uuid4()))


def opened(stored):
    operator = SimpleNamespace(find_credentials=lambda email, lookups: stored)
    return open_account(operator, RING, MAYA)


def test_credentials_of_account_are_opened():
    stored = stored_of(MAYA)

    assert opened(stored)[0] is stored
    assert opened(stored)[1].managed_password == "managed"
    assert opens(RING, stored)


def test_credentials_are_found_under_each_root_key():
    ring = RootKeys({1: new_key(), 2: new_key()}, current=2)
    first = RootKeys({1: new_key()}, current=1)
    asked = []
    operator = SimpleNamespace(find_credentials=lambda email, lookups: asked.extend(lookups))

    with pytest.raises(Misconfigured):
        open_account(operator, ring, MAYA)

    assert asked == [*ring.address_tags(MAYA).values()]
    assert not opens(ring, stored_of(MAYA, first))


@pytest.mark.parametrize(
    "stored",
    [
        None,
        stored_of(OMAR),
        replace(stored_of(MAYA), generation=4),
        replace(stored_of(MAYA), id=uuid4()),
        replace(stored_of(MAYA), sealed=stored_of(MAYA).sealed),
        replace(stored_of(MAYA), user_id=None),
        stored_of(MAYA, RootKeys({1: new_key()}, current=1)),
    ],
    ids=["gone", "address", "generation", "id", "row", "pending", "root key"],
)
def test_other_credentials_name_the_backup(stored):
    with pytest.raises(Misconfigured, match=r"private\.credentials back from a backup"):
        opened(stored)


def test_swapped_lookups_are_named():
    maya, omar = stored_of(MAYA), stored_of(OMAR)

    assert not opens(RING, replace(maya, lookup=omar.lookup))


def test_former_address_is_missed_until_it_expires_on_every_clock():
    former = FormerAddress(address="old@daybook.test", until=NOON, ways_in={})
    stored = stored_of(MAYA, former=(former,))
    lookups = RING.former_address_tags("old@daybook.test").values()
    unsealed = replace(stored, sealed=stored_of(MAYA).sealed)

    def faults(stored, lookups, minutes=-6):
        return [*lookup_faults(RING, stored, lookups, NOON + timedelta(minutes=minutes))]

    assert faults(stored, lookups) == faults(stored, lookups, 1) == []
    assert faults(stored, ()) == [LookupFault.MISSING]
    assert faults(stored, (), -4) == []
    assert faults(stored, ["a" * 64]) == [LookupFault.UNNAMED, LookupFault.MISSING]
    assert faults(None, lookups) == [LookupFault.UNNAMED]
    assert faults(None, ()) == faults(unsealed, lookups) == []  # named among the credentials


def test_moved_identity_needs_the_root_key_of_its_credentials_alone():
    first, second = new_key(), new_key()
    stored = stored_of(MAYA, RootKeys({1: first}, 1), identities=(WORK,))
    changed = []
    operator = SimpleNamespace(
        credentials=lambda: [stored],
        change_credentials=lambda row, *_, ways_in, **__: changed.append((row, ways_in)) or True,
    )

    [*move_issuer(operator, RootKeys({1: first, 2: second}, 2), WORK.identity.issuer, NEW)]

    [(row, ways_in)] = changed
    assert lookup_faults(RootKeys({1: first}, 1), row, ways_in) == []


def test_former_address_under_an_older_root_key_is_found():
    ring = RootKeys({1: new_key(), 2: new_key()}, current=2)
    former = FormerAddress(address="old@daybook.test", until=NOON, ways_in={})
    stored = stored_of(MAYA, ring, former=(former,))

    for lookup in ring.former_address_tags("old@daybook.test").values():
        assert not lookup_faults(ring, stored, [lookup], NOON - timedelta(hours=1))


@pytest.mark.parametrize("ways_in", [{"identities": (WORK,)}, {"passkeys": MAYAS}])
def test_look_up_of_each_way_in_is_missed_at_once(ways_in):
    ring = RootKeys({1: new_key(), 2: new_key()}, current=2)
    stored = stored_of(MAYA, ring, **ways_in)
    tags = way_in_tags(ring, open_stored(ring, stored))

    for version in (1, 2):
        lookups = [one[version] for one in tags]
        assert lookup_faults(ring, stored, lookups) == []
        assert lookup_faults(ring, stored, lookups[1:]) == [LookupFault.MISSING]
        assert lookup_faults(ring, stored, [*lookups, "a" * 64]) == [LookupFault.UNNAMED]


def test_finding_about_former_addresses_names_three_users():
    mark, text = judge_lookups({name: [LookupFault.MISSING] for name in "abcd"} | {"e": []}, 3)

    assert (mark, "not reserved (a, b, c, …): " in text) == (Mark.FAIL, True)
    assert judge_lookups({"a": [], "b": []}, 3)[0] is Mark.OK


def test_credentials_of_newer_version_need_no_backup():
    stored = stored_of(MAYA)
    document = json.loads(RING.open_credentials(stored.sealed, stored.id)) | {"version": 4}
    stored = replace(stored, sealed=RING.seal_credentials(json.dumps(document), stored.id))

    with pytest.raises(NewerVersion):
        opened(stored)
    assert opens(RING, stored)
