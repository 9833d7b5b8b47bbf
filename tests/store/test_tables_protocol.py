"""The protocol of tables: what every store over tables promises, with rows of the tables of the schema."""

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import date, timedelta, timezone
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import pytest

from services.domain import UserId
from services.domain.rows import DocumentKind
from services.store.backend import WrappedKey
from services.store.files import FilesPlace
from services.store.sqlite import SqlitePlace
from services.store.tables.in_memory import InMemoryStore
from services.store.tables.protocol import (
    MOST_ROW_BYTES,
    MOST_WRITES,
    JoinsBlocks,
    Range,
    ReadsAll,
    SetsPace,
    rows_of_all,
)
from services.store.tables.row_texts import row_text
from services.store.tables.schema import (
    ACCOUNTS,
    AUDIT,
    CONVERSATIONS,
    COUNTS,
    DAYS,
    DISCARDS,
    DOCUMENTS,
    LEDGER,
    MESSAGES,
    NONCES,
    PIECES,
    RECEIPTS,
    TABLES,
    THOUGHTS,
    THROTTLES,
    TURNS,
)
from tests.firestore import Wire, new_place
from tests.stack.apps import ROOT, until
from tests.store.conformance.bytes_store import BytesStore
from tests.store.counting import add_one
from tests.store.made_rows import LARGEST, MICROSECOND, NOON, full_row_of, row_of

THREADS, STEPS = 3, 5
OFFERS = JoinsBlocks, ReadsAll, SetsPace


# --- the stores


@dataclass(frozen=True)
class Kind:
    """A kind of store over tables."""

    # takes pytest's `getfixturevalue`; returns a new place, whose `open` opens the same store at each call
    make_place: Callable
    is_kept: bool = False  # true: rows outlive the closing of the store
    # takes the same and a place, and returns the address by which another process opens it (`counting.place_at`); None: the
    # store takes one process only
    address: Callable | None = None
    has_row_limit: bool = False  # true: refuses rows of more than MOST_ROW_BYTES
    # the protocols that it implements beside `AllTables`
    offers: tuple = ()
    # true: differs from another kind only in its files, so that only the tests run that open it again
    is_variant: bool = False


def in_process(make):
    """Return a function that makes a place of a store that is lost when it is closed."""
    return lambda fixture: SimpleNamespace(open=make)


def in_folder(kind):
    """Return a function that makes a *kind* of place in a new folder."""
    return lambda fixture: kind(Path(tempfile.mkdtemp(dir=fixture("files_place"))) / "store")


def in_emulator(fixture):
    return new_place(fixture("firestore"), Wire(has_all_indexes=True))


STORES = {
    "in-memory": Kind(in_process(InMemoryStore)),
    "bytes": Kind(in_process(BytesStore), has_row_limit=True),
    "sqlite": Kind(
        in_folder(SqlitePlace),
        is_kept=True,
        address=lambda fixture, place: f"sqlite:{place.path}",
        offers=(JoinsBlocks,),
    ),
    "json": Kind(in_folder(FilesPlace), is_kept=True),
    "json-plain": Kind(
        in_folder(partial(FilesPlace, is_plain=True)), is_kept=True, is_variant=True
    ),
    "firestore": Kind(
        in_emulator,
        is_kept=True,
        address=lambda fixture, place: f"firestore:{fixture('firestore')}/{place.project}",
        has_row_limit=True,
        offers=(ReadsAll, SetsPace),
    ),
}
EVERY = [name for name, kind in STORES.items() if not kind.is_variant]
KEPT = [name for name, kind in STORES.items() if kind.is_kept]
FOR_TWO = [name for name, kind in STORES.items() if kind.address]


def offering(protocol):
    return [name for name in EVERY if protocol in STORES[name].offers]


class Running:
    """A store that the tests of this module share, each with users and keys of its own."""

    def __init__(self, kind, fixture):
        self.kind, self.place = kind, kind.make_place(fixture)
        self.address = kind.address and kind.address(fixture, self.place)
        self.store = self.place.open()

    def open_again(self):
        """Close the store and open it again, unless that would lose its rows: no row is in a cache."""
        if self.kind.is_kept:
            self.store.close()
            self.store = self.place.open()


class User:
    """A new user of a store."""

    def __init__(self, running):
        self.id, self._running = UserId(uuid4()), running

    @property
    def tables(self):
        return self._running.store.of(self.id)

    def run(self, work, **options):
        return self.tables.run(work, **options)

    def put(self, table, *rows, **options):
        self.run(lambda block: [block.put(table, row) for row in rows], **options)

    def delete(self, table, key):
        self.run(lambda block: block.delete(table, key))

    def get(self, table, key):
        return self.run(lambda block: block.get(table, key))

    def select(self, table, *arguments, **options):
        return self.run(lambda block: block.select(table, *arguments, **options))


@pytest.fixture(scope="module")
def opened():
    """The stores by the names of their kinds; each is opened for the first test that uses it."""
    stores = {}
    yield stores
    for running in stores.values():
        running.store.close()


@pytest.fixture(params=EVERY)
def running(request, opened):
    name = request.param
    if name not in opened:
        opened[name] = Running(STORES[name], request.getfixturevalue)
    return opened[name]


@pytest.fixture
def maya(running):
    return User(running)


@pytest.fixture
def omar(running):
    return User(running)


def on(names):
    """Run a test on the stores of these names."""
    return pytest.mark.parametrize("running", names, indirect=True)


