"""Rows as JSON, the form in which files and documents store them."""

from functools import cache

from pydantic import TypeAdapter

from services.store.tables.protocol import Row, Table


@cache
def _adapter(kind: type[Row]) -> TypeAdapter[Row]:
    return TypeAdapter(kind)


def read_row(table: Table[Row], text: str | bytes) -> Row:
    """Return the row of a JSON object. Raise ValueError."""
    return _adapter(table.kind).validate_json(text)


def row_text(table: Table[Row], row: Row) -> bytes:
    """Return *row* as a JSON object in one line."""
    return _adapter(table.kind).dump_json(row, warnings=False)
