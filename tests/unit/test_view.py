"""The view of a thread for one drawing: data that is not used is not read."""

import pytest

from services.errors import StoreUnavailable

BESIDE_THE_THREAD = "receipts", "costs", "thoughts", "documents", "messages_by_id"


@pytest.fixture
def garden(maya, database):
    """A chat with more receipts than are read with it; no other data can be read."""
    garden = database.hold("Garden", *(f"{who} {n}" for n in range(3) for who in "QA"))
    maya.drop_caches()
    database.rows.failures |= dict.fromkeys(BESIDE_THE_THREAD, StoreUnavailable())
    return garden


def test_view_reads_the_thread_alone(maya, garden):
    assert len(maya.chat.view(garden).thread.messages) == 6


@pytest.mark.parametrize(
    "read",
    [lambda view: view.setup, lambda view: view.receipt(view.thread.messages[1])],
    ids=["setup", "receipt"],
)
def test_rest_of_a_view_is_read_when_it_is_asked_for(maya, garden, read):
    view = maya.chat.view(garden)
    with pytest.raises(StoreUnavailable):
        read(view)
