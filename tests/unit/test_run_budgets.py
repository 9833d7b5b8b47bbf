"""Fair shares of script runs, by a clock that passes only where a run uses or awaits it."""

from threading import Condition

import pytest

from services.web.run_budgets import NETWORK, STRANGERS, TAB, USER, RunBudgets


class Clock(Condition):
    """A clock, a condition whose waits let time pass, and the CPU seconds that all runs used."""

    now, used = 100.0, 0.0

    def __call__(self):
        return self.now

    def wait(self, timeout=None):
        self.now += timeout
        assert self.now < 10_000, "no run may begin any more"
        return True


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def budgets(clock):
    return RunBudgets(clock, clock, lambda: lambda: clock.used)


@pytest.fixture
def begin(budgets):
    """Return a function that begins a run, of a tab that is not gone."""

    def begin(tab="a", user="maya", network="", is_gone=lambda: False):
        return budgets.begin(tab, user, network, is_gone)

    return begin


def run_for(clock, begin, seconds, used=0.05, **who):
    """Run again and again for some *seconds*; return the CPU seconds that the runs used."""
    ends_at, total = clock.now + seconds, 0
    while clock.now < ends_at:
        end = begin(**who)
        clock.now += used
        clock.used += used
        end()
        total += used
    return total


def test_fast_clicks_do_not_wait(clock, begin):
    waited = 0
    for _ in range(50):
        before = clock.now
        end = begin()
        waited += clock.now - before
        clock.now += 0.2
        clock.used += 0.06
        end()

    assert waited == 0


@pytest.mark.parametrize(
    ("who", "size"),
    [
        ({}, TAB),
        ({"user": "", "network": "192.0.2.1"}, NETWORK),
    ],
)
def test_what_asks_without_a_pause_gets_its_share(clock, begin, who, size):
    used = run_for(clock, begin, 200, **who)

    assert used == pytest.approx(size.burst + 200 * size.share, rel=0.05)


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


def test_another_user_does_not_wait(clock, begin):
    run_for(clock, begin, 60)
    run_for(clock, begin, 60, user="", network="192.0.2.1")

    before = clock.now
    begin(tab="b", user="omar")

    assert clock.now == before


def test_third_run_of_a_user_waits_while_two_are_busy(clock, begin):
    begin(tab="a")
    end = begin(tab="b")
    looks = iter([False] * 6)

    def end_after_looks():
        clock.used += 0.4
        if next(looks, True):
            end()
        return False

    begin(tab="c", is_gone=end_after_looks)

    assert clock.now == 100 + 7 * 0.5


def test_third_run_of_a_user_does_not_wait_for_two_that_follow_replies(clock, begin):
    begin(tab="a")
    begin(tab="b")
    clock.now, clock.used = clock.now + 1, 0.05
    before = clock.now

    begin(tab="c")

    assert clock.now == before


def test_run_that_follows_a_reply_is_charged_one_second(clock, begin):
    for _ in range(int(TAB.burst)):
        clock.now += 1 / TAB.share
        end = begin()
        clock.used += 120
        end()

    before = clock.now
    begin()

    assert clock.now - before <= 1 / TAB.share


def test_run_of_a_tab_that_is_gone_does_not_wait(clock, begin):
    begin(tab="a")
    before = clock.now

    begin(tab="a", is_gone=lambda: True)

    assert clock.now == before


def test_budgets_of_tabs_that_are_gone_are_dropped(clock, budgets, begin):
    for number in range(3000):
        begin(tab=str(number), user=str(number))()
        clock.now += 1

    assert budgets.known < 1100
