"""The credentials of an account, as the operator's commands open them."""

from dataclasses import replace
from types import SimpleNamespace
from uuid import uuid4

import pytest

from services.crypto import Credentials, RootKeys, new_key
from services.domain import UserId
from services.errors import Misconfigured, NewerVersion
from services.operate.accounts import open_account, opens
from services.store.credentials import seal_stored

RING = RootKeys({1: new_key()}, current=1)
MAYA, OMAR = "maya@daybook.test", "omar@daybook.test"


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


def test_credentials_of_newer_version_need_no_backup(monkeypatch):
    monkeypatch.setattr("services.crypto.credentials._VERSION", 2)
    stored = stored_of(MAYA)

    with pytest.raises(NewerVersion):
        opened(stored)
    assert opens(RING, stored)
