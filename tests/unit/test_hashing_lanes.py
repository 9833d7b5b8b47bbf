"""The lanes in which passwords are hashed: how many, for whom, and in which order."""

import asyncio
from threading import Event, get_ident
from threading import Lock as ThreadLock
from uuid import uuid4

import anyio.to_thread
import pytest

from services.errors import RateLimited, WrongCredentials
from services.web import hashing_lanes
from services.web.hashing_lanes import HashingLanes, lane_count
from tests.stack.apps import SECONDS


class Hashes:
    """Hashes that are named, begin in a lane, and end when the test lets them."""

    def __init__(self, lanes):
        self.lanes = lanes
        self.begun = []  # in this order
        self.tasks = {}
        self._gates = {}
        self._lock = ThreadLock()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for gate in self._gates.values():  # a test that failed leaves no thread behind
            gate.set()

    async def ask(self, *names, client="home", is_known=False, user_id=None):
        """Ask for a lane for each name in turn; *is_known*: on a known device, each of another user."""
        for name in names:
            gate = self._gates[name] = Event()
            run = self.lanes.run(
                lambda name=name, gate=gate: self._hash(name, gate),
                client=client,
                user_id=uuid4() if is_known else user_id,
            )
            self.tasks[name] = asyncio.ensure_future(run)
            await asyncio.sleep(0)  # it waits for a lane, or has one

    async def end(self, *names):
        """Let the hashes end, and wait until they have."""
        for name in names:
            self._gates[name].set()
            assert await self.tasks[name] == name

    async def begins(self, *names):
        """Exactly the hashes *names* have begun, in this order for each lane."""
        async with asyncio.timeout(SECONDS):
            while len(self.begun) < len(names):
                await asyncio.sleep(0.001)
        assert sorted(self.begun) == sorted(names)

    def _hash(self, name, gate):
        with self._lock:
            self.begun.append(name)
        assert gate.wait(SECONDS)
        return name


def test_half_of_the_cores_hash_at_least_one_and_at_most_eight(monkeypatch):
    counts = []
    for cores in (1, 2, 3, 4, 16, 64):
        monkeypatch.setattr(hashing_lanes.os, "sched_getaffinity", lambda _, n=cores: range(n))
        counts.append(lane_count())

    assert counts == [1, 1, 1, 2, 8, 8]


def test_work_runs_in_a_thread_and_returns_its_answer():
    async def run():
        return await HashingLanes(1).run(get_ident, client="home")

    assert asyncio.run(run()) != get_ident()


def test_as_many_hashes_run_at_once_as_there_are_lanes():
    async def run():
        with Hashes(HashingLanes(4)) as hashes:
            for n in range(6):
                await hashes.ask(f"{n}", client=f"host-{n}")
            await hashes.begins("0", "1", "2", "3")
            await hashes.end("2")
            await hashes.begins("0", "1", "2", "3", "4")
            await hashes.end("0", "1", "3", "4", "5")

    asyncio.run(run())


def test_lanes_do_not_wait_for_other_work_in_threads():
    async def run():
        gate, lanes = Event(), HashingLanes(1)
        common = anyio.to_thread.current_default_thread_limiter()
        full = [
            asyncio.ensure_future(anyio.to_thread.run_sync(gate.wait, SECONDS))
            for _ in range(int(common.total_tokens))
        ]
        async with asyncio.timeout(SECONDS):
            while common.available_tokens:
                await asyncio.sleep(0.001)
        with Hashes(lanes) as hashes:
            await hashes.ask("one")
            await hashes.end("one")
            gate.set()
            assert all(await asyncio.gather(*full))

    asyncio.run(run())


def test_waiting_hashes_begin_in_their_order():
    async def run():
        with Hashes(HashingLanes(1)) as hashes:
            await hashes.ask("first", "second", client="home")
            await hashes.ask("third", client="school")
            await hashes.ask("fourth", client="home")
            await hashes.end("first", "second", "third", "fourth")
            assert hashes.begun == ["first", "second", "third", "fourth"]

    asyncio.run(run())


def test_known_devices_come_before_all_strangers():
    async def run():
        with Hashes(HashingLanes(1)) as hashes:
            await hashes.ask("running", "stranger", client="home")
            await hashes.ask("other stranger", client="school")
            await hashes.ask("known", client="home", is_known=True)
            await hashes.ask("also known", client="school", is_known=True)
            await hashes.end("running", "known", "also known", "stranger", "other stranger")
            assert hashes.begun == ["running", "known", "also known", "stranger", "other stranger"]

    asyncio.run(run())


def test_endless_known_devices_of_a_client_let_strangers_in():
    async def run():
        with Hashes(HashingLanes(1)) as hashes:
            await hashes.ask("known 0", client="school", is_known=True)
            await hashes.ask("stranger", "next stranger", client="home")
            for n in range(7):
                await hashes.ask(f"known {n + 1}", client="school", is_known=True)
                await hashes.end(f"known {n}")
                if n in (2, 5):  # after three known devices
                    await hashes.end("stranger" if n == 2 else "next stranger")
            await hashes.end("known 7")
            known = [f"known {n}" for n in range(8)]
            assert hashes.begun == [
                *known[:3],
                "stranger",
                *known[3:6],
                "next stranger",
                *known[6:],
            ]

    asyncio.run(run())