# --- rows and their keys


def test_row_is_found_by_its_key_until_deleted(maya):
    row = row_of(CONVERSATIONS)
    maya.put(CONVERSATIONS, row)
    assert maya.get(CONVERSATIONS, row.id) == row

    maya.delete(CONVERSATIONS, row.id)

    assert maya.get(CONVERSATIONS, row.id) is None


def test_row_put_again_replaces_the_stored_one(maya):
    row = row_of(CONVERSATIONS)
    maya.put(CONVERSATIONS, row)

    maya.put(CONVERSATIONS, replace(row, rev=2, pinned_at=NOON))

    assert maya.select(CONVERSATIONS) == [replace(row, rev=2, pinned_at=NOON)]


def test_key_is_known_by_its_text(maya):
    row = row_of(CONVERSATIONS)
    maya.put(CONVERSATIONS, row)

    assert maya.get(CONVERSATIONS, str(row.id)) == row


def test_similar_keys_name_rows_of_their_own(maya):
    keys = ["a", "A", "a b", "a/b", "a%2Fb", "../a", "a\nb", "'a\"", "ä", "a\u0308", "😀"]
    keys += [".", "..", "%2E", "__a__", "%5F_a__"]
    rows = [row_of(LEDGER, id=key) for key in keys]

    maya.put(LEDGER, *rows)

    assert [maya.get(LEDGER, key) for key in keys] == rows
    assert len(maya.select(LEDGER)) == len(keys)


def test_deletion_of_a_missing_row_changes_nothing(maya):
    row = row_of(CONVERSATIONS)
    maya.put(CONVERSATIONS, row)

    maya.delete(CONVERSATIONS, uuid4())

    assert maya.select(CONVERSATIONS) == [row]


def test_last_write_of_a_block_to_a_key_counts(maya):
    first, second = row_of(CONVERSATIONS), row_of(CONVERSATIONS)

    def write(block):
        block.put(CONVERSATIONS, first)
        block.put(CONVERSATIONS, replace(first, rev=2))
        block.put(CONVERSATIONS, second)
        block.delete(CONVERSATIONS, second.id)

    maya.run(write)

    assert maya.select(CONVERSATIONS) == [replace(first, rev=2)]


def test_block_lists_its_writes_in_their_order(maya):
    row = row_of(CONVERSATIONS)

    def write(block):
        block.put(CONVERSATIONS, row)
        block.delete(LEDGER, "1")
        return list(block.writes)

    assert maya.run(write) == [(CONVERSATIONS, str(row.id), row), (LEDGER, "1", None)]


def test_rows_are_read_in_the_order_of_keys(maya):
    rows = [row_of(CONVERSATIONS) for _ in range(4)]
    maya.put(CONVERSATIONS, *rows)
    wanted = [rows[2], rows[0], rows[3]]

    keys = [row.id for row in wanted]
    assert maya.run(lambda block: block.get_all(CONVERSATIONS, keys)) == wanted


def test_keys_without_a_row_are_skipped(maya):
    row = row_of(CONVERSATIONS)
    maya.put(CONVERSATIONS, row)

    keys = [uuid4(), row.id, uuid4()]
    assert maya.run(lambda block: block.get_all(CONVERSATIONS, keys)) == [row]


# --- users and shared tables


def test_equal_keys_of_two_users_are_two_rows(maya, omar):
    row = row_of(CONVERSATIONS)
    other = replace(row, rev=2)

    maya.put(CONVERSATIONS, row)
    omar.put(CONVERSATIONS, other)

    assert [user.get(CONVERSATIONS, row.id) for user in (maya, omar)] == [row, other]


def test_deletion_spares_the_equal_key_of_another_user(maya, omar):
    row = row_of(CONVERSATIONS)
    maya.put(CONVERSATIONS, row)
    omar.put(CONVERSATIONS, row)

    omar.delete(CONVERSATIONS, row.id)

    assert (maya.select(CONVERSATIONS), omar.select(CONVERSATIONS)) == ([row], [])


def test_selection_finds_no_row_of_another_user(maya, omar):
    maya.put(LEDGER, row_of(LEDGER))

    assert omar.select(LEDGER) == omar.select(LEDGER, {"day": NOON.date()}) == []


def test_key_finds_no_row_of_another_user(maya, omar):
    row = row_of(LEDGER)
    maya.put(LEDGER, row)

    assert omar.get(LEDGER, row.id) is None
    assert omar.run(lambda block: block.get_all(LEDGER, [row.id])) == []


def test_shared_rows_are_the_same_for_all(running, maya, omar):
    row = row_of(NONCES)

    maya.put(NONCES, row)

    assert omar.get(NONCES, row.id) == row
    assert running.store.of(None).run(lambda block: block.get(NONCES, row.id)) == row


def test_block_stores_own_and_shared_rows_together(maya):
    own, shared = row_of(LEDGER), row_of(NONCES)

    def write(block):
        block.put(LEDGER, own)
        block.put(NONCES, shared)

    maya.run(write)

    assert (maya.get(LEDGER, own.id), maya.get(NONCES, shared.id)) == (own, shared)


@pytest.mark.parametrize(
    "act",
    [
        lambda block: block.get(LEDGER, "1"),
        lambda block: block.get_all(LEDGER, ["1"]),
        lambda block: block.select(LEDGER),
        lambda block: block.put(LEDGER, row_of(LEDGER)),
        lambda block: block.delete(LEDGER, "1"),
    ],
    ids=["get", "get_all", "select", "put", "delete"],
)
def test_tables_of_users_need_a_user(running, act):
    with pytest.raises(LookupError):
        running.store.of(None).run(act)


