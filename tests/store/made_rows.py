"""Rows of the tables of a store, whose fields have made-up values of their types."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from functools import cache
from types import UnionType
from typing import Literal, Union, get_args, get_origin, get_type_hints
from uuid import UUID, uuid4

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
LARGEST = 2**63 - 1


def row_of(table, **changes):
    """Return a row of *table* with new ids. Fields that may be None are None, and lists are empty, without *changes*."""
    return replace(_row(table.kind, is_full=False), **changes)


def full_row_of(table, **changes):
    """Return a row of *table* with new ids, no field of which is None or empty."""
    return replace(_row(table.kind, is_full=True), **changes)


def _row(kind, *, is_full):
    hints = _hints(kind)
    return kind(
        **{field.name: _value(hints[field.name], is_full=is_full) for field in fields(kind)}
    )


@cache
def _hints(kind):
    return get_type_hints(kind)


def _value(hint, *, is_full):
    hint = getattr(hint, "__supertype__", hint)  # of a NewType
    of, arguments = get_origin(hint), get_args(hint)
    if of in (Union, UnionType):
        return _value(arguments[0], is_full=True) if is_full else None
    if of is Literal:
        return arguments[-1]
    if of is tuple:
        return tuple(_value(arguments[0], is_full=True) for _ in range(2 * is_full))
    if of is Mapping:
        return (
            {_value(key, is_full=True): _value(value, is_full=True) for key, value in [arguments]}
            if is_full
            else {}
        )
    if is_dataclass(hint):
        return _row(hint, is_full=is_full)
    if issubclass(hint, Enum):
        return list(hint)[-1]
    return _PLAIN[hint](is_full)


_PLAIN = {  # values of the types that contain no others; the argument is true for a field that must not be empty
    UUID: lambda is_full: uuid4(),
    str: lambda is_full: f"text {uuid4()}" if is_full else str(uuid4()),
    int: lambda is_full: LARGEST if is_full else 1,
    bool: bool,
    date: lambda is_full: NOON.date(),
    datetime: lambda is_full: NOON + MICROSECOND,
    object: lambda is_full: ["text", 3, None, {"key": True}],
}
