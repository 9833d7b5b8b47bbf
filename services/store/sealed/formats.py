"""JSON formats of the values that are sealed."""

import json
from collections.abc import Collection
from dataclasses import fields
from typing import Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from services.domain import Fact, Preferences, RunningSummary, Space, Thoughts
from services.errors import Tampered

Value = TypeVar("Value", Fact, Preferences, RunningSummary, Space, Thoughts)


class Format(Generic[Value]):
    """The JSON of a frozen dataclass, without `is_verified` and the fields that are *columns* of its row."""

    def __init__(self, kind: type[Value], columns: Collection[str] = ()) -> None:
        self._adapter, self._columns = TypeAdapter[Value](kind), columns
        self._known = {each.name for each in fields(kind)}

    def write(self, value: Value, before: str = "{}") -> str:
        """The JSON of *value*; fields of a later version of the app in *before* stay."""
        later = {key: kept for key, kept in json.loads(before).items() if key not in self._known}
        known = self._adapter.dump_python(
            value, mode="json", exclude={*self._columns, "is_verified"}, exclude_none=True
        )
        return json.dumps(later | known, ensure_ascii=False)

    def read(self, text: str, row: object = None) -> Value:
        """The value of the JSON *text* and the columns of *row*. Raise Tampered: this version cannot read it."""
        columns = {name: getattr(row, name) for name in self._columns}
        try:
            return self._adapter.validate_python(json.loads(text) | columns)
        except ValidationError:  # its message repeats the text
            raise Tampered from None
