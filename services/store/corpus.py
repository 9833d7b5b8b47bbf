"""All that one person said and was told, in whatever conversation: read in bulk, to be searched. Nothing of it is kept here.

Each message is authenticated with its place. That none was taken away or put back is checked where a conversation
is opened (threads.py), not here.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

from postgrest import SyncSelectRequestBuilder
from pydantic import BaseModel, TypeAdapter

from services.crypto import Vault
from services.domain import ConversationId, Listed, Message, MessageId, SpaceId
from services.errors import Tampered
from services.store.gateway import rows_by_id, store_errors
from services.store.paging import IDS, PAGE, by_address
from services.store.rows import MessageRow
from services.store.sessions import AppSession
from services.store.threads import Threads

_MESSAGES = 2 * PAGE  # that are opened at once


class _ListedRow(BaseModel):
    id: UUID
    last_seq: int
    space_id: UUID | None


class _Row(MessageRow):
    conversation_id: UUID


_LISTED_ROWS, _ROWS = TypeAdapter(list[_ListedRow]), TypeAdapter(list[_Row])
_LISTED_COLUMNS, _COLUMNS = ",".join(_ListedRow.model_fields), ",".join(_Row.model_fields)


class Corpus:
    """One person's messages, of all conversations that are not discarded."""

    def __init__(self, session: AppSession, threads: Threads) -> None:
        self._session, self._threads = session, threads

    def conversations(self) -> dict[ConversationId, Listed]:
        """How far each has come. Raise StoreUnavailable, SignedOut."""
        table = self._session.client.table("conversations")
        rows = rows_by_id(
            lambda: table.select(_LISTED_COLUMNS).is_("destroy_at", "null"), _LISTED_ROWS
        )
        return {
            ConversationId(row.id): Listed(
                last_seq=row.last_seq, space_id=SpaceId(row.space_id) if row.space_id else None
            )
            for row in rows
        }

    def messages(
        self, wanted: Mapping[ConversationId, range]
    ) -> Iterator[Mapping[ConversationId, Sequence[Message]]]:
        """The messages of each conversation whose seqs are *wanted*, by seq, some conversations at a time.

        Raise StoreUnavailable, SignedOut.
        """
        for batch in _batches(wanted):
            yield self._read(batch)

    def some(self, ids: Iterable[MessageId]) -> dict[MessageId, tuple[ConversationId, Message]]:
        """Those of *ids* that are there and can be verified, and where each was said.

        Raise StoreUnavailable, SignedOut.
        """
        found: dict[MessageId, tuple[ConversationId, Message]] = {}
        for asked in by_address(ids):
            with store_errors():
                query = self._session.client.table("messages").select(_COLUMNS)
                query = query.in_("id", [str(each) for each in asked])
                rows = _ROWS.validate_python(query.execute().data)
            for conversation_id, messages in self._opened(rows).items():
                found |= {message.id: (conversation_id, message) for message in messages}
        return found

    def _read(self, batch: "_Batch") -> Mapping[ConversationId, Sequence[Message]]:
        def ask() -> SyncSelectRequestBuilder:
            query = self._session.client.table("messages").select(_COLUMNS)
            query = query.in_("conversation_id", [str(each) for each in batch.ids])
            return query.gte("seq", batch.seqs.start).lt("seq", batch.seqs.stop)

        return self._opened(sorted(rows_by_id(ask, _ROWS), key=lambda row: row.seq))

    def _opened(self, rows: Sequence[_Row]) -> dict[ConversationId, list[Message]]:
        """What can be verified of *rows*."""
        ids = {ConversationId(row.conversation_id) for row in rows}
        vaults = self._vaults(ids)
        opened: dict[ConversationId, list[Message]] = {}
        for row in rows:
            conversation_id = ConversationId(row.conversation_id)
            if vault := vaults.get(conversation_id):
                message = self._threads.opened_message(conversation_id, vault, row)
                if message.is_verified:
                    opened.setdefault(conversation_id, []).append(message)
        return opened

    def _vaults(self, ids: Iterable[ConversationId]) -> dict[ConversationId, Vault]:
        """What opens each conversation. A discarded one opens no more."""
        vaults: dict[ConversationId, Vault] = {}
        for conversation_id, row in self._threads.rows(ids).items():
            with suppress(Tampered):
                if not row.destroy_at:
                    vaults[conversation_id] = self._threads.unwrapped(row)
        return vaults


@dataclass(frozen=True, slots=True)
class _Batch:
    """What is read at once."""

    ids: tuple[ConversationId, ...]
    seqs: range


def _batches(wanted: Mapping[ConversationId, range]) -> Iterator[_Batch]:
    """*wanted* in pieces."""
    ids: list[ConversationId] = []
    seqs, size = range(0), 0
    for conversation_id, whole in sorted(wanted.items(), key=lambda each: each[1].start):
        for start in range(whole.start, whole.stop, _MESSAGES):
            part = range(start, min(whole.stop, start + _MESSAGES))
            if ids and (
                part.start != seqs.start or size + len(part) > _MESSAGES or len(ids) == IDS
            ):
                yield _Batch(tuple(ids), seqs)
                ids, size = [], 0
            seqs = range(part.start, max(part.stop, seqs.stop)) if ids else part
            ids.append(conversation_id)
            size += len(part)
    if ids:
        yield _Batch(tuple(ids), seqs)
