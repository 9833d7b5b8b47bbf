"""Tables as CSV files, safe to open in a spreadsheet."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import Field, fields
from datetime import datetime
from typing import ClassVar, Protocol, TypeVar


class _Dataclass(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Field[object]]]


Record = TypeVar("Record", bound=_Dataclass)
# characters that begin a formula in a spreadsheet; some programs treat the full-width forms like the ASCII characters
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20", "\t", "\r")


def values_to_csv(kind: type[Record], values: Iterable[Record], *, has_header: bool = True) -> str:
    """Return a CSV file (RFC 4180) of dataclass *values* of one *kind*: one column per field, with the unit in its name.

    A text that a spreadsheet would run as a formula is prefixed with an apostrophe (OWASP, "CSV Injection").
    """
    names = [each.name for each in fields(kind)]
    file = io.StringIO()
    writer = csv.writer(file)
    if has_header:
        writer.writerow(names)
    writer.writerows([_cell(getattr(value, name)) for name in names] for value in values)
    return file.getvalue()


def pages_to_csv(
    kind: type[Record], read: Callable[[Record | None], Sequence[Record]]
) -> Iterator[str]:
    """Yield a CSV file in parts.

    *read*: a function that takes the last value of the previous page (None: read the first page) and returns the next page,
    which is empty at the end.
    """
    page = read(None)
    yield values_to_csv(kind, page)
    while page:
        page = read(page[-1])
        yield values_to_csv(kind, page, has_header=False)


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case datetime():
            return value.isoformat(timespec="seconds")
        case int():  # never with an apostrophe, because a negative number is not a formula
            return str(value)
        case Mapping():
            return json.dumps(value, ensure_ascii=False)
        case _:
            text = str(value)
            return f"'{text}" if text.startswith(_FORMULA) else text