@pytest.mark.parametrize("is_known", [False, True])
def test_one_client_has_at_most_half_of_the_lanes(is_known):
    async def run():
        with Hashes(HashingLanes(4)) as hashes:
            await hashes.ask("a", "b", "c", "d", client="school", is_known=is_known)
            await hashes.begins("a", "b")
            await hashes.ask("e", client="home")
            await hashes.begins("a", "b", "e")
            await hashes.end("a")  # the rest come in their order
            await hashes.begins("a", "b", "e", "c")
            await hashes.end("b", "c", "d", "e")

    asyncio.run(run())


def test_client_waits_for_no_client_with_its_half_of_the_lanes():
    async def run():
        with Hashes(HashingLanes(2)) as hashes:
            await hashes.ask("a", "b", "c", client="school")
            await hashes.ask("d", "e", client="home")
            await hashes.begins("a", "d")
            await hashes.end("d", "e")  # "b" and "c" came earlier, but wait for "a"
            await hashes.end("a", "b", "c")
            assert {*hashes.begun[:2]} == {"a", "d"}  # at once, in two threads
            assert hashes.begun[2:] == ["e", "b", "c"]

    asyncio.run(run())


def test_second_of_one_client_is_not_overtaken_by_later_clients():
    async def run():
        with Hashes(HashingLanes(1)) as hashes:
            await hashes.ask("a", "b", client="school")
            for n in range(20):
                await hashes.ask(f"{n}", client=f"host-{n}")
            await hashes.end("a", "b")
            assert hashes.begun[:2] == ["a", "b"]
            await hashes.end(*map(str, range(20)))

    asyncio.run(run())


def test_stranger_who_has_waited_long_is_told_that_daybook_is_busy():
    async def run():
        with Hashes(HashingLanes(1, patience_seconds=0.01)) as hashes:
            await hashes.ask("running", client="school")
            await hashes.ask("stranger", client="home")
            await hashes.ask("known", client="home", is_known=True)
            with pytest.raises(RateLimited) as refused:
                await hashes.tasks["stranger"]
            assert refused.value.public == "Daybook is busy. Try again in a minute."
            assert not hashes.tasks["known"].done()
            await hashes.end("running", "known")
            assert hashes.begun == ["running", "known"]

    asyncio.run(run())
    assert HashingLanes().patience_seconds == 20


def test_sixth_that_waits_on_known_devices_of_a_user_is_refused():
    async def run():
        with Hashes(HashingLanes(1)) as hashes:
            user_id = uuid4()
            five = [f"{n}" for n in range(5)]
            await hashes.ask("running", *five, "sixth", user_id=user_id)
            await hashes.ask("other", client="school", is_known=True)
            assert isinstance(hashes.tasks["sixth"].exception(), RateLimited)
            await hashes.end("running", "0")
            await hashes.ask("next", user_id=user_id)
            await hashes.end(*five[1:], "other", "next")
            assert hashes.begun == ["running", *five, "other", "next"]

    asyncio.run(run())


def test_hash_that_runs_long_is_not_refused():
    async def run():
        with Hashes(HashingLanes(1, patience_seconds=0.01)) as hashes:
            await hashes.ask("slow")
            await hashes.begins("slow")
            await asyncio.sleep(0.03)
            await hashes.end("slow")

    asyncio.run(run())


def test_failed_hash_frees_its_lane():
    async def run():
        lanes = HashingLanes(1)

        def refuse():
            raise WrongCredentials

        for _ in range(3):
            with pytest.raises(WrongCredentials):
                await lanes.run(refuse, client="home")
        return await lanes.run(lambda: "in", client="home")

    assert asyncio.run(run()) == "in"


def test_client_that_leaves_while_it_waits_loses_its_place():
    async def run():
        with Hashes(HashingLanes(1)) as hashes:
            await hashes.ask("running", "gone", "next")
            hashes.tasks["gone"].cancel()
            await hashes.end("running", "next")
            assert hashes.begun == ["running", "next"]
            assert hashes.tasks["gone"].cancelled()

    asyncio.run(run())


def test_client_that_leaves_as_it_gets_a_lane_frees_it():
    async def run():
        with Hashes(HashingLanes(1)) as hashes:
            await hashes.ask("gone")
            hashes.tasks["gone"].cancel()
            with pytest.raises(asyncio.CancelledError):
                await hashes.tasks["gone"]
            await hashes.ask("next")
            await hashes.end("next")
            assert hashes.begun == ["next"]

    asyncio.run(run())


def test_lane_of_a_client_that_left_is_free_once_its_hash_ends():
    async def run():
        with Hashes(HashingLanes(1)) as hashes:
            await hashes.ask("gone", "next")
            await hashes.begins("gone")
            hashes.tasks["gone"].cancel()
            with pytest.raises(asyncio.CancelledError):
                await hashes.tasks["gone"]
            for _ in range(100):  # a thread would begin long before
                await asyncio.sleep(0.001)
            assert hashes.begun == ["gone"]  # its thread still hashes
            with pytest.raises(asyncio.CancelledError):
                await hashes.end("gone")
            await hashes.end("next")

    asyncio.run(run())
