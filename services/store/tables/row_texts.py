"""The JSON form of stored rows, and the column values of the fields by which rows are selected."""

from datetime import UTC, date, datetime
from enum import Enum
from functools import cache
from uuid import UUID

from pydantic import TypeAdapter

from services.domain.json_texts import read_json
from services.store.tables.protocol import Row, Table

Value = str | int | None


@cache
def _adapter(kind: type[Row]) -> TypeAdapter[Row]:
    return TypeAdapter(kind)


def read_row(table: Table[Row], text: str | bytes) -> Row:
    """Return the row of *table* that a JSON object describes. Raise ValueError if the object does not fit the table."""
    return read_json(_adapter(table.kind), text)


def row_text(table: Table[Row], row: Row) -> bytes:
    """Return *row* as a JSON object in one line."""
    return _adapter(table.kind).dump_json(row, warnings=False)


def value_of(value: object) -> Value:
    """Convert *value* to the value of a column; times become texts that sort by time."""
    if value is None or type(value) is str:
        return value
    match value:
        case Enum():
            return str(value.value)
        case datetime():
            return value.astimezone(UTC).isoformat(timespec="microseconds")
        case date():
            return value.isoformat()
        case UUID():
            return str(value)
        case str() | int():
            return value
        case _:
            raise TypeError(f"a column has no {type(value).__name__}")
