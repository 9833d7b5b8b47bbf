"""Copies from an SQLite file into Firestore, on an emulator, and back."""

from contextlib import closing, contextmanager
from functools import partial

import pytest

from services.store import firestore as product
from services.store.firestore import FirestorePlace
from services.store.firestore import place as places
from services.store.firestore.lease import Lease
from services.store.tables import schema
from services.store.tables.backend import TablesBackend
from services.store.tables.copying import TablesCopy
from services.store.tables.opening import check_root_key, let_first_account_be_admin
from tests.firestore import Wire, new_place
from tests.store.conformance import talk
from tests.store.conftest import PASSWORD, new_email
from tests.store.test_copy import (
    NOT_COPIED,
    OTHER_DATA,
    RING,
    add_rare_rows,
    copied_rows,
    cut_after,
    named,
    opened,
    rows_of,
)
from tests.store.test_copy import run as run  # a fixture
from tests.store.test_firestore import LEASE
from tests.stores import OpenStore, WholeAccounts, store_of


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The path of a store with an admin and a user, and a row in each table."""
    path = tmp_path_factory.mktemp("made") / "source.db"
    with opened(path) as tables:
        let_first_account_be_admin(tables, is_let=True)
        store = OpenStore(tables)
        accounts = WholeAccounts(TablesBackend(store), RING, 3600, 3600)
        admin, maya = (accounts.sign_up_with(new_email(), PASSWORD)[1] for _ in range(2))
        admin.backend.administration.set_deployment_cap(50_000_000)
        talk.fill_chats(store_of(maya), lambda: store.let_pass(60))
        add_rare_rows(tables, maya.user_id)
    return path


@pytest.fixture
def target(firestore, monkeypatch):
    """The place of a new store, which a command opens through a `Wire`, too."""
    place = new_place(firestore, Wire())
    monkeypatch.setattr(product, "FirestorePlace", partial(FirestorePlace, connect=place.connect))
    return place


@pytest.fixture
def copy(run, source, target):
    return lambda *options: run("copy", named(source), f"firestore:{target.project}", *options)


@contextmanager
def opened_at(place):
    with closing(place.open(is_app=False)) as tables:
        check_root_key(tables, RING)
        yield tables


def test_copy_into_firestore_and_back_has_every_row(run, copy, source, target, tmp_path):
    back = tmp_path / "back.db"

    code, said = copy()

    assert (code, "Copied and compared: " in said) == (0, True)
    rows = rows_of(source)
    assert {name for name, *_ in rows} == schema.TABLES.keys() - NOT_COPIED
    with opened_at(target) as tables:
        assert copied_rows(tables) == rows
    assert copy()[1].endswith("Copied and compared: nothing, all is there.")
    assert run("copy", f"firestore:{target.project}", named(back))[0] == 0
    assert rows_of(back) == rows


def test_copy_into_firestore_that_was_cut_short_goes_on(copy, source, target):
    with cut_after(40):
        assert copy()[0] == 9
    rows = rows_of(source)
    with opened_at(target) as tables:
        copied, begun = copied_rows(tables), set(TablesCopy(tables).user_ids())
    accounts = {row.id for (name, *_), row in copied.items() if name == "accounts"}

    assert accounts < begun  # the rows of a user without an account are not yet all there
    assert all(copied.get(key) == row for key, row in rows.items() if key[1] in accounts)
    assert copy()[0] == 0
    with opened_at(target) as tables:
        assert copied_rows(tables) == rows


def test_dry_run_makes_no_store_in_firestore(copy, target):
    code, said = copy("--dry-run")

    assert (code, "2 accounts" in said) == (0, True)
    assert not target.exists()


def test_firestore_with_other_data_is_refused(copy, target):
    with opened_at(target) as tables:
        WholeAccounts(TablesBackend(tables), RING, 3600, 3600).enter(None)
        before = copied_rows(tables)

    assert copy() == (1, OTHER_DATA)

    with opened_at(target) as tables:
        assert copied_rows(tables) == before


def test_firestore_of_a_running_app_is_refused(copy, target, monkeypatch):
    monkeypatch.setattr(places, "Lease", partial(Lease, **LEASE))

    with closing(target.open()):
        code, said = copy()

    assert (code, said.startswith("Another Daybook is using this Firestore")) == (1, True)