def test_refused_row_takes_its_block_along(running, maya):
    row = row_of(NONCES)

    def write(block):
        block.put(NONCES, row)
        block.put(LEDGER, row_of(LEDGER))

    with pytest.raises(LookupError):
        running.store.of(None).run(write)

    assert maya.get(NONCES, row.id) is None


# --- selections: conditions and ranges


def at(number):
    return NOON + number * MICROSECOND


VALUES = {  # a table and a field for each type of value, with four values in ascending order
    "number": (DOCUMENTS, "epoch", [-2, 2, 10, 10**12]),
    "text": (LEDGER, "id", ["1", "10", "2", "a"]),
    "time": (CONVERSATIONS, "updated_at", [at(0), at(1), at(2), at(10)]),
    "day": (LEDGER, "day", [date(2025, 12, 31), *(date(2026, 1, n) for n in (1, 2, 31))]),
    "missing time": (CONVERSATIONS, "pinned_at", [at(0), at(1), at(2), at(10)]),
}
of_each_type = pytest.mark.parametrize("kind", VALUES)


@pytest.fixture
def four(maya, kind):
    """The table, the field, and four rows of Maya in ascending order of their values, stored in another order."""
    table, name, values = VALUES[kind]
    rows = [row_of(table, **{name: value}) for value in values]
    maya.put(table, *(rows[number] for number in (2, 0, 3, 1)))
    return table, name, rows


def test_selection_without_a_condition_finds_all(maya):
    rows = [row_of(CONVERSATIONS, rev=number) for number in range(3)]
    maya.put(CONVERSATIONS, *rows)

    assert sorted(maya.select(CONVERSATIONS), key=lambda row: row.rev) == rows


@of_each_type
def test_value_of_each_type_is_found(maya, four):
    table, name, rows = four

    assert [maya.select(table, {name: getattr(row, name)}) for row in rows] == [
        [row] for row in rows
    ]


def test_name_of_an_enum_is_found(maya):
    rows = [row_of(DOCUMENTS, kind=kind) for kind in DocumentKind]
    maya.put(DOCUMENTS, *rows)

    assert [maya.select(DOCUMENTS, {"kind": kind}) for kind in DocumentKind] == [
        [row] for row in rows
    ]


def test_id_in_a_field_is_found(maya):
    rows = [row_of(DOCUMENTS, kind=DocumentKind.FACT, space_id=uuid4()) for _ in range(2)]
    maya.put(DOCUMENTS, *rows)

    assert maya.select(DOCUMENTS, {"space_id": rows[0].space_id}) == rows[:1]


def test_flag_is_found(maya):
    rows = [row_of(AUDIT, action=action, target=maya.id) for action in ("role", "proof.fail")]
    maya.put(AUDIT, *rows)

    found = [
        maya.select(AUDIT, {"target": maya.id, "is_failure": is_failure})
        for is_failure in (False, True)
    ]
    assert found == [[row] for row in rows]


def test_all_conditions_hold_together(maya):
    space = uuid4()
    rows = [
        row_of(DOCUMENTS, kind=kind, space_id=place)
        for kind in (DocumentKind.FACT, DocumentKind.PREFERENCES)
        for place in (space, None)
    ]
    maya.put(DOCUMENTS, *rows)

    where = {"kind": DocumentKind.FACT, "space_id": space}
    assert maya.select(DOCUMENTS, where) == rows[:1]


def test_none_equals_none_alone(maya):
    with_none, other = row_of(CONVERSATIONS), row_of(CONVERSATIONS, pinned_at=NOON)
    maya.put(CONVERSATIONS, with_none, other)

    assert maya.select(CONVERSATIONS, {"pinned_at": None}) == [with_none]
    assert maya.select(CONVERSATIONS, {"pinned_at": NOON}) == [other]


def test_time_of_another_zone_is_the_same_instant(maya):
    there = timezone(timedelta(hours=5, minutes=30))
    row = row_of(CONVERSATIONS, updated_at=NOON.astimezone(there))
    maya.put(CONVERSATIONS, row, row_of(CONVERSATIONS, updated_at=at(-1)))

    assert maya.select(CONVERSATIONS, {"updated_at": NOON}) == [row]
    assert maya.select(CONVERSATIONS, within=Range("updated_at", above=at(-1))) == [row]


@of_each_type
def test_range_excludes_above_and_includes_up_to(maya, four):
    table, name, rows = four
    first, _, third, _ = (getattr(row, name) for row in rows)

    assert maya.select(table, within=Range(name, first, third), order=(name,)) == rows[1:3]


@of_each_type
@pytest.mark.parametrize("is_above", [True, False], ids=["above", "up_to"])
def test_range_has_one_bound(maya, four, is_above):
    table, name, rows = four
    second = getattr(rows[1], name)
    within = Range(name, above=second) if is_above else Range(name, up_to=second)

    assert maya.select(table, {}, within, (name,)) == (rows[2:] if is_above else rows[:2])


@pytest.mark.parametrize(
    "bounds", [{}, {"above": at(-1)}, {"up_to": at(1)}], ids=["no bound", "above", "up_to"]
)
def test_no_range_includes_none(maya, bounds):
    row = row_of(CONVERSATIONS, pinned_at=NOON)
    maya.put(CONVERSATIONS, row, row_of(CONVERSATIONS))

    assert maya.select(CONVERSATIONS, within=Range("pinned_at", **bounds)) == [row]


