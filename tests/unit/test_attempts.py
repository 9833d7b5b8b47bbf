"""The brakes on guessing: in which queue an attempt waits, and when its answer leaves."""

import asyncio
import time
from types import SimpleNamespace

import pytest

from services.crypto import RootKeys, new_key
from services.errors import WrongCredentials
from services.web.attempts import DEVICE_SECONDS, AttemptLimits, Attempts

MAYA, OMAR = "maya@daybook.test", "omar@daybook.test"


class Clock:
    """A clock that moves only while somebody sleeps or works."""

    now = 0.0

    def __call__(self):
        return self.now

    async def sleep(self, seconds):
        self.now += seconds
        await asyncio.sleep(0)


def make(clock=None):
    clock = clock or Clock()
    server = SimpleNamespace(call=lambda *_, **__: SimpleNamespace(ok=True))
    root_keys = RootKeys({1: new_key()}, current=1)
    return Attempts(lambda: server, root_keys, AttemptLimits(20), clock=clock, sleep=clock.sleep)


@pytest.mark.parametrize(("check_seconds", "slots"), [(0.022, 1), (0.094, 1), (0.39, 1), (0.5, 2)])
def test_parallel_answers_leave_one_a_slot(check_seconds, slots):
    clock = Clock()
    attempts = make(clock)
    left = []

    async def guess():
        with pytest.raises(WrongCredentials):
            async with attempts.reserved(attempts.sign_in(MAYA, "192.0.2.1", "")):
                await clock.sleep(check_seconds)
                raise WrongCredentials
        left.append(clock.now)

    async def guess_nine_times():
        await asyncio.gather(*(guess() for _ in range(9)))

    asyncio.run(guess_nine_times())

    assert left == pytest.approx([0.4 * slots * number for number in range(1, 10)])


def test_device_cookie_counts_for_its_account_until_it_expires(monkeypatch):
    attempts = make()
    stranger = attempts.sign_in(MAYA, "192.0.2.1", "")
    cookie = attempts.device_cookie(MAYA)

    assert attempts.sign_in(MAYA.upper(), "192.0.2.1", cookie).queue != stranger.queue
    fields, _, tag = cookie.rpartition(".")
    for unknown in (
        attempts.device_cookie(OMAR),
        make().device_cookie(MAYA),
        f"9{fields}.{tag}",
        f"{fields}.{tag[:-1]}",
        ".",
        "\xfc",
    ):
        assert attempts.sign_in(MAYA, "192.0.2.1", unknown) == stranger
    later = time.time() + DEVICE_SECONDS
    monkeypatch.setattr("services.web.attempts.time.time", lambda: later)
    assert attempts.sign_in(MAYA, "192.0.2.1", cookie) == stranger
