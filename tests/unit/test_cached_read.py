"""What was read a moment ago, and how long it holds."""

import pytest

from services.errors import SignedOut, StoreUnavailable
from services.store import cached_read
from services.store.cached_read import CachedRead


class Source:
    """Counts how often it was asked, and fails while it is to."""

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
    """Stands still between steps."""

    now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def source():
    return Source()


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(cached_read, "time", clock)
    return clock


@pytest.fixture
def kept(source, clock):
    return CachedRead(source, seconds=5.0)


def test_it_is_asked_for_again_when_its_time_is_over(kept, clock):
    assert kept.last is None
    assert kept.get() == 1
    clock.now += 4.9
    assert kept.get() == 1
    clock.now += 0.1

    assert kept.get() == 2
    assert kept.last == 2


def test_it_is_read_at_once_where_that_is_wanted(kept):
    kept.get()

    assert kept.read() == 2
    assert kept.get() == 2


@pytest.mark.parametrize("is_outdated", [True, False])
def test_while_the_database_is_away_it_is_as_last_read(kept, source, clock, is_outdated):
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


def test_where_nothing_was_read_the_failure_is_said(kept, source):
    source.failure = StoreUnavailable()

    with pytest.raises(StoreUnavailable):
        kept.get()


def test_who_is_signed_out_is_shown_nothing(kept, source, clock):
    kept.get()
    source.failure = SignedOut()
    clock.now += 60

    with pytest.raises(SignedOut):
        kept.get()


def test_what_was_changed_is_read_again(kept):
    kept.outdate()
    assert kept.get() == 1

    kept.outdate()

    assert kept.get() == 2


def test_what_was_changed_while_it_was_read_is_read_again(kept, source):
    source.meanwhile = kept.outdate
    assert kept.get() == 1
    source.meanwhile = lambda: None

    assert kept.get() == 2
    assert kept.get() == 2


def test_what_was_destroyed_is_not_shown_while_nobody_answers(kept, source):
    kept.amend(lambda value: value + 10)
    kept.get()
    kept.outdate()
    kept.amend(lambda value: value + 10)
    source.failure = StoreUnavailable()

    assert kept.get() == 11
    source.failure = None
    assert kept.get() == 2
