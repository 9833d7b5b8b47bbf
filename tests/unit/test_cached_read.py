"""A cached read: fresh for some seconds, stale while the database is unreachable."""

import pytest

from services import caches
from services.caches import CachedRead
from services.errors import SignedOut, StoreUnavailable


class Source:
    """Counts its calls, and fails while it is told to."""

    def __init__(self):
        self.asked = 0
        self.failure = None
        self.meanwhile = lambda: None

    def __call__(self):
        if self.failure:
            raise self.failure
        self.asked += 1
        self.meanwhile()
        return self.asked


class Clock:
    """A clock that stands still between steps."""

    now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def source():
    return Source()


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(caches, "time", clock)
    return clock


@pytest.fixture
def kept(source, clock):
    return CachedRead(source, seconds=5.0)


def test_value_is_read_again_when_its_time_is_over(kept, clock):
    assert kept.last is None
    assert kept.get() == 1
    clock.now += 4.9
    assert kept.get() == 1
    clock.now += 0.1

    assert (kept.get(), kept.last, kept.read()) == (2, 2, 3)


@pytest.mark.parametrize("is_outdated", [True, False])
def test_last_value_is_returned_during_an_outage(kept, source, clock, is_outdated):
    source.failure = StoreUnavailable()
    with pytest.raises(StoreUnavailable):  # no value was read yet
        kept.get()
    source.failure = None
    kept.get()
    source.failure = StoreUnavailable()
    clock.now += 60
    if is_outdated:
        kept.outdate()

    assert kept.get() == 1
    with pytest.raises(StoreUnavailable):
        kept.read()
    source.failure = None
    assert kept.get() == 2


def test_signed_out_user_is_shown_no_stale_value(kept, source, clock):
    kept.get()
    source.failure = SignedOut()
    clock.now += 60

    with pytest.raises(SignedOut):
        kept.get()


def test_value_changed_while_it_was_read_is_read_again(kept, source):
    source.meanwhile = kept.outdate
    assert kept.get() == 1
    source.meanwhile = lambda: None

    assert kept.get() == 2
    assert kept.get() == 2


def test_amended_value_is_returned_during_an_outage(kept, source):
    kept.amend(lambda value: value + 10)
    kept.get()
    kept.outdate()
    kept.amend(lambda value: value + 10)
    source.failure = StoreUnavailable()

    assert kept.get() == 11
    source.failure = None
    assert kept.get() == 2


@pytest.mark.parametrize("change", ["read", "amend"])
def test_read_that_began_before_a_change_is_not_held(change):
    acts = []

    def ask():
        if not acts:
            return "first"
        acts.pop()()
        return "earlier"

    kept = CachedRead(ask)
    kept.get()
    acts.append(kept.read if change == "read" else lambda: kept.amend(lambda _: "first"))

    assert kept.read() == "earlier"
    assert kept.last == "first"
