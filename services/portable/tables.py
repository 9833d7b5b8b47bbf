"""Tables as CSV files, safe to open in a spreadsheet."""

import csv
import io
from collections.abc import Iterable, Sequence
from decimal import Decimal

from services.domain.usage import LedgerEntry

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


def _defused(cell: str | int | Decimal) -> str | int | Decimal:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell
