"""CSV files: complete for a CSV reader, and harmless in a spreadsheet."""

import csv
import io
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.domain import Purpose
from services.domain.usage import LedgerEntry
from services.portable.tables import pages_to_csv, values_to_csv

ENTRY = LedgerEntry(
    id="1",
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


@dataclass
class Pair:
    a: str
    b: str


def rows_of(text):
    return list(csv.reader(io.StringIO(text, newline="")))


def test_ledger_has_a_row_for_each_entry():
    refund = replace(ENTRY, kind="adjust", cost_micro=-1_500_000)

    header, first, second = rows_of(values_to_csv(LedgerEntry, [ENTRY, refund]))

    assert dict(zip(header, first, strict=True)) == {
        "id": "1",
        "at": "2026-11-20T12:00:00+00:00",
        "day": "2026-11-20",
        "kind": "charge",
        "outcome": "complete",
        "purpose": "reply",
        "model": "large",
        "tokens_in": "1200",
        "tokens_cached": "800",
        "tokens_out": "34",
        "cost_micro": "700",
    }
    assert second[-1] == "-1500000"  # a number is not a formula


@pytest.mark.parametrize("sign", [*"=+-@\t\r", *"\uff1d\uff0b\uff0d\uff20"])
def test_text_that_begins_like_a_formula_is_defused(sign):
    assert rows_of(values_to_csv(Pair, [Pair(f"{sign}1+1", "")]))[1][:1] == [f"'{sign}1+1"]


@given(
    st.lists(st.lists(st.text(st.characters(exclude_characters="\x00")), min_size=2, max_size=2))
)
def test_cells_are_read_back_as_they_were(rows):
    found = rows_of(values_to_csv(Pair, [Pair(*row) for row in rows]))[1:]

    assert [[cell.removeprefix("'") for cell in row] for row in found] == [
        [cell.removeprefix("'") for cell in row] for row in rows
    ]


def test_pages_are_one_table():
    entries = [replace(ENTRY, id=str(number)) for number in range(1, 6)]

    def read(last):
        return entries[int(last.id) : int(last.id) + 2] if last else entries[:2]

    pages = list(pages_to_csv(LedgerEntry, read))

    assert len(pages) > 2
    assert "".join(pages) == values_to_csv(LedgerEntry, entries)