def test_range_above_the_empty_text_has_all_texts(maya):
    rows = [row_of(LEDGER, id=key) for key in " a"]
    maya.put(LEDGER, *rows)

    assert maya.select(LEDGER, within=Range("id", above=""), order=("id",)) == rows


def test_range_and_conditions_hold_together(maya):
    chats = [row_of(CONVERSATIONS) for _ in range(2)]
    rows = [
        row_of(MESSAGES, conversation_id=chat.id, seq=seq) for chat in chats for seq in (1, 2, 3)
    ]
    maya.run(lambda block: put_all(block, {CONVERSATIONS: chats, MESSAGES: rows}))

    where = {"conversation_id": chats[1].id}
    assert maya.select(MESSAGES, where, Range("seq", 1, 3), ("seq",)) == rows[4:]


def put_all(block, rows):
    for table, some in rows.items():
        for row in some:
            block.put(table, row)


def test_range_and_condition_none_hold_together(maya):
    rows = [
        row_of(TURNS, lease_until=at(number), finished_at=finished_at)
        for finished_at in (None, NOON)
        for number in (1, 2)
    ]
    maya.put(TURNS, *rows)

    assert maya.select(TURNS, {"finished_at": None}, Range("lease_until", up_to=at(1))) == rows[:1]


def test_changed_row_is_found_by_its_new_values(running, maya):
    """A store may keep rows with some values elsewhere, such as open turns."""
    turn = row_of(TURNS, conversation_id=uuid4())
    ended = replace(turn, finished_at=NOON)
    maya.put(TURNS, turn)

    maya.put(TURNS, ended)
    running.open_again()

    assert maya.select(TURNS, {"finished_at": None}) == []
    assert maya.select(TURNS, {"finished_at": NOON}) == maya.select(TURNS) == [ended]
    assert maya.get(TURNS, turn.id) == ended


# --- selections: order and limit


@of_each_type
def test_rows_are_sorted_by_a_field(maya, four):
    table, name, rows = four

    assert maya.select(table, order=(name,)) == rows


@of_each_type
def test_rows_are_sorted_in_descending_order(maya, four):
    table, name, rows = four

    assert maya.select(table, order=(f"-{name}",)) == rows[::-1]


def test_texts_are_sorted_by_code_points(maya):
    rows = [row_of(LEDGER, id=key) for key in ["Z", "a", "ä", "\uff5e", "😀"]]
    maya.put(LEDGER, *reversed(rows))

    assert maya.select(LEDGER, order=("id",)) == rows
    assert maya.select(LEDGER, within=Range("id", above="\uff5e")) == rows[4:]


def test_none_sorts_last_in_ascending_order(maya):
    rows = [row_of(CONVERSATIONS, pinned_at=time) for time in (at(0), at(1), None)]
    maya.put(CONVERSATIONS, *reversed(rows))

    assert maya.select(CONVERSATIONS, order=("pinned_at",)) == rows


def test_none_sorts_last_in_descending_order(maya):
    rows = [row_of(CONVERSATIONS, pinned_at=time) for time in (at(1), at(0), None)]
    maya.put(CONVERSATIONS, *reversed(rows))

    assert maya.select(CONVERSATIONS, order=("-pinned_at",)) == rows


def by_two_fields(maya, *pairs):
    """Store chats with these pairs of `pinned_at` and `updated_at`; return them."""
    rows = [
        row_of(CONVERSATIONS, pinned_at=pinned, updated_at=updated) for pinned, updated in pairs
    ]
    maya.put(CONVERSATIONS, *(rows[number] for number in (2, 0, 4, 1, 3)))
    return rows


@pytest.mark.parametrize("sign", ["", "-"], ids=["ascending", "descending"])
def test_second_field_sorts_rows_equal_in_the_first(maya, sign):
    one, two = (at(1), at(2)) if sign == "" else (at(2), at(1))
    rows = by_two_fields(maya, (one, one), (one, two), (two, one), (two, two), (None, one))

    assert maya.select(CONVERSATIONS, order=(f"{sign}pinned_at", f"{sign}updated_at")) == rows


@pytest.mark.parametrize("signs", [("-", ""), ("", "-")], ids=["-+", "+-"])
def test_each_field_has_its_own_direction(maya, signs):
    (a, b), (c, d) = [(at(2), at(1)) if sign else (at(1), at(2)) for sign in signs]
    rows = by_two_fields(maya, (a, c), (a, d), (b, c), (b, d), (None, c))

    order = (f"{signs[0]}pinned_at", f"{signs[1]}updated_at")
    assert maya.select(CONVERSATIONS, order=order) == rows


@pytest.mark.parametrize("second", ["", "-"], ids=["ascending", "descending"])
@pytest.mark.parametrize("first", ["", "-"], ids=["ascending", "descending"])
def test_none_in_the_second_field_sorts_last(maya, first, second):
    values = [(at(1), at(2)), (at(1), None), (at(2), at(2)), (at(2), None)]
    rows = [
        row_of(CONVERSATIONS, updated_at=updated, pinned_at=pinned) for updated, pinned in values
    ]
    maya.put(CONVERSATIONS, *reversed(rows))

    order = (f"{first}updated_at", f"{second}pinned_at")
    assert maya.select(CONVERSATIONS, order=order) == (rows[2:] + rows[:2] if first else rows)


