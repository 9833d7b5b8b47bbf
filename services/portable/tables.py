"""Tables as CSV files, safe to open in a spreadsheet."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, fields
from datetime import datetime
from decimal import Decimal
from operator import attrgetter
from typing import ClassVar, Protocol, TypeVar

from services.domain.usage import LedgerEntry


class _Dataclass(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Field[object]]]


Value = TypeVar("Value")
Record = TypeVar("Record", bound=_Dataclass)
_LEDGER: Mapping[str, Callable[[LedgerEntry], object]] = {
    "time": lambda entry: entry.at,
    "day_utc": lambda entry: entry.day,
    "kind": lambda entry: entry.kind,
    "outcome": lambda entry: entry.outcome,
    "purpose": lambda entry: entry.purpose,
    "model": lambda entry: entry.model,
    "input_tokens": lambda entry: entry.tokens_in,
    "cached_tokens": lambda entry: entry.tokens_cached,
    "output_tokens": lambda entry: entry.tokens_out,
    "cost_usd": lambda entry: Decimal(entry.cost_micro) / 1_000_000,
}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def to_csv(
    columns: Mapping[str, Callable[[Value], object]],
    values: Iterable[Value],
    *,
    has_header: bool = True,
) -> str:
    """A CSV file (RFC 4180) of *values*, a row for each.

    A text that a spreadsheet would take for a formula gets an apostrophe before it (OWASP, "CSV Injection").
    """
    file = io.StringIO()
    writer = csv.writer(file)
    if has_header:
        writer.writerow(columns)
    writer.writerows([_cell(read(value)) for read in columns.values()] for value in values)
    return file.getvalue()


def ledger_to_csv(entries: Iterable[LedgerEntry], *, has_header: bool = True) -> str:
    """The ledger as a CSV file: times in UTC, cached tokens are a part of input tokens."""
    return to_csv(_LEDGER, entries, has_header=has_header)


def values_to_csv(kind: type[Record], values: Iterable[Record], *, has_header: bool = True) -> str:
    """A CSV file of dataclass *values* of one *kind*: a column for each field, with its unit in its name."""
    columns = {each.name: attrgetter(each.name) for each in fields(kind)}
    return to_csv(columns, values, has_header=has_header)


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case datetime():
            return value.isoformat(timespec="seconds")
        case int() | Decimal():  # no formula, where negative
            return str(value)
        case Mapping():
            return json.dumps(value, ensure_ascii=False)
        case _:
            text = str(value)
            return f"'{text}" if text.startswith(_FORMULA) else text
