"""Throttles of sign-in attempts, device cookies, the queue of an attempt, and the time of its answer."""

import asyncio
import time
from collections import Counter

import pytest

from services.crypto import RootKeys, new_key
from services.errors import TooManyAttempts, WrongCredentials
from services.store.supabase.api import RpcResult
from services.web.attempts import DEVICE_SECONDS, Attempts

MAYA, OMAR = "maya@daybook.test", "omar@daybook.test"
HOME = "192.0.2.1"


class Clock:
    """A clock that moves only while a task sleeps or works."""

    now = 0.0

    def __call__(self):
        return self.now

    async def sleep(self, seconds):
        self.now += seconds
        await asyncio.sleep(0)


class Server:
    """The throttles of a database, in a window that does not end."""

    def __init__(self):
        self.counts = Counter()

    def call(self, verb, *, counted, at_most=0, **_):
        self.counts[counted] += {"throttle": 1, "return_attempt": -1}[verb]
        return RpcResult(ok=verb != "throttle" or self.counts[counted] <= at_most)


def make(clock=None, **limits):
    clock, server = clock or Clock(), Server()
    root_keys = RootKeys({1: new_key()}, current=1)
    limits = {"sign_ups_an_hour": 20} | limits
    return Attempts(lambda: server, root_keys, clock=clock, sleep=clock.sleep, **limits)


def outcomes(attempts, *tried, succeed=False):
    """ "in", "wrong" or "slow" for each attempt in turn."""

    async def run(attempt):
        try:
            async with attempts.reserve(attempt):
                if not succeed:
                    raise WrongCredentials
        except WrongCredentials:
            return "wrong"
        except TooManyAttempts:
            return "slow"
        return "in"

    return [asyncio.run(run(attempt)) for attempt in tried]


@pytest.mark.parametrize(("check_seconds", "slots"), [(0.022, 1), (0.094, 1), (0.39, 1), (0.5, 2)])
def test_parallel_answers_leave_one_a_slot(check_seconds, slots):
    clock = Clock()
    attempts = make(clock)
    left = []

    async def guess():
        with pytest.raises(WrongCredentials):
            async with attempts.reserve(attempts.sign_in(MAYA, HOME, "")):
                await clock.sleep(check_seconds)
                raise WrongCredentials
        left.append(clock.now)

    async def guess_nine_times():
        await asyncio.gather(*(guess() for _ in range(9)))

    asyncio.run(guess_nine_times())

    assert left == pytest.approx([0.4 * slots * number for number in range(1, 10)])


def test_account_is_throttled_across_addresses_and_spellings():
    attempts = make()
    spellings = ["iris", "IRIS", "\u0130ris", "ir\u0130s", "\uff49ris", "i\u0307ris"]
    guesses = [
        attempts.sign_in(f"{name}@daybook.test", f"host-{n}", "")
        for n, name in enumerate(spellings * 2)
    ]

    assert outcomes(attempts, *guesses) == ["wrong"] * 10 + ["slow"] * 2


def test_address_is_throttled_across_accounts():
    attempts = make(tries_of_an_address=3, sign_ups_an_hour=2)
    sign_ins = [attempts.sign_in(f"{n}@daybook.test", HOME, "") for n in range(4)]
    sign_ups = [attempts.sign_up(f"{n}@daybook.test", HOME) for n in range(3)]

    assert outcomes(attempts, *sign_ins) == ["wrong"] * 3 + ["slow"]
    assert outcomes(attempts, *sign_ups, succeed=True) == ["in"] * 2 + ["slow"]


def test_successful_sign_ins_are_not_throttled():
    attempts = make(tries_of_an_account=2, tries_of_an_address=2)

    assert outcomes(attempts, *[attempts.sign_in(MAYA, HOME, "")] * 3, succeed=True) == ["in"] * 3


def test_known_device_has_its_own_throttle():
    attempts = make(tries_of_an_account=2, tries_of_an_address=2)
    stranger = attempts.sign_in(MAYA, HOME, "")
    known = attempts.sign_in(MAYA, HOME, attempts.device_cookie(MAYA))

    assert outcomes(attempts, *[stranger] * 3) == ["wrong", "wrong", "slow"]
    assert outcomes(attempts, known, succeed=True) == ["in"]
    assert outcomes(attempts, *[known] * 3) == ["wrong", "wrong", "slow"]


def test_device_cookie_counts_for_its_account_until_it_expires(monkeypatch):
    attempts = make()
    stranger = attempts.sign_in(MAYA, HOME, "")
    cookie = attempts.device_cookie(MAYA)

    assert attempts.sign_in(MAYA.upper(), HOME, cookie).queue != stranger.queue
    fields, _, tag = cookie.rpartition(".")
    for unknown in (
        attempts.device_cookie(OMAR),
        make().device_cookie(MAYA),
        f"9{fields}.{tag}",
        f"{fields}.{tag[:-1]}",
        ".",
        "\xfc",
    ):
        assert attempts.sign_in(MAYA, HOME, unknown) == stranger
    later = time.time() + DEVICE_SECONDS
    monkeypatch.setattr("services.web.attempts.time.time", lambda: later)
    assert attempts.sign_in(MAYA, HOME, cookie) == stranger
