"""Deleting messages of a conversation, and for a while the way back.

What is deleted leaves the head, and so every reader, at once; the sweep destroys the rows when their time is over. So
no process has to be there for that, and what else is missing is noticed as ever.
"""

from collections.abc import Iterable, Sequence

from services.crypto import Vault
from services.domain import ConversationId, FactId, Message, MessageId, Thread
from services.errors import Stale, StoreUnavailable, TooLate
from services.store.rows import MESSAGES, MessageRow
from services.store.supabase.api import Argument, Hidden, Query, RpcResult, refusal
from services.store.supabase.sessions import AppSession
from services.store.threads import Threads

_TRIES = 5  # at a conversation that goes on meanwhile


class Deletions:
    """One person's messages that are deleted."""

    def __init__(self, session: AppSession, threads: Threads) -> None:
        self._session, self._threads = session, threads

    def discard(
        self,
        thread: Thread,
        doomed: Sequence[Message],
        facts: Iterable[FactId],
        seconds: int,
        *,
        drops_summary: bool,
    ) -> None:
        """Delete the messages *doomed*, each with all that follows it, in so many seconds, and the *facts* at once.

        Raise Stale, Busy (a reply to one of them is coming), NotFound, Tampered, StoreUnavailable.
        """
        conversation_id = thread.conversation.id
        head = self._threads.known_as(thread).next_head()
        rows = MESSAGES.rows_of(self._session.client, "id", (message.id for message in doomed))
        if len(rows) != len(doomed):
            raise Stale
        vault = self._threads.vault(conversation_id)
        head = head.remove(*self._macs(conversation_id, vault, rows))
        row = self._threads.row(conversation_id)
        is_kept = not drops_summary and self._threads.readable_summary(row) == thread.summary
        answer = self._call(
            "discard_messages",
            conversation=conversation_id,
            expected_rev=thread.conversation.rev,
            doomed=_listed(rows),
            noted=Hidden(",".join(map(str, facts))),
            kept_summary=Hidden(row.summary if is_kept else None),
            new_head=Hidden(vault.seal_head(head, self._threads.user_id, conversation_id)),
            for_seconds=seconds,
        )
        self._threads.forget(conversation_id)
        if not answer.ok:
            raise refusal("discard_messages", answer.reason)

    def restore(self, conversation_id: ConversationId) -> None:
        """Bring back all messages that can be. Raise TooLate, NotFound, Tampered, StoreUnavailable."""
        asked: set[MessageId] = set()
        for _ in range(_TRIES):
            known = self._threads.read(conversation_id)
            rows = self._discarded(conversation_id)
            if not rows and asked and asked <= {message.id for message in known.thread.messages}:
                return  # the answer was lost, or another process did it
            if not rows:
                raise TooLate
            asked = {row.id for row in rows}
            vault = self._threads.vault(conversation_id)
            for row in rows:
                vault.open(row.body, self._threads.place_of(row, conversation_id))
            head = known.next_head().put_back(*self._macs(conversation_id, vault, rows))
            answer = self._call(
                "restore_messages",
                conversation=conversation_id,
                expected_rev=known.thread.conversation.rev,
                restored=_listed(rows),
                new_head=Hidden(vault.seal_head(head, self._threads.user_id, conversation_id)),
            )
            self._threads.forget(conversation_id)
            if answer.ok:
                return
        raise TooLate

    def can_restore(self, conversation_id: ConversationId) -> bool:
        """Return whether there is a message that can be brought back. Raise StoreUnavailable, SignedOut."""
        return bool(self._discarded(conversation_id))

    def _discarded(self, conversation_id: ConversationId) -> list[MessageRow]:
        def is_discarded(query: Query) -> Query:
            # "now" is read by the database, whose clock decides
            return query.eq("conversation_id", str(conversation_id)).gt("destroy_at", "now")

        rows = MESSAGES.all_rows(self._session.client, is_discarded)
        return sorted(rows, key=lambda row: row.seq)

    def _macs(
        self, conversation_id: ConversationId, vault: Vault, rows: Iterable[MessageRow]
    ) -> list[bytes]:
        return [
            vault.row_mac(row.body, self._threads.place_of(row, conversation_id)) for row in rows
        ]

    def _call(self, verb: str, /, **arguments: Argument | Hidden) -> RpcResult:
        """Call; where the answer was lost ask again: it happens once."""
        try:
            return self._session.calls.call(verb, **arguments)
        except StoreUnavailable:
            return self._session.calls.call(verb, **arguments)


def _listed(rows: Iterable[MessageRow]) -> Hidden:
    return Hidden(",".join(str(row.id) for row in rows))