def equal_chats(maya):
    rows = [row_of(CONVERSATIONS, updated_at=NOON) for _ in range(6)]
    for row in rows:
        maya.put(CONVERSATIONS, row)
    return rows


def test_equal_rows_keep_their_order(running, maya):
    equal_chats(maya)
    before = maya.select(CONVERSATIONS, order=("updated_at",))

    running.open_again()

    assert maya.select(CONVERSATIONS, order=("updated_at",)) == before


def test_replaced_row_keeps_its_place_among_equals(running, maya):
    rows = equal_chats(maya)
    before = maya.select(CONVERSATIONS, order=("updated_at",))

    maya.put(CONVERSATIONS, replace(rows[2], rev=2))
    running.open_again()

    after = maya.select(CONVERSATIONS, order=("updated_at",))
    assert [row.id for row in after] == [row.id for row in before]


def test_descending_order_reverses_equal_rows(maya):
    equal_chats(maya)

    ascending = maya.select(CONVERSATIONS, order=("updated_at",))
    assert maya.select(CONVERSATIONS, order=("-updated_at",)) == ascending[::-1]


@of_each_type
def test_limit_keeps_the_first_rows_of_an_order(maya, four):
    table, name, rows = four

    assert maya.select(table, order=(f"-{name}",), limit=2) == [rows[3], rows[2]]


def test_limit_keeps_rows_with_a_value_before_none(maya):
    rows = [row_of(CONVERSATIONS, pinned_at=time) for time in (at(0), at(1), None)]
    maya.put(CONVERSATIONS, *reversed(rows))

    assert maya.select(CONVERSATIONS, order=("pinned_at",), limit=2) == rows[:2]


def test_limit_without_order_keeps_the_same_rows(maya):
    maya.put(LEDGER, *(row_of(LEDGER, day=date(2026, month, 1)) for month in range(1, 6)))

    assert maya.select(LEDGER, limit=3) == maya.select(LEDGER)[:3]


def test_limit_above_the_number_of_rows_keeps_all(maya):
    rows = [row_of(CONVERSATIONS, updated_at=at(number)) for number in range(2)]
    maya.put(CONVERSATIONS, *rows)

    assert maya.select(CONVERSATIONS, order=("updated_at",), limit=1000) == rows


# --- what is refused


@pytest.mark.parametrize(
    "options",
    [
        {"where": {"title": "p1"}},
        {"within": Range("title")},
        {"order": ("title",)},
        {"order": ("-title",)},
    ],
    ids=["where", "within", "order", "descending"],
)
def test_field_that_is_not_declared_is_refused(maya, options):
    with pytest.raises(LookupError):
        maya.select(CONVERSATIONS, **options)


def test_order_of_three_fields_is_refused(maya):
    with pytest.raises(LookupError):
        maya.select(CONVERSATIONS, order=("updated_at", "pinned_at", "destroy_at"))


@pytest.mark.parametrize(
    "options", [{"where": {"title": "p1"}}, {"within": Range("title")}], ids=["where", "within"]
)
def test_owners_by_an_undeclared_field_are_refused(running, maya, options):
    maya.put(CONVERSATIONS, row_of(CONVERSATIONS))

    with pytest.raises(LookupError):
        running.store.owners(CONVERSATIONS, **options)


@pytest.mark.parametrize(
    "read",
    [
        lambda block: block.get(CONVERSATIONS, uuid4()),
        lambda block: block.get_all(CONVERSATIONS, [uuid4()]),
        lambda block: block.select(CONVERSATIONS),
    ],
    ids=["get", "get_all", "select"],
)
def test_read_after_a_write_is_refused(maya, read):
    def work(block):
        block.put(CONVERSATIONS, row_of(CONVERSATIONS))
        read(block)

    with pytest.raises(RuntimeError):
        maya.run(work)

    assert maya.select(CONVERSATIONS) == []


def test_block_stores_as_many_rows_as_allowed(maya):
    maya.put(LEDGER, *(row_of(LEDGER) for _ in range(MOST_WRITES)))

    assert len(maya.select(LEDGER)) == MOST_WRITES


def test_block_with_a_write_too_many_stores_nothing(maya):
    with pytest.raises(RuntimeError):
        maya.put(LEDGER, *(row_of(LEDGER) for _ in range(MOST_WRITES + 1)))

    assert maya.select(LEDGER) == []


def piece_of(size):
    """Return a piece with *size* bytes as JSON."""
    row = row_of(PIECES, piece_body="")
    return replace(row, piece_body="x" * (size - len(row_text(PIECES, row))))


def test_row_of_the_most_bytes_is_stored(running, maya):
    row = piece_of(MOST_ROW_BYTES)
    maya.put(PIECES, row)

    running.open_again()

    assert maya.get(PIECES, PIECES.key(row)) == row


@on([name for name in EVERY if STORES[name].has_row_limit])
def test_larger_row_is_refused_with_its_block(maya):
    with pytest.raises(RuntimeError):
        maya.put(PIECES, row_of(PIECES), piece_of(MOST_ROW_BYTES + 1))

    assert maya.select(PIECES) == []


# --- values that are read as they were written


