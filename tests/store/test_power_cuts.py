"""Power cuts of the store in JSON files: each disk that a cut may leave opens with all answered rows and no block in part."""

import errno
import shutil
import threading
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from itertools import count
from uuid import uuid4

import pytest

from services.domain import UserId
from services.errors import StoreBlocked
from services.rules.budget import Budget
from services.store.files import FilesPlace
from services.store.files import place as places
from services.store.files import store as stores
from services.store.files.disk import Disk
from services.store.sealed import sealed_store, throwaway_keys
from services.store.tables import schema
from services.store.tables.row_texts import row_text
from services.store.tables.rows import TablesRows
from services.store.tables.schema import BUDGETS, NONCES, SETTINGS, Nonce, Settings
from services.store.tables.upkeep import sweep
from tests.runs import IS_WHOLE
from tests.store.conformance.talk import (
    a_fact,
    attached,
    delete,
    ending,
    first_turn,
    new_turn,
    say,
    unsaid,
)
from tests.store.power_cuts import Machine, Recorder, lay
from tests.stores import LIMITS, folder_in_memory

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
TABLES = schema.TABLES.values()
NEVER = 10**9  # seconds, or bytes
SOON = 0.02  # seconds
FULL = OSError(errno.ENOSPC, "No space left on device")
TOO_MANY = OSError(errno.EMFILE, "Too many open files")
REOPENED = 1 if IS_WHOLE else 4
RESTARTS = 5  # disks whose restart is interrupted, too
_numbers = count()


@pytest.fixture
def folder():
    with folder_in_memory() as made:
        yield made


@pytest.fixture
def world(folder, monkeypatch):
    """A store whose documents are written when the test asks for it."""
    monkeypatch.setattr(stores, "_SECONDS", NEVER)
    monkeypatch.setattr(stores, "_LARGEST_JOURNAL", NEVER)
    return World(folder, monkeypatch)


class World:
    """The `AllTables` of a store, with the states after each of its blocks."""

    def __init__(self, folder, patch):
        self.folder, self._patch = folder, patch
        self.recorder, self.store = None, None
        self.states = [{}]  # texts of rows by owner, table and key
        self.users, self.passed = [], timedelta()

    # --- the store

    def open(self):
        self.store = self._place(self.folder / "live").open()

    def record(self):
        """Begin to record; rows stored before are on the disk. No store may be open."""
        live = self.folder / "live"
        live.mkdir(exist_ok=True)
        self.recorder = Recorder(live, Machine(_files_in(live)))
        self.states = self.states[-1:]
        self._patch.setattr(places, "Disk", self.recorder.disk)

    def write_documents(self, act, meanwhile=None, seconds=NEVER):
        """Run *act*, which writes, and then a round of documents, in the middle of which *meanwhile* runs.

        *seconds*: the pause before the next round, if the round fails.
        """
        acted = threading.Event()

        def interrupt():
            assert acted.wait(20)  # the states of *act* come first
            meanwhile()

        self.recorder.interruption = interrupt if meanwhile else None
        self.recorder.written.clear()
        with self._patch.context() as patch:
            patch.setattr(stores, "_LARGEST_JOURNAL", 0)
            patch.setattr(stores, "_SECONDS", seconds)
            act()
            acted.set()
            assert self.recorder.written.wait(20)
        assert not self.recorder.interruption
        assert not self.recorder.faults

    def of(self, user_id):
        return WorldTables(self, user_id)

    def owners(self, *arguments, **options):
        return self.store.owners(*arguments, **options)

    def user(self):
        user_id = UserId(uuid4())
        self.users.append(user_id)
        self.of(user_id).run(lambda block: block.put(BUDGETS, Budget(**asdict(LIMITS))))
        rows = TablesRows(user_id, self.of(user_id), self.now, limits=LIMITS)
        return sealed_store(rows, throwaway_keys(user_id))

    def now(self):
        return NOON + self.passed

    # --- checks

    def check(self, disks, *, is_opened_again=False):
        """Open each of *disks* (files, least state), and check its rows; open one of REOPENED again."""
        with self._patch.context() as patch:
            patch.setattr(places, "Disk", Disk)
            for number, (files, least) in enumerate(disks):
                folder = self._laid(files)
                state = self._opened(folder)
                found = [nth for nth, one in enumerate(self.states) if one == state]
                assert found, f"a block in part on {sorted(files)}"
                assert found[-1] >= least, f"not all answered on {sorted(files)}"
                if is_opened_again and number % REOPENED == 0:
                    assert self._opened(folder) == state
                shutil.rmtree(folder)

    def check_restart(self, machine, answered):
        """Open the store of *machine*, write to it, and check the disks that power cuts may leave meanwhile."""
        states, folder = self.states, self._laid(machine.files())
        self.recorder = Recorder(folder, machine, answered)
        with self._patch.context() as patch:
            patch.setattr(places, "Disk", self.recorder.disk)
            self.store = self._place(folder).open()
            self.states = [*states, self.state_of(self.store)]
            put_nonce(self)
            self.store.close()
        self.recorder.note()
        self.check(self.recorder.disks.values())
        self.states = states

    def _laid(self, files):
        folder = self.folder / f"disk-{next(_numbers)}"
        lay(files, folder)
        return folder

    def _opened(self, folder):
        with closing(self._place(folder).open()) as store:
            return self.state_of(store)

    def state_of(self, store):
        state = {}
        for owner in (None, *self.users):
            for table in (one for one in TABLES if one.is_shared == (owner is None)):

                def read(block, table=table):
                    rows = block.select(table)
                    assert rows == [block.get(table, table.key(row)) for row in rows]
                    return rows

                for row in store.of(owner).run(read):
                    state[owner, table.name, str(table.key(row))] = row_text(table, row)
        return state

    @staticmethod
    def _place(folder):
        folder.mkdir(exist_ok=True)
        return FilesPlace(folder / "store")


class WorldTables:
    """The `Tables` of one user of *world*."""

    def __init__(self, world, user_id):
        self._world, self._user_id = world, user_id

    def run(self, work, *, is_lasting=True):
        writes, world = [], self._world

        def watched(block):
            answer = work(block)
            writes[:] = block.writes
            return answer

        answer = world.store.of(self._user_id).run(watched, is_lasting=is_lasting)
        if writes:
            state = dict(world.states[-1])
            for table, key, row in writes:
                place = None if table.is_shared else self._user_id, table.name, key
                state.pop(place, None)
                if row is not None:
                    state[place] = row_text(table, row)
            world.states.append(state)
            if is_lasting and world.recorder:
                world.recorder.answered = len(world.states) - 1
        return answer


def _files_in(folder):
    return {
        str(one.relative_to(folder)): None if one.is_dir() else one.read_bytes()
        for one in folder.rglob("*")
        if one.name != "lock"
    }


# --- actions on a store


def put_nonce(world, **options):
    world.of(None).run(lambda block: block.put(NONCES, Nonce(uuid4(), NOON)), **options)


def make_a_store(world):
    world.record()
    world.open()
    maya = world.user()
    turn = first_turn("When do I sow peas?")
    begun = maya.turns.begin(turn)
    maya.turns.checkpoint(begun.turn_id, turn.thread.conversation.id, "In", 30)
    maya.turns.finish(ending(turn, begun, "In March."))
    world.store.close()


def make_users(world):
    world.open()
    maya, omar = world.user(), world.user()
    thread = say(maya, unsaid("Garden"), "When do I sow peas?", "In March.")
    other = say(omar, unsaid("Kitchen"), "How long do I cook peas?", "Five minutes.")
    world.store.close()
    world.record()
    world.open()
    return maya, omar, thread, other


def talk(world):
    maya, omar, thread, omars = make_users(world)
    here = thread.conversation.id
    turn = new_turn(thread, "And beans?")

    def begin():
        begun = maya.turns.begin(turn)
        maya.turns.checkpoint(begun.turn_id, here, "In", 30)
        return begun

    def begin_elsewhere():
        omar.turns.begin(attached(omar, new_turn(omars, "A leaf"), b"a leaf", b"of peas"))

    begun = begin()
    world.write_documents(lambda: maya.facts.keep(a_fact()), begin_elsewhere)
    maya.turns.checkpoint(begun.turn_id, here, "In May", 30)
    maya.turns.finish(ending(turn, begun, "In May."))
    world.store.close()


def destroy(world):
    maya, omar, thread, other = make_users(world)
    delete(maya, thread, 1)
    omar.conversations.discard(other.conversation.id, 20)
    world.passed += timedelta(seconds=30)

    def sweep_all():
        while sweep(world, world.now):
            pass

    world.write_documents(sweep_all)
    world.store.close()
    world.open()
    put_nonce(world)
    world.store.close()


def fill_the_disk(world):
    world.record()
    world.open()
    shared = world.of(None)
    for _ in range(3):
        put_nonce(world)
        world.recorder.faults["write", "journal-.*"] = FULL
        with pytest.raises(StoreBlocked, match="free some space"):
            shared.run(lambda block: [block.put(NONCES, Nonce(uuid4(), NOON)) for _ in range(3)])
    put_nonce(world, is_lasting=False)
    world.store.close()


def fail_documents(world):
    old, user_id = Nonce(uuid4(), NOON), UserId(uuid4())
    world.users.append(user_id)
    world.open()
    world.of(None).run(lambda block: block.put(NONCES, old))
    world.store.close()
    world.record()
    world.open()
    world.recorder.faults["write", "shared/nonces.jsonl"] = FULL
    world.write_documents(lambda: put_nonce(world), seconds=SOON)

    def change_two_folders(block):
        block.delete(NONCES, old.id)
        block.put(BUDGETS, Budget(**asdict(LIMITS)))

    world.recorder.faults["open", "shared"] = TOO_MANY  # the renamed file is in this folder
    world.write_documents(lambda: world.of(user_id).run(change_two_folders), seconds=SOON)
    world.store.close()


def write_without_waiting(world):
    world.record()
    world.open()

    def change_two_files(block):
        block.put(NONCES, Nonce(uuid4(), NOON))
        block.put(SETTINGS, Settings())

    world.write_documents(lambda: world.of(None).run(change_two_files, is_lasting=False))
    world.store.close()


HISTORIES = [make_a_store, talk, destroy, fill_the_disk, fail_documents, write_without_waiting]


@pytest.mark.parametrize("act", HISTORIES)
def test_power_cut_loses_nothing_answered(world, act):
    act(world)
    world.recorder.note()

    world.check(world.recorder.disks.values(), is_opened_again=True)


@pytest.mark.parametrize("act", [talk, destroy])
def test_power_cut_after_another_one_loses_nothing(world, act):
    act(world)
    every = list(world.recorder.disks.values())

    for files, answered in every[:: len(every) // RESTARTS]:
        world.check_restart(Machine(files), answered)


@pytest.mark.parametrize("act", [make_a_store, talk])
def test_power_cut_after_a_kill_loses_nothing(world, act):
    act(world)

    for machine, answered in world.recorder.kills.values():
        world.check_restart(machine, answered)


@pytest.mark.parametrize("act", [talk, destroy])
def test_destroyed_bytes_are_on_no_disk(world, act):
    act(world)

    assert world.recorder.machine.remains() == []
