"""All messages of one user, read in bulk for search; none is kept here.

Each message is authenticated with its place. Missing and restored rows are noticed where a conversation is opened
(opened.py), not here.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

from services.crypto import Vault
from services.domain import ConversationId, Listed, Message, MessageId
from services.errors import Tampered
from services.store.rows import MessageRow, Rows
from services.store.sealed.opened import OpenedConversations

_MESSAGES = 2_000  # read at once
_CONVERSATIONS = 100  # likewise
_Batch = tuple[list[ConversationId], range]


class SealedCorpus:
    """The `Corpus` of one user over sealed rows."""

    def __init__(self, rows: Rows, opened: OpenedConversations) -> None:
        self._rows, self._opened = rows, opened

    def conversations(self) -> dict[ConversationId, Listed]:
        return {
            row.id: Listed(row.last_seq, row.space_id, row.rev - row.last_seq)
            for row in self._rows.positions()
        }

    def messages(
        self, wanted: Mapping[ConversationId, range]
    ) -> Iterator[Mapping[ConversationId, Sequence[Message]]]:
        for ids, seqs in _batches(wanted):
            yield self._verified(self._rows.messages_between(ids, seqs))

    def some(self, ids: Iterable[MessageId]) -> dict[MessageId, tuple[ConversationId, Message]]:
        return {
            message.id: (conversation_id, message)
            for conversation_id, messages in self._verified(self._rows.messages_by_id(ids)).items()
            for message in messages
        }

    def _verified(self, rows: Sequence[MessageRow]) -> dict[ConversationId, list[Message]]:
        """The messages of *rows* that verify, without deleted ones."""
        vaults = self._vaults({row.conversation_id for row in rows})
        found: dict[ConversationId, list[Message]] = {}
        for row in rows:
            if (vault := vaults.get(row.conversation_id)) and not row.destroy_at:
                message = self._opened.message(vault, row)
                if message.is_verified:
                    found.setdefault(row.conversation_id, []).append(message)
        return found

    def _vaults(self, ids: Iterable[ConversationId]) -> dict[ConversationId, Vault]:
        """The vaults of conversations that are not discarded."""
        vaults: dict[ConversationId, Vault] = {}
        for conversation_id, row in self._opened.rows(ids).items():
            with suppress(Tampered):
                if not row.destroy_at:
                    vaults[conversation_id] = self._opened.unwrapped(row)
        return vaults


def _batches(wanted: Mapping[ConversationId, range]) -> Iterator[_Batch]:
    """Split *wanted* into conversations and seqs that are read together."""
    ids: list[ConversationId] = []
    seqs, size = range(0), 0
    for conversation_id, whole in sorted(wanted.items(), key=lambda each: each[1].start):
        for start in range(whole.start, whole.stop, _MESSAGES):
            part = range(start, min(whole.stop, start + _MESSAGES))
            if ids and (
                part.start != seqs.start
                or size + len(part) > _MESSAGES
                or len(ids) == _CONVERSATIONS
            ):
                yield ids, seqs
                ids, size = [], 0
            seqs = range(part.start, max(part.stop, seqs.stop)) if ids else part
            ids.append(conversation_id)
            size += len(part)
    if ids:
        yield ids, seqs
