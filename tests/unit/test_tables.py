"""CSV files: whole for a reader of CSV, and harmless in a spreadsheet."""

import csv
import io
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from operator import itemgetter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.domain import Purpose
from services.domain.usage import LedgerEntry
from services.portable.tables import ledger_to_csv, to_csv

ENTRY = LedgerEntry(
    id=1,
    at=datetime(2026, 11, 20, 12, tzinfo=UTC),
    day=date(2026, 11, 20),
    kind="charge",
    outcome="complete",
    purpose=Purpose.REPLY,
    model="large",
    tokens_in=1200,
    tokens_cached=800,
    tokens_out=34,
    cost_micro=700,
)


def rows_of(text):
    return list(csv.reader(io.StringIO(text, newline="")))


def test_ledger_has_a_row_for_each_entry():
    refund = replace(ENTRY, kind="adjust", cost_micro=-1_500_000)

    header, first, second = rows_of(ledger_to_csv([ENTRY, refund]))

    assert dict(zip(header, first, strict=True)) == {
        "time": "2026-11-20T12:00:00+00:00",
        "day_utc": "2026-11-20",
        "kind": "charge",
        "outcome": "complete",
        "purpose": "reply",
        "model": "large",
        "input_tokens": "1200",
        "cached_tokens": "800",
        "output_tokens": "34",
        "cost_usd": "0.0007",
    }
    assert second[-1] == "-1.5"  # a number is no formula


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t", "\r"])
def test_text_that_begins_like_a_formula_is_defused(sign):
    assert rows_of(to_csv({"a": str}, [f"{sign}1+1"]))[1] == [f"'{sign}1+1"]


@given(
    st.lists(st.lists(st.text(st.characters(exclude_characters="\x00")), min_size=2, max_size=2))
)
def test_cells_are_read_back_as_they_were(rows):
    found = rows_of(to_csv({"a": itemgetter(0), "b": itemgetter(1)}, rows))[1:]

    assert [[cell.removeprefix("'") for cell in row] for row in found] == [
        [cell.removeprefix("'") for cell in row] for row in rows
    ]


def test_costs_below_a_cent_are_written_in_full():
    (_, row) = rows_of(ledger_to_csv([replace(ENTRY, cost_micro=1)]))

    assert Decimal(row[-1]) == Decimal("0.000001")
