"""The JSON form in which stores hold rows, and the column values of the fields by which rows are selected."""

from datetime import UTC, date, datetime
from enum import Enum
from functools import cache
from typing import cast
from uuid import UUID

from pydantic import ConfigDict, TypeAdapter

from services.store.tables.protocol import Row, Table

Value = str | int | None


@cache
def _adapter(kind: type[Row]) -> TypeAdapter[Row]:
    # "keys": pydantic would keep short texts in a cache of the process; "None": a dataclass alone takes no configuration
    return TypeAdapter(cast(type[Row], kind | None), config=ConfigDict(cache_strings="keys"))


def read_row(table: Table[Row], text: str | bytes) -> Row:
    """Return the row of *table* that a JSON object describes. Raise ValueError if the object does not fit the table."""
    return _adapter(table.kind).validate_json(text)


def row_text(table: Table[Row], row: Row) -> bytes:
    """Return *row* as a JSON object in one line."""
    return _adapter(table.kind).dump_json(row, warnings=False)


def value_of(value: object) -> Value:
    """Return *value* as the value of a column; times become texts that sort by time."""
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
