"""Sealed documents: bound to revisions, cached, and replaced only by callers who have seen the newest revision."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Generic, TypeVar
from uuid import UUID

from services import errors
from services.caches import CachedRead
from services.crypto import Vault
from services.domain import ConversationId, Fact, FactId, Preferences, Space, SpaceId
from services.domain.limits import checked_fact, checked_instructions, checked_space_name
from services.domain.rows import ConversationRow, DocumentKind, DocumentRow
from services.events import log_event
from services.store.rows import Rows
from services.store.sealed.answers import ask_twice
from services.store.sealed.opened import OpenedConversations
from services.store.sealed.seals import DocumentSeals, Format
from services.store.sealed.texts import check_seen
from services.store.writes import PutDocument

_SPACE_FORMAT = Format(Space, ("id", "created_at"))
_PREFERENCES_FORMAT = Format(Preferences)
_FACT_FORMAT = Format(Fact, ("id", "conversation_id", "space_id"))
_TRIES = 5  # maximum attempts at one change; other tabs may change the preferences meanwhile

Document = TypeVar("Document", Fact, Preferences, Space)


@dataclass(frozen=True, slots=True)
class OpenedDocument(Generic[Document]):
    """The row of a document, its value, and the JSON that the value was read from."""

    row: DocumentRow
    value: Document
    text: str = field(default="{}", repr=False)
    is_newer: bool = False  # true: a newer version of the app stored it; *value* is a substitute


class Documents(ABC, Generic[Document]):
    """One user's documents of one kind. Any thread may call any method."""

    def __init__(
        self, rows: Rows, seals: DocumentSeals, kind: DocumentKind, values: Format[Document]
    ) -> None:
        self._rows, self._seals, self._kind, self._format = rows, seals, kind, values
        self._opened = CachedRead(self._read)

    def all(self) -> tuple[Document, ...]:
        """Return all documents, sorted by `_order`: at most a minute old, or older while the database is unreachable."""
        return tuple(each.value for each in self._opened.get().values())

    def read_ahead(self) -> None:
        self._opened.read_ahead()

    def _readable(self, rows: Sequence[DocumentRow]) -> Iterable[DocumentRow]:
        """Return the *rows* whose scope, such as a conversation, still exists."""
        return rows

    def _vault(self, row: DocumentRow) -> Vault | None:
        """Return the vault of the conversation that is the scope of *row*, or None for the user's vault."""
        return None

    @abstractmethod
    def _unreadable(self, row: DocumentRow, *, is_newer: bool) -> Document | None:
        """Return a substitute for a *row* that cannot be decrypted, or that a newer version of the app stored.

        If None is returned, the row is hidden.
        """

    def _order(self, opened: OpenedDocument[Document]) -> tuple[object, ...]:
        """Return the sort key of *opened*."""
        return (opened.row.id,)

    def _put(
        self,
        value: Document,
        row: DocumentRow,
        seen: OpenedDocument[Document] | None,
        source: ConversationId | None = None,
        cuts: int | None = None,
    ) -> None:
        """Store *value* in *row* in place of *seen* (None: a new document).

        Raise Stale if *seen* is outdated, and NewerVersion if a newer version of the app stored *seen*.
        """
        # storing *value* would delete the fields that only the newer version knows
        if seen and seen.is_newer:
            raise errors.NewerVersion
        text = self._format.write(value, seen.text if seen else "{}", seen.value if seen else None)
        row = replace(row, created_at=seen.row.created_at if seen else datetime.now(UTC))
        row = self._seals.seal(row, text, self._vault(row))
        try:
            seen_rev = seen.row.rev if seen else 0
            write = PutDocument.of(row, seen_rev, source, cuts)
            ask_twice(lambda: self._rows.put_document(write))
            self._seals.note(row)
            stored = OpenedDocument(row, value, text)
            self._opened.amend(lambda known: self._sorted([*known.values(), stored]))
        finally:  # even after an error: the change may be stored, with only the response lost
            self._opened.outdate()

    def _replace(
        self,
        value: Document,
        row: DocumentRow,
        seen: Document | None,
        source: ConversationId | None = None,
        cuts: int | None = None,
    ) -> None:
        """Store *value* in *row*. Raise ChangedElsewhere if the stored value is no longer *seen*."""
        now = self._opened.read().get(row.id) if seen else None
        if seen and (now is None or now.value != seen):
            raise errors.ChangedElsewhere
        row = replace(row, rev=now.row.rev if now else 0)
        try:
            self._put(value, row, now, source, cuts)
        except errors.Stale:
            raise errors.ChangedElsewhere from None

    def _delete(self, document_id: UUID) -> None:
        try:
            with suppress(errors.NotFound):
                self._rows.delete_document(document_id)
        finally:
            self._opened.outdate()
        self._forget(lambda row: row.id == document_id)

    def _forget(self, is_gone: Callable[[DocumentRow], bool]) -> None:
        """Drop the destroyed documents that *is_gone* selects, and ignore their rows if a later read returns them."""
        for each in (self._opened.last or {}).values():
            if is_gone(each.row):
                self._seals.note(replace(each.row, rev=each.row.rev + 1))
        self._drop(is_gone)

    def _drop(self, is_gone: Callable[[DocumentRow], bool]) -> None:
        """Remove the destroyed documents that *is_gone* selects from the cache, to hide them even if the next read fails."""
        self._opened.outdate()
        self._opened.amend(
            lambda known: {
                document_id: each for document_id, each in known.items() if not is_gone(each.row)
            }
        )

    def _read(self) -> dict[UUID, OpenedDocument[Document]]:
        rows = self._rows.documents(self._kind)
        readable = self._readable(rows)
        # if a document was replaced while the rows were read, read them again
        if any(map(self._seals.is_set_back, rows)):
            readable = self._readable(self._rows.documents(self._kind))
        found = [self._known(row) or self._open(row) for row in readable]
        return self._sorted(each for each in found if each)

    def _known(self, row: DocumentRow) -> OpenedDocument[Document] | None:
        """Return the cached document if it was read from the same *row*."""
        before = (self._opened.last or {}).get(row.id)
        return before if before and before.row == row and not self._seals.is_set_back(row) else None

    def _open(self, row: DocumentRow) -> OpenedDocument[Document] | None:
        try:
            text = self._seals.open(row, self._vault(row)) or "{}"
            return OpenedDocument(row, self._format.read(text, row), text)
        except (errors.Tampered, errors.NotFound) as error:
            is_newer = isinstance(error, errors.NewerVersion)
            value = self._unreadable(row, is_newer=is_newer)
            return OpenedDocument(row, value, is_newer=is_newer) if value else None

    def _sorted(
        self, documents: Iterable[OpenedDocument[Document]]
    ) -> dict[UUID, OpenedDocument[Document]]:
        by_id = {each.row.id: each for each in documents}
        return {each.row.id: each for each in sorted(by_id.values(), key=self._order)}


