"""Tables as CSV files, safe to open in a spreadsheet."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import Field, fields
from datetime import datetime
from decimal import Decimal
from typing import ClassVar, Protocol, TypeVar

from services.domain.usage import LedgerEntry


class _Dataclass(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Field[object]]]


Value = TypeVar("Value", bound=_Dataclass)
_MILLION = 1_000_000
_LEDGER = (
    "time",
    "day_utc",
    "kind",
    "outcome",
    "purpose",
    "model",
    "input_tokens",
    "cached_tokens",
    "output_tokens",
    "cost_usd",
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def to_csv(header: Sequence[str], rows: Iterable[Sequence[str | int | Decimal]]) -> str:
    """A CSV file (RFC 4180) of *rows* below *header*; an empty one begins no file.

    A text that a spreadsheet would take for a formula gets an apostrophe before it (OWASP, "CSV Injection").
    """
    file = io.StringIO()
    writer = csv.writer(file)
    if header:
        writer.writerow(header)
    writer.writerows([_defused(cell) for cell in row] for row in rows)
    return file.getvalue()


def ledger_to_csv(entries: Iterable[LedgerEntry], *, has_header: bool = True) -> str:
    """The ledger as a CSV file: times in UTC, cached tokens are a part of input tokens."""
    return to_csv(
        _LEDGER if has_header else (),
        (
            (
                entry.at.isoformat(timespec="seconds"),
                entry.day.isoformat(),
                entry.kind,
                entry.outcome,
                entry.purpose,
                entry.model,
                entry.tokens_in,
                entry.tokens_cached,
                entry.tokens_out,
                Decimal(entry.cost_micro) / _MILLION,
            )
            for entry in entries
        ),
    )


def values_to_csv(kind: type[Value], values: Iterable[Value], *, has_header: bool = True) -> str:
    """A CSV file of dataclass *values* of one *kind*: a column for each field, with its unit in its name."""
    names = [each.name for each in fields(kind)]
    rows = ([_cell(getattr(value, name)) for name in names] for value in values)
    return to_csv(names if has_header else (), rows)


def _cell(value: object) -> str | int:
    match value:
        case None:
            return ""
        case int() if not isinstance(value, bool):
            return value
        case datetime():
            return value.isoformat(timespec="seconds")
        case Mapping():
            return json.dumps(value, ensure_ascii=False)
        case _:
            return str(value)


def _defused(cell: str | int | Decimal) -> str | int | Decimal:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell
