"""Reads of many rows by an API that truncates its answers."""

from itertools import cycle

from hypothesis import given
from hypothesis import strategies as st

from services.store.supabase.api import LEAST, every_row


@given(st.integers(0, 2500), st.lists(st.integers(LEAST, 2000), min_size=1))
def test_every_row_is_read_from_cut_answers(count, bounds):
    bound = cycle(bounds)

    def read(last, limit):
        first = 0 if last is None else last + 1
        return list(range(first, count))[: min(limit, next(bound))]

    assert every_row(read) == list(range(count))