def rows_of_each_table(make, user):
    """Return a row of each table; SQLite checks the ids by which rows name others."""
    rows = {name: make(table) for name, table in TABLES.items()}
    chat, message, turn = rows["conversations"], rows["messages"], rows["turns"]
    of_chat = {"conversation_id": chat.id}
    changes = {
        "messages": of_chat,
        "thoughts": {"id": message.id},
        "pieces": of_chat | {"message_id": message.id},
        "search_texts": of_chat,
        "discards": of_chat,
        "turns": of_chat,
        "receipts": {"turn_id": turn.id},
        "accounts": {"id": user.id},
        "sessions": {"user_id": user.id},
    }
    return {name: replace(row, **changes.get(name, {})) for name, row in rows.items()}


@pytest.mark.parametrize("make", [row_of, full_row_of], ids=["empty", "full"])
@on(KEPT)
def test_row_of_each_table_outlives_the_process(running, maya, make):
    rows = rows_of_each_table(make, maya)
    maya.run(lambda block: [block.put(TABLES[name], row) for name, row in rows.items()])

    running.open_again()

    def read(block):
        return {name: block.get(TABLES[name], TABLES[name].key(row)) for name, row in rows.items()}

    stored = maya.run(read)
    assert {name: asdict(row) for name, row in stored.items()} == {
        name: asdict(row)
        for name, row in rows.items()  # `==` of rows leaves some fields out
    }


def kept(running, maya, table, row):
    """Store *row*; return it as another process reads it."""
    maya.put(table, row)
    running.open_again()
    return maya.get(table, table.key(row))


on_all = on(list(STORES))


@on_all
def test_time_keeps_its_microseconds(running, maya):
    row = row_of(CONVERSATIONS, created_at=at(123_457), pinned_at=at(-1))

    stored = kept(running, maya, CONVERSATIONS, row)

    assert (stored.created_at, stored.pinned_at) == (at(123_457), at(-1))


@on_all
def test_largest_number_is_stored_and_compared(running, maya):
    row = row_of(DOCUMENTS, kind=DocumentKind.FACT, epoch=LARGEST, rev=-LARGEST)

    assert kept(running, maya, DOCUMENTS, row) == row
    assert maya.select(DOCUMENTS, {"epoch": LARGEST}) == [row]
    assert maya.select(DOCUMENTS, {"epoch": LARGEST - 1}) == []
    assert maya.select(DOCUMENTS, within=Range("epoch", above=LARGEST - 1)) == [row]


@on_all
def test_none_is_no_default_value(running, maya):
    row = row_of(CONVERSATIONS, policy_size=None, model=None, instructions="", summary=None)

    stored = kept(running, maya, CONVERSATIONS, row)

    assert (stored.model, stored.policy_size, stored.summary) == (None, None, None)
    assert stored.instructions == ""


@on_all
def test_enum_is_read_as_its_member(running, maya):
    row = row_of(TURNS)

    stored = kept(running, maya, TURNS, row)

    assert (stored.purpose, stored.state) == (row.purpose, row.state)
    assert (type(stored.purpose), type(stored.state)) == (type(row.purpose), type(row.state))


@on_all
def test_ids_in_a_tuple_stay_ids_in_their_order(running, maya):
    chat, ids = row_of(CONVERSATIONS), tuple(uuid4() for _ in range(3))
    maya.put(CONVERSATIONS, chat)
    row = row_of(DISCARDS, conversation_id=chat.id, message_ids=ids)

    assert kept(running, maya, DISCARDS, row).message_ids == ids


@on_all
def test_rows_in_a_row_keep_all_their_fields(running, maya):
    keys = WrappedKey(1, "p1.key", at(1)), WrappedKey(2, "p1.other")
    row = row_of(ACCOUNTS, keys=keys)

    stored = kept(running, maya, ACCOUNTS, row).keys

    assert stored == keys
    assert [key.created_at for key in stored] == [at(1), None]  # which `==` leaves out


@on_all
def test_numbers_as_names_in_a_row_stay_numbers(running, maya):
    row = full_row_of(DAYS)

    stored = kept(running, maya, DAYS, row)

    assert [type(key) for used in stored.sums for key in used.first_tokens] == [int, int]
    assert stored == row


@on_all
@pytest.mark.parametrize(
    "text",
    [
        "",
        "Ä 😀 a\u0308 \u202e",
        "\x00\x01\x7f",
        "\n\r\t\x0b\x0c\x1c\x85\u2028\u2029",
        "\"'\\ \\u0000 \\n",
        '","body":"","content":"',
        "\ufeff\uffff",
        "null",
    ],
    ids=["empty", "letters", "controls", "line ends", "quotes", "fields", "marks", "null"],
)
def test_text_is_read_as_it_was_written(running, maya, text):
    chat = row_of(CONVERSATIONS)
    maya.put(CONVERSATIONS, chat)
    row = row_of(MESSAGES, conversation_id=chat.id, body=text, attachments=text)

    assert kept(running, maya, MESSAGES, row) == row


def test_rows_before_and_after_those_they_belong_to(running, maya):
    """A store may keep thoughts and receipts beside their message and turn, whichever comes first."""
    chat = row_of(CONVERSATIONS)
    message, turn = (row_of(table, conversation_id=chat.id) for table in (MESSAGES, TURNS))
    early = row_of(THOUGHTS, id=message.id), row_of(RECEIPTS, turn_id=turn.id)

    def write_early(block):
        put_all(block, {THOUGHTS: early[:1], RECEIPTS: early[1:]})

    maya.run(write_early)
    maya.run(
        lambda block: put_all(block, {CONVERSATIONS: [chat], MESSAGES: [message], TURNS: [turn]})
    )
    assert maya.select(THOUGHTS) + maya.select(RECEIPTS) == [*early]

    maya.put(TURNS, replace(turn, finished_at=NOON))
    later = [replace(early[0], thoughts="later"), replace(early[1], body="later")]
    maya.run(lambda block: put_all(block, {THOUGHTS: later[:1], RECEIPTS: later[1:]}))

    assert maya.select(THOUGHTS) + maya.select(RECEIPTS) == later


