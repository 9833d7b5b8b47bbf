"""Messages over sealed rows: sealed with the head after them, edited, deleted and restored."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TypeVar
from uuid import uuid4

from services.crypto import Vault
from services.domain import ConversationId, FactId, Message, MessageId, Role, Thread
from services.errors import NotFound, Stale, StoreUnavailable, TooLate
from services.store.rows import MessageRow, Rows
from services.store.sealed.opened import OpenedConversations
from services.store.sealed.opened_conversation import CheckedThread
from services.store.sealed.places import message_place, row_place
from services.store.turns import SealedReply

Answer = TypeVar("Answer")
_TRIES = 5  # while the conversation goes on


class SealedMessages:
    """The `Messages` of one user over sealed rows.

    Deleted messages leave the head, and so every reader, at once; the sweep destroys their rows later. No process has
    to wait for that, and any other row that is missing is noticed.
    """

    def __init__(self, rows: Rows, opened: OpenedConversations) -> None:
        self._rows, self._opened = rows, opened

    def edit_reply(self, thread: Thread, reply: Message, text: str) -> None:
        conversation_id, edited_id = thread.conversation.id, MessageId(uuid4())
        checked = self._opened.checked_as(thread)
        vault = self._opened.vault(conversation_id)
        body, head = seal_message(
            checked, vault, self._opened, edited_id, reply.parent_id, Role.ASSISTANT, text
        )
        edited = SealedReply(
            rev=thread.conversation.rev,
            message_id=edited_id,
            body=body,
            thoughts=None,
            key_version=vault.version,
            head=head,
        )
        ask_twice(lambda: self._rows.edit_reply(conversation_id, reply.id, edited))

    def discard(
        self,
        thread: Thread,
        doomed: Sequence[Message],
        facts: Iterable[FactId],
        seconds: int,
        *,
        drops_summary: bool,
    ) -> None:
        conversation_id = thread.conversation.id
        head = self._opened.checked_as(thread).next_head()
        rows = self._rows.messages_by_id(message.id for message in doomed)
        if len(rows) != len(doomed):
            raise Stale
        vault = self._opened.vault(conversation_id)
        head = head.remove(*self._macs(vault, rows))
        row = self._opened.row(conversation_id)
        is_kept = not drops_summary and self._opened.readable_summary(row) == thread.summary
        try:
            ask_twice(
                partial(
                    self._rows.discard_messages,
                    conversation_id,
                    thread.conversation.rev,
                    [row.id for row in rows],
                    tuple(facts),
                    kept_summary=row.summary if is_kept else None,
                    head=vault.seal_head(head, self._opened.user_id, conversation_id),
                    seconds=seconds,
                )
            )
        finally:  # it may have been done even where the answer was lost
            self._opened.forget(conversation_id)

    def can_restore(self, conversation_id: ConversationId) -> bool:
        return bool(self._rows.discarded_messages(conversation_id))

    def restore(self, conversation_id: ConversationId) -> None:
        asked: set[MessageId] = set()
        for _ in range(_TRIES):
            checked, _ = self._opened.read(conversation_id)
            rows = self._rows.discarded_messages(conversation_id)
            if not rows and asked and asked <= {one.id for one in checked.thread.messages}:
                return  # the answer was lost, or another process did it
            if not rows:
                raise TooLate
            asked = {row.id for row in rows}
            vault = self._opened.vault(conversation_id)
            for row in rows:
                vault.open(row.body, row_place(self._opened.user_id, row))
            head = checked.next_head().put_back(*self._macs(vault, rows))
            try:
                ask_twice(
                    partial(
                        self._rows.restore_messages,
                        conversation_id,
                        checked.thread.conversation.rev,
                        [row.id for row in rows],
                        vault.seal_head(head, self._opened.user_id, conversation_id),
                    )
                )
            except (Stale, NotFound):
                continue
            finally:
                self._opened.forget(conversation_id)
            return
        raise TooLate

    def _macs(self, vault: Vault, rows: Iterable[MessageRow]) -> list[bytes]:
        return [vault.row_mac(row.body, row_place(self._opened.user_id, row)) for row in rows]


def ask_twice(request: Callable[[], Answer]) -> Answer:
    """Return the answer to *request*; send it again if the answer was lost: the same bytes are stored once."""
    try:
        return request()
    except StoreUnavailable:
        return request()


def seal_message(
    checked: CheckedThread,
    vault: Vault,
    opened: OpenedConversations,
    message_id: MessageId,
    parent_id: MessageId | None,
    role: Role,
    body: str,
) -> tuple[str, str]:
    """Seal the next message of a thread and the head after it. Raise Tampered."""
    conversation_id, head = checked.thread.conversation.id, checked.next_head()
    seq = head.last_seq + 1
    place = message_place(opened.user_id, conversation_id, message_id, seq, parent_id, role)
    sealed = vault.seal(body, place)
    next_head = head.add(vault.row_mac(sealed, place), seq)
    return sealed, vault.seal_head(next_head, opened.user_id, conversation_id)
