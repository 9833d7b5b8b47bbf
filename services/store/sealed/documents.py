"""Sealed documents: values as JSON, sealed, cached, and replaced only by a caller who has seen them."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from typing import Generic, TypeVar
from uuid import UUID

from pydantic import TypeAdapter, ValidationError

from services.crypto import UserKeys
from services.domain import (
    ConversationId,
    Fact,
    Preferences,
    RunningSummary,
    Space,
    SpaceId,
    Thoughts,
)
from services.domain.limits import checked_instructions, checked_space_name
from services.errors import ChangedElsewhere, NotFound, Stale, StoreUnavailable, Tampered
from services.store.cached_read import CachedRead
from services.store.rows import DocumentKind, DocumentRow, Rows
from services.store.sealed.places import document_place, stored_document_place

Value = TypeVar("Value", Fact, Preferences, RunningSummary, Space, Thoughts)
Listed = TypeVar("Listed", Fact, Space)


class Format(Generic[Value]):
    """The JSON of a frozen dataclass, without the fields that its row has in the clear."""

    def __init__(self, kind: type[Value], in_clear: Collection[str] = ()) -> None:
        self._adapter, self._in_clear = TypeAdapter[Value](kind), set(in_clear)
        self._known = {each.name for each in fields(kind)}

    def write(self, value: Value, before: str = "{}") -> str:
        """The JSON of *value*; fields of a later version of the app in *before* stay."""
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


def check_seen(seen: str | None, now: str | None, wanted: str | None) -> None:
    """Raise ChangedElsewhere if the stored text *now* is neither *seen* nor *wanted*."""
    if seen is not None and (now or "") not in (seen, wanted or ""):
        raise ChangedElsewhere(now or "")


@dataclass(frozen=True, slots=True)
class _Held(Generic[Listed]):
    row: DocumentRow
    value: Listed


class Documents(ABC, Generic[Listed]):
    """The documents of one kind of one user."""

    def __init__(self, rows: Rows, keys: UserKeys, kind: DocumentKind) -> None:
        self._rows, self._keys, self._kind = rows, keys, kind
        self._all = CachedRead(self._read)

    def all(self) -> tuple[Listed, ...]:
        """All, in their order; at most a minute old, or older while the database is away."""
        return tuple(held.value for held in self._all.get().values())

    @abstractmethod
    def _opened(self, rows: Sequence[DocumentRow]) -> Iterable[Listed]:
        """The values of *rows* that can be shown."""

    @abstractmethod
    def _order(self, row: DocumentRow, value: Listed) -> tuple[object, ...]:
        """The sort key of *value*."""

    def _replace(
        self,
        document: DocumentRow,
        seen: Listed | None,
        source: ConversationId | None = None,
        cuts: int | None = None,
    ) -> None:
        """Store *document* in place of the one that the caller has *seen*. Raise ChangedElsewhere."""
        replaces = None
        if seen is not None:
            held = self._all.read().get(seen.id)
            if held is None or held.value != seen:
                raise ChangedElsewhere
            replaces = held.row.body
        try:
            self._rows.keep_document(document, replaces=replaces, source=source, cuts=cuts)
        except Stale:
            raise ChangedElsewhere from None
        finally:  # it may have been done even where the answer was lost
            self._all.outdate()

    def _forget(self, document_id: UUID) -> None:
        try:
            with suppress(NotFound):
                self._rows.forget_document(self._kind, document_id)
        finally:
            self._all.outdate()
        self._drop(lambda value: value.id == document_id)

    def _drop(self, is_gone: Callable[[Listed], bool]) -> None:
        """Hide destroyed documents, also while the database is away."""
        self._all.amend(
            lambda held: {its: one for its, one in held.items() if not is_gone(one.value)}
        )

    def _read(self) -> dict[UUID, _Held[Listed]]:
        rows = {row.id: row for row in self._rows.documents(self._kind)}
        before = self._all.last or {}
        found = {its: held for its, held in before.items() if rows.get(its) == held.row}
        for value in self._opened([row for its, row in rows.items() if its not in found]):
            found[value.id] = _Held(rows[value.id], value)
        in_order = sorted(found.values(), key=lambda held: self._order(held.row, held.value))
        return {held.row.id: held for held in in_order}


class SealedSpaces(Documents[Space]):
    """The `Spaces` of one user over sealed rows."""

    _FORMAT = Format(Space, in_clear=("id", "created_at", "is_archived", "is_verified"))

    def __init__(self, rows: Rows, keys: UserKeys) -> None:
        super().__init__(rows, keys, DocumentKind.SPACE)

    def find(self, space_id: SpaceId | None) -> Space | None:
        return next((space for space in self.all() if space.id == space_id), None)

    def keep(self, space: Space, *, replaces: Space | None = None) -> None:
        name, text = checked_space_name(space.name), checked_instructions(space.instructions or "")
        space = replace(space, name=name, instructions=text)
        vault = self._keys.newest.vault("spaces")
        place = document_place(self._rows.user_id, self._kind, space.id)
        document = DocumentRow(
            kind=self._kind,
            id=space.id,
            body=vault.seal(self._FORMAT.write(space), place),
            key_version=vault.version,
            is_archived=space.is_archived,
        )
        self._replace(document, replaces)

    def forget(self, space_id: SpaceId) -> None:
        self._forget(space_id)

    def _opened(self, rows: Sequence[DocumentRow]) -> Iterator[Space]:
        for row in rows:
            in_clear = {"id": row.id, "created_at": row.created_at, "is_archived": row.is_archived}
            try:
                place = stored_document_place(self._rows.user_id, row)
                text = self._keys.open("spaces", row.body, place)
                yield self._FORMAT.read(text, **in_clear)
            except Tampered:
                yield self._FORMAT.read('{"name": ""}', is_verified=False, **in_clear)

    def _order(self, row: DocumentRow, value: Space) -> tuple[str, UUID]:
        return value.name.casefold(), value.id


@dataclass(frozen=True, slots=True)
class _Stored:
    preferences: Preferences
    sealed: str | None = None
    text: str = field(default="{}", repr=False)


class SealedProfile:
    """The `Profile` of one user over sealed rows."""

    _FORMAT = Format(Preferences, in_clear=("is_verified",))
    _TRIES = 5  # while other tabs change it too

    def __init__(self, rows: Rows, keys: UserKeys) -> None:
        self._rows, self._keys = rows, keys
        self._place = document_place(rows.user_id, DocumentKind.PREFERENCES, rows.user_id)
        self._stored = CachedRead(self._read)

    def preferences(self) -> Preferences:
        return self._stored.get().preferences

    def change(
        self, change: Callable[[Preferences], Preferences], *, seen: str | None = None
    ) -> None:
        vault = self._keys.newest.vault("profile")
        for _ in range(self._TRIES):
            now = self._stored.read()
            chosen = change(now.preferences)
            instructions = checked_instructions(chosen.instructions or "")
            check_seen(seen, now.preferences.instructions, instructions)
            chosen = replace(chosen, instructions=instructions, is_verified=True)
            text = self._FORMAT.write(chosen, now.text)
            document = DocumentRow(
                kind=DocumentKind.PREFERENCES,
                id=self._rows.user_id,
                body=vault.seal(text, self._place),
                key_version=vault.version,
            )
            try:
                self._rows.keep_document(document, replaces=now.sealed)
                self._stored.put(_Stored(chosen, document.body, text))  # shown during an outage
            except Stale:
                continue
            finally:  # another tab may have changed it since, or the answer was lost
                self._stored.outdate()
            return
        raise StoreUnavailable("change_preferences")

    def _read(self) -> _Stored:
        rows = self._rows.documents(DocumentKind.PREFERENCES)
        if not rows:
            return _Stored(Preferences())
        sealed = rows[0].body
        try:
            text = self._keys.open("profile", sealed, self._place)
            return _Stored(self._FORMAT.read(text), sealed, text)
        except Tampered:
            return _Stored(Preferences(is_verified=False), sealed)