# --- blocks


def facts_of(user):
    return user.get(COUNTS, "counts").facts


def test_empty_block_returns_its_answer(maya):
    assert maya.run(lambda block: 7) == 7


def test_block_that_runs_twice_is_stored_once(maya):
    # of these, bytes drops some runs and Firestore's emulator aborts some
    answers = [maya.run(add_one) for _ in range(12)]

    assert answers == list(range(1, 13))
    assert facts_of(maya) == 12


def test_block_that_raises_stores_nothing(maya):
    own, shared = row_of(LEDGER), row_of(NONCES)

    def fail(block):
        block.put(LEDGER, own)
        block.put(NONCES, shared)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        maya.run(fail)

    assert (maya.get(LEDGER, own.id), maya.get(NONCES, shared.id)) == (None, None)


def test_block_after_one_that_raised_is_stored(maya):
    with pytest.raises(ZeroDivisionError):
        maya.run(lambda block: [block.select(LEDGER), 1 / 0])

    maya.run(add_one)

    assert facts_of(maya) == 1


def in_threads(*acts):
    """Run each of *acts* `STEPS` times in a thread of its own, all at once."""
    together = threading.Barrier(len(acts))

    def work(act):
        together.wait()
        for _ in range(STEPS):
            act()

    with ThreadPoolExecutor(len(acts)) as threads:
        list(threads.map(work, acts))


def test_blocks_of_several_threads_are_atomic(maya):
    in_threads(*[lambda: maya.run(add_one)] * THREADS)

    assert facts_of(maya) == THREADS * STEPS


def test_blocks_of_two_users_share_rows_atomically(maya, omar):
    row = row_of(THROTTLES, attempts=0)
    maya.put(THROTTLES, row)

    def count(block):
        counter = block.get(THROTTLES, row.bucket)
        time.sleep(0.001)
        block.put(THROTTLES, replace(counter, attempts=counter.attempts + 1))
        block.put(LEDGER, row_of(LEDGER))

    in_threads(lambda: maya.run(count), lambda: omar.run(count))

    assert maya.get(THROTTLES, row.bucket).attempts == 2 * STEPS
    assert [len(user.select(LEDGER)) for user in (maya, omar)] == [STEPS, STEPS]


def test_selected_rows_are_changed_atomically(maya):
    def add_row(block):
        rows = block.select(DOCUMENTS, {"kind": DocumentKind.FACT}, order=("-epoch",), limit=1)
        time.sleep(0.001)
        epoch = rows[0].epoch + 1 if rows else 1
        block.put(DOCUMENTS, row_of(DOCUMENTS, kind=DocumentKind.FACT, epoch=epoch))

    in_threads(*[lambda: maya.run(add_row)] * 2)

    epochs = [row.epoch for row in maya.select(DOCUMENTS, order=("epoch",))]
    assert epochs == list(range(1, 2 * STEPS + 1))


def test_writes_that_may_be_lost_are_read_at_once(maya, omar):
    row = row_of(NONCES)

    maya.put(NONCES, row, is_lasting=False)

    assert omar.get(NONCES, row.id) == row


@on(KEPT)
@pytest.mark.parametrize("is_lasting", [True, False], ids=["lasting", "not lasting"])
def test_rows_outlive_the_closing_of_the_store(running, maya, is_lasting):
    rows = [row_of(LEDGER, id=str(number)) for number in range(3)]
    maya.put(LEDGER, *rows, is_lasting=is_lasting)
    maya.delete(LEDGER, "1")

    running.open_again()

    assert maya.select(LEDGER, order=("id",)) == [rows[0], rows[2]]


# --- two processes


