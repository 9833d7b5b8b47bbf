"""Fair shares of script runs, by a clock that passes only where a run uses or awaits it."""

from dataclasses import dataclass
from threading import Condition

import pytest

from services.web.run_budgets import NETWORK, STRANGERS, TAB, USER, BegunRun, RunBudgets


class Clock(Condition):
    """A clock, a condition whose waits let time pass, and the CPU seconds of each run."""

    def __init__(self):
        super().__init__()
        self.now, self.used = 100.0, []

    def __call__(self):
        return self.now

    def wait(self, timeout=None):
        self.now += timeout
        assert self.now < 10_000, "no run may begin any more"
        return True

    def of_a_run(self):
        place = len(self.used)
        self.used.append(0.0)
        return lambda: self.used[place]


@dataclass
class Run:
    """A run that has begun, and the seconds that it waited before."""

    begun: BegunRun
    clock: Clock
    place: int
    waited: float

    def end(self):
        self.begun.end()

    def go_on(self):
        """Wait to draw more of a reply; return the seconds that the run waited."""
        before = self.clock.now
        self.begun.go_on(lambda: False)
        return self.clock.now - before

    def use(self, seconds):
        """Use a core, alone, for some *seconds*."""
        self.clock.now += seconds
        self.clock.used[self.place] += seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def budgets(clock):
    return RunBudgets(clock, clock, clock.of_a_run)


@pytest.fixture
def begin(clock, budgets):
    """Return a function that begins a run, of a tab that is not gone."""

    def begin(tab="a", user="maya", network="", is_gone=lambda: False):
        before = clock.now
        begun = budgets.begin(tab, user, network, is_gone)
        return Run(begun, clock, len(clock.used) - 1, clock.now - before)

    return begin


def run_for(clock, begin, seconds, used=0.05, **who):
    """Run again and again for some *seconds*; return the CPU seconds that the runs used."""
    ends_at, total = clock.now + seconds, 0
    while clock.now < ends_at:
        run = begin(**who)
        run.use(used)
        run.end()
        total += used
    return total


def test_fast_clicks_do_not_wait(clock, begin):
    waited = 0
    for _ in range(50):
        run = begin()
        waited += run.waited
        run.use(0.06)
        clock.now += 0.14
        run.end()

    assert waited == 0


@pytest.mark.parametrize(
    ("who", "size"),
    [
        ({}, TAB),
        ({"user": "", "network": "192.0.2.1"}, NETWORK),
    ],
)
@pytest.mark.parametrize("used", [0.05, 0.5, 4])
def test_what_asks_without_a_pause_gets_its_share(clock, begin, who, size, used):
    begun_at = clock.now
    total = run_for(clock, begin, 1000, used, **who)

    assert total == pytest.approx(size.burst + (clock.now - begun_at) * size.share, abs=1.5 * used)


def test_tabs_of_a_user_have_one_share(clock, begin):
    begun_at = clock.now
    used = sum(run_for(clock, begin, 1, tab=str(number)) for number in range(200))

    assert used == pytest.approx(USER.burst + (clock.now - begun_at) * USER.share, rel=0.05)


def test_strangers_of_all_networks_have_one_share(clock, begin):
    begun_at = clock.now
    used = sum(
        run_for(clock, begin, 1, tab=str(number), user="", network=str(number))
        for number in range(200)
    )

    seconds = clock.now - begun_at
    assert used == pytest.approx(STRANGERS.burst + seconds * STRANGERS.share, rel=0.05)


@pytest.mark.parametrize("networks", [2, 10])
def test_stranger_of_a_quiet_network_does_not_wait_for_busy_ones(clock, begin, networks):
    for number in range(3_000):
        tab = str(number % (19 * networks))
        run_for(clock, begin, 0.05, tab=tab, user="", network=str(number % networks))

    for _ in range(5):
        run = begin(tab="new", user="", network="another")
        assert run.waited == 0
        run.use(0.05)
        run.end()


def test_another_user_does_not_wait(clock, begin):
    run_for(clock, begin, 60)
    run_for(clock, begin, 60, user="", network="192.0.2.1")

    assert begin(tab="b", user="omar").waited == 0


def test_third_run_of_a_user_waits_while_two_are_busy(clock, begin):
    busy = [begin(tab="a"), begin(tab="b")]
    looks = iter([False] * 6)

    def end_after_looks():
        for place in (0, 1):
            clock.used[place] += 0.1
        if next(looks, True):
            busy[0].end()
        return False

    assert begin(tab="c", is_gone=end_after_looks).waited == 7 * 0.5


def test_third_run_of_a_user_does_not_wait_for_two_that_wait(clock, begin):
    for tab in ("a", "b"):
        begin(tab=tab).use(0.05)
    clock.now += 1

    assert begin(tab="c").waited == 0


def test_ten_tabs_that_follow_a_reply_wait_for_nothing(clock, begin):
    followers = []
    for tab in range(10):
        run = begin(tab=str(tab))
        assert run.waited == 0
        run.use(0.07)
        assert run.go_on() == 0
        followers.append(run)

    for _ in range(200):  # ten seconds of a reply
        for run in followers:
            run.use(0.001)
            assert run.go_on() == 0
        clock.now += 0.04

    for run in followers:
        run.end()
    for tab in range(10):
        run = begin(tab=str(tab))
        assert run.waited == 0
        run.use(0.07)
        run.end()


def test_fragments_that_refresh_in_ten_tabs_wait_for_nothing(clock, begin):
    for _ in range(100):
        for tab in range(10):
            run = begin(tab=str(tab))
            assert run.waited == 0
            run.use(0.01)
            run.end()
        clock.now += 0.4


@pytest.mark.parametrize("used", [0.02, 0.6])
def test_replies_that_are_expensive_to_draw_get_their_users_share(clock, begin, used):
    followers = [begin(tab=str(tab)) for tab in range(2)]
    begun_at, total = clock.now, 0
    while clock.now < begun_at + 500:
        for run in followers:
            run.go_on()
            run.use(used)
            total += used

    assert total == pytest.approx(USER.burst + (clock.now - begun_at) * USER.share, rel=0.02)


def test_run_that_waited_for_minutes_is_charged_what_it_used(clock, begin):
    run = begin()
    clock.now += 600
    run.use(1)
    run.end()

    assert begin().waited == 0


def test_run_of_a_tab_that_is_gone_does_not_wait(clock, begin):
    begin(tab="a")

    assert begin(tab="a", is_gone=lambda: True).waited == 0


def test_budgets_of_tabs_that_are_gone_are_dropped(clock, budgets, begin):
    for number in range(3000):
        begin(tab=str(number), user=str(number)).end()
        clock.now += 1

    assert budgets.known < 1100
