"""Reads of the first page, all begun at once when a session opens: one after the other each would wait for a round trip."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

from services.domain import SpaceId
from services.store.rows import ConversationRow, DocumentKind, DocumentRow
from services.store.supabase.rows import Session, SupabaseRows
from services.threads import in_thread

Value = TypeVar("Value")
_FRESH_SECONDS = 5.0  # later the value is read again
_LISTED = 31  # conversations: the page lists 30, and asks for one more


class FirstRead(Generic[Value]):
    """A read that can be begun before its value is asked for."""

    def __init__(self, read: Callable[[], Value]) -> None:
        self._read = read
        self._begun: tuple[float, Future[Value]] | None = None

    def begin(self) -> None:
        """Begin to read in a thread."""
        self._begun = time.monotonic(), in_thread("first-read", self._read)

    def get(self) -> Value:
        """The value that was begun to be read, once and while fresh; else read it. Raise the errors of the read."""
        begun, self._begun = self._begun, None
        if begun and time.monotonic() - begun[0] < _FRESH_SECONDS:
            return begun[1].result()
        return self._read()


class FirstPageRows(SupabaseRows):
    """The `Rows` of one user, which can read those of the first page ahead."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        documents, recent = super().documents, super().recent_conversations
        self._documents = {
            kind: FirstRead(lambda kind=kind: documents(kind))
            for kind in (DocumentKind.PREFERENCES, DocumentKind.SPACE)
        }
        self._recent = FirstRead(lambda: recent(_LISTED, is_archived=False, space_id=None))

    def read_ahead(self) -> None:
        """Begin to read the preferences, the spaces and the list of conversations."""
        for read in (*self._documents.values(), self._recent):
            read.begin()

    def documents(self, kind: DocumentKind) -> list[DocumentRow]:
        if read := self._documents.get(kind):
            return read.get()
        return super().documents(kind)

    def recent_conversations(
        self, limit: int, *, is_archived: bool, space_id: SpaceId | None
    ) -> list[ConversationRow]:
        if limit == _LISTED and not is_archived and not space_id:
            return self._recent.get()
        return super().recent_conversations(limit, is_archived=is_archived, space_id=space_id)
