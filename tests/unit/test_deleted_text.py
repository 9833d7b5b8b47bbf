"""When users deleted text for good."""

from math import inf
from uuid import UUID

import pytest

from services.users import deleted_text
from services.users.deleted_text import DeletedText

MAYA, OMAR = UUID(int=1), UUID(int=2)


@pytest.fixture
def clock(monkeypatch):
    """Return a function that lets a number of seconds pass."""
    now = [100.0]
    monkeypatch.setattr(deleted_text.time, "monotonic", lambda: now[0])

    def wait(seconds):
        now[0] += seconds

    return wait


def test_deletion_counts_once_its_undo_is_over(clock):
    deleted = DeletedText()
    deleted.add(MAYA, 20)
    clock(5)
    deleted.add(MAYA, 60)

    assert deleted.latest(MAYA) == -inf
    clock(15)
    assert (deleted.latest(MAYA), deleted.latest(OMAR)) == (100.0, -inf)
    clock(45)
    assert deleted.latest(MAYA) == 105.0


def test_earlier_deletion_with_a_longer_undo_is_no_latest(clock):
    deleted = DeletedText()
    deleted.add(MAYA, 60)
    clock(5)
    deleted.add(MAYA, 20)

    clock(100)

    assert deleted.latest(MAYA) == 105.0


def test_deletions_of_a_user_without_a_session_are_forgotten(clock):
    deleted = DeletedText()
    deleted.add(MAYA, 0)

    deleted.forget(MAYA)

    assert deleted.latest(MAYA) == -inf
