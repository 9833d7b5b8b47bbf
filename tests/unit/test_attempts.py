"""Throttles of sign-in attempts, device cookies, the queue of an attempt, and the time of its answer."""

import asyncio
import time
from collections import Counter
from threading import Event
from types import SimpleNamespace

import pytest

from services.crypto import RootKeys, new_key
from services.errors import TooManyAttempts, WrongCredentials
from services.web.attempts import DEVICE_SECONDS, Attempts
from tests.stack.apps import SECONDS

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
        self.is_reachable = Event()
        self.is_reachable.set()

    def throttle(self, throttles, nonce):
        self.is_reachable.wait(SECONDS)
        for throttle in throttles:
            self.counts[throttle.bucket] += 1
            if self.counts[throttle.bucket] > throttle.at_most:
                return 1
        return None

    def start_session(self, returned):
        self.counts.subtract(returned)


def make(clock=None, server=None, **limits):
    clock, server = clock or Clock(), server or Server()
    root_keys = RootKeys({1: new_key()}, current=1)
    limits = {"sign_ups_an_hour": 20} | limits
    shared = SimpleNamespace(backend=server)
    return Attempts(lambda: shared, root_keys, clock=clock, sleep=clock.sleep, **limits)


def outcomes(attempts, *tried, succeed=False, checked=None):
    """ "in", "wrong" or "slow" for each attempt in turn, which are appended to *checked* before their reservation."""
    checked = [] if checked is None else checked

    async def run(attempt):
        try:
            async with attempts.reserve(attempt) as reservation:
                checked.append(attempt)
                if not succeed:
                    raise WrongCredentials
                attempts.shared().backend.start_session(reservation())
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


def test_account_is_throttled_across_addresses():
    attempts = make()
    guesses = [attempts.sign_in(MAYA, f"host-{n}", "") for n in range(12)]

    assert outcomes(attempts, *guesses) == ["wrong"] * 10 + ["slow"] * 2


def test_address_is_throttled_across_accounts():
    attempts = make(tries_of_an_address=3, sign_ups_an_hour=2)
    sign_ins = [attempts.sign_in(f"{n}@daybook.test", HOME, "") for n in range(4)]
    sign_ups = [attempts.sign_up(f"{n}@daybook.test", HOME) for n in range(3)]

    assert outcomes(attempts, *sign_ins) == ["wrong"] * 3 + ["slow"]
    assert outcomes(attempts, *sign_ups, succeed=True) == ["in"] * 2 + ["slow"]


def test_network_of_ipv6_is_throttled_as_one_or_eight_addresses():
    attempts = make(tries_of_an_address=3, sign_ups_an_hour=2)
    subnet = [f"2001:db8:0:1::{n}" for n in range(4)]
    home = [f"2001:db8:0:{n:x}::1" for n in range(16, 41)]

    def sign_ins(addresses):
        return [attempts.sign_in(f"{n}@daybook.test", each, "") for n, each in enumerate(addresses)]

    assert outcomes(attempts, *sign_ins(subnet)) == ["wrong"] * 3 + ["slow"]
    assert outcomes(attempts, *sign_ins(home)) == ["wrong"] * (24 - 3) + ["slow"] * 4
    sign_ups = [attempts.sign_up(MAYA, each) for each in home]
    assert outcomes(attempts, *sign_ups, succeed=True) == ["in"] * 16 + ["slow"] * 9


def test_successful_sign_ins_are_not_throttled():
    attempts = make(tries_of_an_account=2, tries_of_an_address=2)

    assert outcomes(attempts, *[attempts.sign_in(MAYA, HOME, "")] * 3, succeed=True) == ["in"] * 3


def test_first_attempt_is_checked_while_it_is_reserved():
    server = Server()
    attempts = make(server=server)
    server.is_reachable.clear()

    async def sign_in():
        async with attempts.reserve(attempts.sign_in(MAYA, HOME, "")) as reservation:
            server.is_reachable.set()
            server.start_session(reservation())

    asyncio.run(sign_in())

    assert set(server.counts.values()) == {0}


def test_twenty_attempts_at_most_run_beside_their_reservations():
    server, checked = Server(), []
    attempts = make(server=server)
    server.is_reachable.clear()

    async def sign_in(n):
        attempt = attempts.sign_in(f"{n}@daybook.test", f"host-{n}", "")
        async with attempts.reserve(attempt) as reservation:
            checked.append(n)
            await asyncio.to_thread(reservation)

    async def sign_in_all():
        signing_in = asyncio.gather(*map(sign_in, range(25)))
        for _ in range(100):  # more turns of the loop than an attempt takes until its check
            await asyncio.sleep(0)
        beside = len(checked)
        server.is_reachable.set()
        await signing_in
        return beside

    assert asyncio.run(sign_in_all()) == 20
    assert len(checked) == 25


@pytest.mark.parametrize("again", [(MAYA, "elsewhere"), (OMAR, HOME)], ids=["account", "address"])
def test_attempt_after_a_failed_one_is_reserved_first(again):
    attempts = make(tries_of_an_account=1, tries_of_an_address=1)
    first, second = attempts.sign_in(MAYA, HOME, ""), attempts.sign_in(*again, "")
    checked = []

    assert outcomes(attempts, first, second, checked=checked) == ["wrong", "slow"]

    assert checked == [first]


def test_sign_up_is_reserved_before_an_account_is_made():
    attempts = make(sign_ups_an_hour=0)
    checked = []

    assert outcomes(attempts, attempts.sign_up(MAYA, HOME), checked=checked) == ["slow"]

    assert checked == []


@pytest.mark.parametrize("succeed", [False, True])
def test_refused_reservation_hides_how_the_check_ended(succeed):
    attempts = make(tries_of_an_account=0)

    assert outcomes(attempts, attempts.sign_in(MAYA, HOME, ""), succeed=succeed) == ["slow"]


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

    assert attempts.sign_in(MAYA, HOME, cookie).queue != stranger.queue
    fields, _, tag = cookie.rpartition(".")
    for unknown in (
        attempts.device_cookie(OMAR),
        attempts.device_cookie(
            "m\u00e1ya@daybook.test"
        ),  # it opens no account, and must not count for one
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
