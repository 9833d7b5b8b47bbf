"""The numbers that replace the ids of the ledger and the audit log in a copy into Supabase."""

import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from services.store.supabase.copying import SupabaseCopy
from services.store.tables import schema

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)


def kept(copy, ids):
    """Return the ids that rows with these *ids* have in the copy."""
    row = schema.AuditRow(id="", at=NOON, action="role.set", actor=None, target=None, detail={})
    rows = [replace(row, id=one) for one in ids]
    return [row.id for row in copy.kept(schema.AUDIT, rows)]


def test_numbers_stay_and_other_ids_follow_them_in_order():
    copy = SupabaseCopy(None)
    ids = ["b", f"{7:020}", "a", f"{12:020}", "12"]

    copy.number("audit", ids)

    assert kept(copy, ids) == [f"{number:020}" for number in (15, 7, 14, 12, 13)]


@pytest.mark.parametrize("form", ["{:020}", "{:x}"])
def test_numbers_of_a_large_ledger_take_little_memory(form):
    ids = [form.format(number * 2**40) for number in range(10_000)]
    copy = SupabaseCopy(None)

    tracemalloc.start()
    try:
        copy.number("ledger", ids)
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert most_bytes < 50 * len(ids)
