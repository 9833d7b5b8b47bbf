"""Sealed documents: domain values as JSON, sealed, cached, and replaced only by a caller who has seen them."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from services.domain import Fact, Preferences, RunningSummary, Space, Thoughts
from services.errors import Stale, Tampered
from services.store.cached_read import CachedRead
from services.store.supabase.api import Argument, Hidden, IdentifiedRow, Table, refusal
from services.store.supabase.sessions import AppSession

Value = TypeVar("Value", Fact, Preferences, RunningSummary, Space, Thoughts)
Listed = TypeVar("Listed", Fact, Space)
Row = TypeVar("Row", bound="DocumentRow")


class ChangedElsewhere(Stale):
    """What was to be replaced is no longer what was seen. *now* is what it says."""

    public = "This changed in another tab."

    def __init__(self, now: str = "") -> None:
        super().__init__()
        self.now = now


class Format(Generic[Value]):
    """The JSON of a frozen dataclass, without the fields that its row has in the clear."""

    def __init__(self, kind: type[Value], in_clear: Collection[str] = ()) -> None:
        self._adapter, self._in_clear = TypeAdapter[Value](kind), set(in_clear)
        self._known = set(kind.__dataclass_fields__)

    def write(self, value: Value, before: str = "{}") -> str:
        """The JSON of *value*; what a later version of the app put into *before* stays."""
        later = {key: kept for key, kept in json.loads(before).items() if key not in self._known}
        known = self._adapter.dump_python(
            value, mode="json", exclude=self._in_clear, exclude_none=True
        )
        return json.dumps(later | known, ensure_ascii=False)

    def read(self, text: str, **in_clear: object) -> Value:
        """The value of the JSON *text* and the fields *in_clear*. Raise Tampered: this version cannot read it."""
        try:
            return self._adapter.validate_python(json.loads(text) | in_clear)
        except ValidationError:  # its message repeats the text
            raise Tampered from None


class DocumentRow(IdentifiedRow, frozen=True):
    """A row with a sealed document."""

    body: str = Field(repr=False)


@dataclass(frozen=True, slots=True)
class _Held(Generic[Row, Listed]):
    row: Row
    value: Listed


class Documents(ABC, Generic[Row, Listed]):
    """One user's sealed documents of one table."""

    def __init__(self, session: AppSession, table: Table[Row]) -> None:
        self._session, self._table = session, table
        self._known = CachedRead(self._read)

    def all(self) -> tuple[Listed, ...]:
        """All, in their order; at most a minute old, or older while the database is away.

        Raise StoreUnavailable, SignedOut.
        """
        return tuple(held.value for held in self._known.get().values())

    @abstractmethod
    def _opened(self, rows: Sequence[Row]) -> Iterable[Listed]:
        """The values of *rows*, as far as they are to be shown."""

    @abstractmethod
    def _order(self, row: Row, value: Listed) -> tuple[object, ...]:
        """The sort key of *value*."""

    def _sealed(self, seen: Listed | None) -> Hidden:
        """The sealed text of what was *seen*, which its replacement has to name. Raise ChangedElsewhere."""
        if seen is None:
            return Hidden(None)
        held = self._known.read().get(seen.id)
        if held is None or held.value != seen:
            raise ChangedElsewhere
        return Hidden(held.row.body)

    def _call(self, verb: str, /, **arguments: Argument | Hidden) -> None:
        try:
            answer = self._session.calls.call(verb, **arguments)
        finally:  # it may have been done even where the answer was lost
            self._known.outdate()
        if answer.reason == "stale":
            raise ChangedElsewhere
        if not answer.ok:
            raise refusal(verb, answer.reason)

    def _drop(self, is_gone: Callable[[Listed], bool]) -> None:
        """Show no more what was destroyed, also while the database is away."""
        self._known.amend(
            lambda known: {its: held for its, held in known.items() if not is_gone(held.value)}
        )

    def _read(self) -> dict[object, _Held[Row, Listed]]:
        rows = {row.id: row for row in self._table.all_rows(self._session.client)}
        before = self._known.last or {}
        found = {its: held for its, held in before.items() if rows.get(held.row.id) == held.row}
        for value in self._opened([row for its, row in rows.items() if its not in found]):
            found[value.id] = _Held(rows[value.id], value)
        in_order = sorted(found.values(), key=lambda held: self._order(held.row, held.value))
        return {held.row.id: held for held in in_order}