class SealedSpaces(Documents[Space]):
    """Implements `Spaces` for one user, over sealed rows. Any thread may call any method."""

    def __init__(
        self, rows: Rows, seals: DocumentSeals, on_forget: Callable[[SpaceId], None]
    ) -> None:
        super().__init__(rows, seals, DocumentKind.SPACE, _SPACE_FORMAT)
        self._on_forget = on_forget

    def find(self, space_id: SpaceId | None) -> Space | None:
        return next((space for space in self.all() if space.id == space_id), None)

    def keep(self, space: Space, *, replaces: Space | None = None) -> None:
        name, text = checked_space_name(space.name), checked_instructions(space.instructions or "")
        space = replace(space, name=name, instructions=text)
        try:
            self._replace(space, DocumentRow(kind=self._kind, id=space.id), replaces)
        except errors.ChangedElsewhere:
            now = self.find(space.id)
            if now is None:
                raise errors.SpaceGone from None
            if replace(now, created_at=space.created_at) != space:
                raise  # otherwise, the change was stored, and only the response was lost

    def forget(self, space_id: SpaceId) -> None:
        self._delete(space_id)
        self._on_forget(space_id)

    def _unreadable(self, row: DocumentRow, *, is_newer: bool) -> Space:
        empty = self._format.read('{"name": ""}', row)
        return replace(empty, is_verified=is_newer, is_newer=is_newer)

    def _order(self, opened: OpenedDocument[Space]) -> tuple[object, ...]:
        return opened.value.name.casefold(), opened.row.id