@contextmanager
def counting_process(address, user):
    """Start a process that counts for *user*; yield a function that lets it begin, and wait for its end."""
    command = [sys.executable, "-m", "tests.store.counting", address, str(user.id), str(STEPS)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as process:
        assert process.stdout.readline() == "ready\n"
        yield process.stdin.close
    assert process.returncode == 0


@pytest.fixture
def beside(running):
    """The store as a command opens it beside the app."""
    other = running.place.open(is_app=False)
    yield other
    other.close()


@on(FOR_TWO)
def test_rows_of_another_process_are_read_at_once(maya, beside):
    row = row_of(CONVERSATIONS)
    maya.put(CONVERSATIONS, row)
    assert beside.of(maya.id).run(lambda block: block.get(CONVERSATIONS, row.id)) == row

    beside.of(maya.id).run(lambda block: block.delete(CONVERSATIONS, row.id))

    assert maya.get(CONVERSATIONS, row.id) is None


@on(FOR_TWO)
def test_blocks_of_two_processes_are_atomic(running, maya):
    with counting_process(running.address, maya) as begin:
        begin()
        for _ in range(STEPS):
            maya.run(add_one)

    assert facts_of(maya) == 2 * STEPS


# --- all users


def found_owners(running, users, *arguments, **options):
    """Return which of *users* are among the owners."""
    owners = running.store.owners(*arguments, **options)
    assert len(owners) == len(set(owners))
    return [user for user in users if user.id in owners]


def test_owners_are_the_users_with_rows(running, maya, omar):
    users = [maya, omar, User(running)]
    for user in users[:2]:
        user.put(CONVERSATIONS, row_of(CONVERSATIONS), row_of(CONVERSATIONS))
    users[2].put(LEDGER, row_of(LEDGER))

    assert found_owners(running, users, CONVERSATIONS) == [maya, omar]


def test_user_without_rows_is_no_longer_an_owner(running, maya):
    row = row_of(CONVERSATIONS)
    maya.put(CONVERSATIONS, row)

    maya.delete(CONVERSATIONS, row.id)

    assert found_owners(running, [maya], CONVERSATIONS) == []


def test_owners_have_rows_that_meet_all_conditions(running, maya, omar):
    space = uuid4()
    maya.put(CONVERSATIONS, row_of(CONVERSATIONS, space_id=space))
    omar.put(
        CONVERSATIONS,
        row_of(CONVERSATIONS, space_id=space, pinned_at=NOON),
        row_of(CONVERSATIONS),
    )

    where = {"space_id": space, "pinned_at": None}
    assert found_owners(running, [maya, omar], CONVERSATIONS, where) == [maya]


def test_owners_have_rows_within_a_range(running, maya, omar):
    maya.put(CONVERSATIONS, row_of(CONVERSATIONS, destroy_at=at(1)), row_of(CONVERSATIONS))
    omar.put(CONVERSATIONS, row_of(CONVERSATIONS, destroy_at=at(2)))

    found = [
        found_owners(running, [maya, omar], CONVERSATIONS, within=within)
        for within in (
            Range("destroy_at", above=at(0), up_to=at(1)),
            Range("destroy_at", above=at(1)),
            Range("destroy_at"),
        )
    ]
    assert found == [[maya], [omar], [maya, omar]]


def test_owners_have_one_row_for_condition_and_range(running, maya, omar):
    due, later = at(1), at(2)
    maya.put(TURNS, row_of(TURNS, lease_until=due))
    omar.put(
        TURNS,
        row_of(TURNS, lease_until=due, finished_at=NOON),
        row_of(TURNS, lease_until=later),
    )

    where, within = {"finished_at": None}, Range("lease_until", up_to=due)
    assert found_owners(running, [maya, omar], TURNS, where, within) == [maya]


def test_rows_of_all_users_are_read_at_once(running, maya, omar):
    rows = [row_of(DAYS, day=date(2026, 1, number)) for number in (1, 2)]
    maya.put(DAYS, *rows)
    omar.put(DAYS, rows[0])

    found = rows_of_all(running.store, DAYS)

    assert sorted(found[maya.id], key=lambda row: row.day) == rows
    assert found[omar.id] == rows[:1]


def test_rows_of_all_users_are_within_the_range(running, maya, omar):
    rows = [row_of(DAYS, day=date(2026, 1, number)) for number in (1, 2)]
    maya.put(DAYS, *rows)
    omar.put(DAYS, rows[0])

    found = rows_of_all(running.store, DAYS, Range("day", rows[0].day, rows[1].day))

    assert found[maya.id] == rows[1:]
    assert omar.id not in found


# --- what some stores offer


def test_store_offers_what_its_entry_says(running):
    assert (
        tuple(offer for offer in OFFERS if isinstance(running.store, offer)) == running.kind.offers
    )


@on(offering(JoinsBlocks))
def test_joined_blocks_read_each_others_writes(running, maya, omar):
    with running.store.joined():
        for number in (1, 2, 3):
            assert maya.run(add_one) == number
        omar.run(add_one)

    assert (facts_of(maya), facts_of(omar)) == (3, 1)


@on(offering(JoinsBlocks))
def test_joined_blocks_are_stored_together_or_not(running, maya, omar):
    def fail():
        with running.store.joined():
            maya.run(add_one)
            omar.run(add_one)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    assert maya.select(COUNTS) == omar.select(COUNTS) == []


@on(offering(JoinsBlocks))
def test_other_threads_wait_for_joined_blocks(running, maya):
    with ThreadPoolExecutor(1) as thread:
        with running.store.joined():
            maya.run(add_one)
            other = thread.submit(maya.run, add_one)
            time.sleep(0.05)
            assert maya.run(add_one) == 2
        assert other.result() == 3


@on(offering(SetsPace))
def test_pace_renews_a_lease_in_time(running):
    assert 0 < 2 * running.store.pace.beat_seconds < running.store.pace.lease_seconds


# --- the end


def open_parts():
    """Count the threads, files and connections of this process; by number, because other stores replace files of theirs."""
    parts = Counter(threads=threading.active_count())
    for descriptor in os.listdir("/dev/fd"):
        with suppress(OSError):  # the descriptor of the list itself
            target = os.readlink(f"/dev/fd/{descriptor}")
            parts["files"] += target.startswith("/")
            parts["connections"] += target.startswith("socket:")
    return parts


@pytest.mark.parametrize("name", STORES)
def test_closed_store_leaves_no_thread_or_file(request, name):
    store = STORES[name].make_place(request.getfixturevalue)
    before = open_parts()

    opened = store.open()
    opened.of(None).run(lambda block: block.put(NONCES, row_of(NONCES)))
    opened.close()

    until(lambda: open_parts() <= before, within=20)
