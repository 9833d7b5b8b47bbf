"""All that one person said and was told, in whatever conversation: read in bulk, to be searched. Nothing of it is kept here.

Each message is authenticated with its place. That none was taken away or put back is checked where a conversation
is opened (threads.py), not here.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

from services.crypto import Vault
from services.domain import ConversationId, Listed, Message, MessageId, SpaceId
from services.errors import Tampered
from services.store.rows import MessageRow
from services.store.supabase.api import IdentifiedRow, Query, Table
from services.store.supabase.paging import IDS, PAGE
from services.store.supabase.sessions import AppSession
from services.store.threads import Threads

_MESSAGES = 2 * PAGE  # that are opened at once


class _ListedRow(IdentifiedRow, frozen=True):
    id: ConversationId
    rev: int
    last_seq: int
    space_id: SpaceId | None


class _Row(MessageRow, frozen=True):
    conversation_id: ConversationId


_LISTED, _MESSAGE_ROWS = Table("conversations", _ListedRow), Table("messages", _Row)


_Batch = tuple[list[ConversationId], range]


class Corpus:
    """One person's messages, of all conversations that are not discarded."""

    def __init__(self, session: AppSession, threads: Threads) -> None:
        self._session, self._threads = session, threads

    def conversations(self) -> dict[ConversationId, Listed]:
        """How far each has come. Raise StoreUnavailable, SignedOut."""
        rows = _LISTED.all_rows(self._session.client, lambda query: query.is_("destroy_at", "null"))
        return {row.id: Listed(row.last_seq, row.space_id, row.rev - row.last_seq) for row in rows}

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
        rows = _MESSAGE_ROWS.rows_of(self._session.client, "id", ids)
        return {
            message.id: (conversation_id, message)
            for conversation_id, messages in self._opened(rows).items()
            for message in messages
        }

    def _read(self, batch: _Batch) -> Mapping[ConversationId, Sequence[Message]]:
        ids, seqs = batch

        def in_batch(query: Query) -> Query:
            query = query.in_("conversation_id", map(str, ids))
            return query.gte("seq", seqs.start).lt("seq", seqs.stop)

        rows = _MESSAGE_ROWS.all_rows(self._session.client, in_batch)
        return self._opened(sorted(rows, key=lambda row: row.seq))

    def _opened(self, rows: Sequence[_Row]) -> dict[ConversationId, list[Message]]:
        """What can be verified of *rows*."""
        vaults = self._vaults({row.conversation_id for row in rows})
        opened: dict[ConversationId, list[Message]] = {}
        for row in rows:
            if (vault := vaults.get(row.conversation_id)) and not row.destroy_at:
                message = self._threads.opened_message(row.conversation_id, vault, row)
                if message.is_verified:
                    opened.setdefault(row.conversation_id, []).append(message)
        return opened

    def _vaults(self, ids: Iterable[ConversationId]) -> dict[ConversationId, Vault]:
        """What opens each conversation. A discarded one opens no more."""
        vaults: dict[ConversationId, Vault] = {}
        for conversation_id, row in self._threads.rows(ids).items():
            with suppress(Tampered):
                if not row.destroy_at:
                    vaults[conversation_id] = self._threads.unwrapped(row)
        return vaults


def _batches(wanted: Mapping[ConversationId, range]) -> Iterator[_Batch]:
    """Split *wanted* into conversations and seqs that are read at once."""
    ids: list[ConversationId] = []
    seqs, size = range(0), 0
    for conversation_id, whole in sorted(wanted.items(), key=lambda each: each[1].start):
        for start in range(whole.start, whole.stop, _MESSAGES):
            part = range(start, min(whole.stop, start + _MESSAGES))
            if ids and (
                part.start != seqs.start or size + len(part) > _MESSAGES or len(ids) == IDS
            ):
                yield ids, seqs
                ids, size = [], 0
            seqs = range(part.start, max(part.stop, seqs.stop)) if ids else part
            ids.append(conversation_id)
            size += len(part)
    if ids:
        yield ids, seqs