class SealedProfile(Documents[Preferences]):
    """Implements `Profile` for one user, over sealed rows. Any thread may call any method."""

    def __init__(self, rows: Rows, seals: DocumentSeals) -> None:
        super().__init__(rows, seals, DocumentKind.PREFERENCES, _PREFERENCES_FORMAT)

    def preferences(self) -> Preferences:
        return next(iter(self.all()), Preferences())

    def revision(self) -> int:
        return max((each.row.rev for each in (self._opened.last or {}).values()), default=0)

    def outdate(self) -> None:
        self._opened.outdate()

    def change(
        self, change: Callable[[Preferences], Preferences], *, seen: str | None = None
    ) -> None:
        for _ in range(_TRIES):
            now = self._opened.read().get(self._rows.user_id)
            before = now.value if now else Preferences()
            chosen = change(before)
            instructions = checked_instructions(chosen.instructions or "")
            check_seen(seen, before.instructions, instructions)
            chosen = replace(chosen, instructions=instructions, is_verified=True)
            row = now.row if now else DocumentRow(kind=self._kind, id=self._rows.user_id)
            with suppress(errors.Stale):  # another tab has just changed the preferences: try again
                self._put(chosen, row, now)
                return
        raise errors.StoreUnavailable("put_document")

    def _unreadable(self, row: DocumentRow, *, is_newer: bool) -> Preferences:
        return Preferences(is_verified=is_newer, is_newer=is_newer)


class SealedFacts(Documents[Fact]):
    """Implements `Facts` for one user, over sealed rows.

    A conversation's facts are sealed under the conversation's key, all other facts under the user's key. Any thread
    may call any method.
    """

    def __init__(self, rows: Rows, opened: OpenedConversations) -> None:
        super().__init__(rows, opened.user_seals.documents, DocumentKind.FACT, _FACT_FORMAT)
        self._conversations = opened
        opened.on_forget.append(self._forget_conversation)

    def facts(self) -> tuple[Fact, ...]:
        return self.all()

    def fresh_facts(self) -> tuple[Fact, ...]:
        self._opened.read()
        return self.all()

    def keep(self, fact: Fact, *, replaces: Fact | None = None, cuts: int | None = None) -> None:
        fact = replace(fact, text=checked_fact(fact.text))
        row = DocumentRow(
            kind=self._kind,
            id=fact.id,
            conversation_id=fact.conversation_id,
            space_id=fact.space_id,
        )
        source = None if cuts is None else fact.source_conversation_id
        self._replace(fact, row, replaces, source, cuts)

    def forget(self, fact_id: FactId) -> None:
        self._delete(fact_id)

    def forget_all(self) -> None:
        # only these facts are dropped below: the cache keeps facts that are stored during the call
        before = {*(self._opened.last or {})}
        try:
            self._rows.delete_facts()
        finally:
            self._opened.outdate()
        self._forget(lambda row: row.id in before)

    def forget_space(self, space_id: SpaceId) -> None:
        """Hide the facts of a destroyed space: the store destroys them together with the space."""
        self._forget(lambda row: row.space_id == space_id)

    def _forget_conversation(self, conversation_id: ConversationId) -> None:
        self._drop(lambda row: row.conversation_id == conversation_id)

    def _readable(self, rows: Sequence[DocumentRow]) -> Iterator[DocumentRow]:
        scopes = {row.conversation_id for row in rows if row.conversation_id}
        found = {row.id: row for row in self._rows.conversations(scopes)} if scopes else {}
        return self._existing(rows, found)

    def _existing(
        self, rows: Sequence[DocumentRow], found: Mapping[ConversationId, ConversationRow]
    ) -> Iterator[DocumentRow]:
        """Yield the *rows* whose conversation is in *found* and not deleted, each once its key is cached."""
        for row in rows:
            if row.conversation_id:
                conversation = found.get(row.conversation_id)
                if conversation is None or conversation.destroy_at:
                    continue
                if self._known(row) is None:
                    # Tampered is ignored here, because decrypting the fact needs the same key and raises it again
                    with suppress(errors.Tampered):
                        self._conversations.seals(conversation.id, conversation)
            yield row

    def _vault(self, row: DocumentRow) -> Vault | None:
        if row.conversation_id is None:
            return None
        return self._conversations.seals(row.conversation_id).vault

    def _unreadable(self, row: DocumentRow, *, is_newer: bool) -> None:
        log_event("fact.unverified", fact=row.id)

    def _order(self, opened: OpenedDocument[Fact]) -> tuple[object, ...]:
        return opened.value.since, opened.row.created_at, opened.row.id
