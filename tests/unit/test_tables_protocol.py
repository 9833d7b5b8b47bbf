"""The protocol of tables: the promises of every store over tables, and their limits."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from threading import Barrier
from uuid import UUID

import pytest

from services.domain import UserId
from services.store.tables.blocks import atomic
from services.store.tables.in_memory import InMemoryStore
from services.store.tables.protocol import MOST_WRITES, Range, Table
from tests.store.conformance.bytes_store import MOST_BYTES, BytesStore

THREADS, STEPS = 4, 10


@dataclass(frozen=True)
class Bed:
    """A row of a test table."""

    id: str
    place: str = "north"
    size: int | None = None
    note: str = ""


BEDS = Table("beds", Bed, lambda row: row.id, frozenset({"place", "size"}))
SEEDS = Table("seeds", Bed, lambda row: row.id, is_shared=True)
MAYA, OMAR = UserId(UUID(int=1)), UserId(UUID(int=2))


@pytest.fixture(params=[InMemoryStore, BytesStore])
def store(request):
    return request.param()


@pytest.fixture
def tables(store):
    return store.of(MAYA)


def put(tables, *rows):
    def write(block):
        for row in rows:
            block.put(BEDS, row)

    tables.run(write)


def found(tables, *arguments, **options):
    """Return the ids that a selection finds."""
    return [row.id for row in tables.run(lambda block: block.select(BEDS, *arguments, **options))]


def test_row_is_found_by_its_key_until_it_is_deleted(tables):
    put(tables, Bed("a", size=3))
    assert tables.run(lambda block: block.get(BEDS, "a")) == Bed("a", size=3)

    tables.run(lambda block: block.delete(BEDS, "a"))

    assert tables.run(lambda block: block.get(BEDS, "a")) is None


def test_users_have_rows_of_their_own_beside_shared_ones(store, tables):
    put(tables, Bed("a"))
    tables.run(lambda block: block.put(SEEDS, Bed("peas")))

    assert found(store.of(OMAR)) == []
    for user_id in (None, OMAR):
        assert store.of(user_id).run(lambda block: block.get(SEEDS, "peas")) == Bed("peas")


def test_owners_are_the_users_with_such_rows(store):
    put(store.of(MAYA), Bed("a", size=2))
    put(store.of(OMAR), Bed("a", "south", 3))

    assert sorted(store.owners(BEDS)) == [MAYA, OMAR]
    assert store.owners(BEDS, {"place": "north"}) == [MAYA]
    assert store.owners(BEDS, within=Range("size", above=2)) == [OMAR]


def test_selection_compares_orders_and_bounds(tables):
    put(tables, Bed("a", size=2), Bed("b", size=1), Bed("c", "south", 3), Bed("d"))

    assert found(tables, {"place": "north"}, order=("size",)) == ["b", "a", "d"]
    assert found(tables, order=("-size", "place")) == ["c", "a", "b", "d"]
    assert found(tables, order=("place", "-size"), limit=2) == ["a", "b"]
    assert found(tables, within=Range("size", above=1, up_to=3), order=("size",)) == ["a", "c"]
    assert found(tables, {"size": None}) == ["d"]


def test_block_that_raises_stores_nothing(tables):
    def fail(block):
        block.put(BEDS, Bed("a"))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        tables.run(fail)

    assert found(tables) == []


def test_blocks_of_several_threads_are_atomic(tables):
    put(tables, Bed("a", size=0))
    together = Barrier(THREADS)

    def grow(block):
        bed = block.get(BEDS, "a")
        time.sleep(0.001)  # gives another thread a chance to run
        block.put(BEDS, replace(bed, size=bed.size + 1))

    def work(_):
        together.wait()
        for _ in range(STEPS):
            tables.run(grow)

    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(work, range(THREADS)))

    assert tables.run(lambda block: block.get(BEDS, "a")).size == THREADS * STEPS


def test_block_reads_before_it_writes(tables):
    def late(read):
        def work(block):
            block.put(BEDS, Bed("a"))
            read(block)

        return work

    for read in (lambda block: block.get(BEDS, "a"), lambda block: block.select(BEDS)):
        with pytest.raises(RuntimeError):
            tables.run(late(read))


def test_block_has_a_bound_of_writes(tables):
    beds = [Bed(str(number)) for number in range(MOST_WRITES + 1)]
    put(tables, *beds[:MOST_WRITES])

    with pytest.raises(RuntimeError):
        put(tables, *beds)


def test_declared_fields_alone_are_compared(tables):
    for options in (
        {"where": {"note": ""}},
        {"within": Range("note")},
        {"order": ("note",)},
        {"order": ("-note",)},
        {"order": ("place", "size", "place")},
    ):
        with pytest.raises(LookupError):
            found(tables, **options)


def test_example_store_refuses_a_large_row():
    with pytest.raises(RuntimeError):
        put(BytesStore().of(MAYA), Bed("a", note="n" * MOST_BYTES))


def test_example_store_runs_some_blocks_twice():
    tables, runs = BytesStore().of(MAYA), []
    for number in range(6):
        tables.run(lambda block, bed=Bed(str(number)): runs.append(block.put(BEDS, bed)))

    assert found(tables) == list("012345")
    assert len(runs) == 8


def test_arguments_of_an_atomic_method_are_read_once():
    class Beds:
        tables = BytesStore().of(MAYA)

        @atomic
        def plant(self, block, ids, *, notes=()):
            planted = [Bed(one, note=note) for one, note in zip(ids, notes, strict=True)]
            for bed in planted:
                block.put(BEDS, bed)
            return planted

    beds, letters = Beds(), "ab"
    for _ in range(6):  # several times, because some blocks run twice
        planted = beds.plant(iter(letters), notes=(one.upper() for one in letters))
        assert [(bed.id, bed.note) for bed in planted] == [("a", "A"), ("b", "B")]
