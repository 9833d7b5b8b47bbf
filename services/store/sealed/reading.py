"""Reading of threads: only new messages are fetched, and all messages are verified against the conversation's head.

A conversation's `head` authenticates its revision and all its messages. Each write derives the next head from the head of
the last verified read, so a row that was removed, swapped, duplicated or restored outside the app is detected when the
thread is next read.
"""

from dataclasses import dataclass, replace

from services.caches import CachedRead
from services.crypto import Head
from services.domain import Conversation, ConversationId, Thread
from services.errors import NewerVersion, NotFound, Stale, Tampered
from services.store.rows import ConversationRead, Rows, TurnRow
from services.store.sealed.answers import final_costs
from services.store.sealed.opened import CheckedThread, OpenedConversations
from services.store.sealed.texts import ConversationTexts, verified


@dataclass(frozen=True, slots=True)
class _Ahead:
    """A read in the background that `read_ahead` began; the next `read` of the conversation uses its result."""

    conversation_id: ConversationId
    changes: int  # the change count of the conversation before the read
    read: CachedRead[ConversationRead]


class ThreadReader:
    """Reads the conversations of one user. Any thread may call any method."""

    def __init__(self, rows: Rows, opened: OpenedConversations, texts: ConversationTexts) -> None:
        self._rows, self._opened, self._texts = rows, opened, texts
        self._ahead: _Ahead | None = None

    def head_of(self, thread: Thread) -> Head:
        """Return the head that the next write extends. Raise Stale (*thread* is outdated), NotFound, Tampered."""
        conversation_id = thread.conversation.id
        checked = self._opened.checked(conversation_id) or self.read(conversation_id)[0]
        if checked.thread.conversation.rev != thread.conversation.rev:
            raise Stale
        return checked.next_head()

    def read_ahead(self, conversation_id: ConversationId) -> None:
        """Begin to read a conversation in the background, unless it is cached, so that the next `read` takes less time."""
        if self._opened.checked(conversation_id) is None:
            changes = self._opened.changes(conversation_id)
            read = CachedRead(lambda: self._rows.read_conversation(conversation_id, 0))
            self._ahead = _Ahead(conversation_id, changes, read)
            read.read_ahead()

    def read(
        self, conversation_id: ConversationId, *, may_be_discarded: bool = False
    ) -> tuple[CheckedThread, TurnRow | None]:
        """Return the stored thread and its newest turn; fetch and decrypt only new messages. Raise NotFound."""
        while True:
            changes = self._opened.changes(conversation_id)
            checked, read = self._read_whole(conversation_id, may_be_discarded=may_be_discarded)
            opened = self._opened.put(read.conversation, checked, changes)
            if opened is None:
                # the conversation was read or changed meanwhile, so the cached data may be newer: repeat
                continue
            for turn_id, cost in final_costs(read.costs).items():
                opened.costs.put(turn_id, cost)
            for receipt in read.receipts:
                if opened.receipts.get(receipt.turn_id) is None:
                    seals = self._opened.seals(conversation_id, read.conversation)
                    opened.receipts.put(receipt.turn_id, seals.open_receipt(receipt))
            return checked, read.newest_turn

    def _read_whole(
        self, conversation_id: ConversationId, *, may_be_discarded: bool
    ) -> tuple[CheckedThread, ConversationRead]:
        """Read a conversation's new messages; if the resulting thread is not whole, read all messages. Raise NotFound."""
        before = self._opened.checked(conversation_id)
        if before and not (before.thread.is_whole and before.thread.messages):
            before = None
        read = self._read(conversation_id, before, may_be_discarded=may_be_discarded)
        checked = self._checked(read, before)
        # the thread is not whole if messages were deleted, or stored during the read: read all messages again
        while not checked.thread.is_whole:
            rev = read.conversation.rev if before is None else -1
            before = None
            read = self._read(conversation_id, None, may_be_discarded=may_be_discarded)
            checked = self._checked(read, None)
            if read.conversation.rev == rev:
                break
        return checked, read

    def _read(
        self,
        conversation_id: ConversationId,
        before: CheckedThread | None,
        *,
        may_be_discarded: bool,
    ) -> ConversationRead:
        """Read the conversation and the messages that follow the messages of *before*. Raise NotFound."""
        after_seq = before.thread.messages[-1].seq if before else 0
        ahead, changes = self._ahead, self._opened.changes(conversation_id)
        try:
            if ahead and (ahead.conversation_id, ahead.changes) == (conversation_id, changes):
                self._ahead = None
                read = ahead.read.get()
            else:
                read = self._rows.read_conversation(conversation_id, after_seq)
            if read.conversation.destroy_at and not may_be_discarded:
                raise NotFound
        except NotFound:
            self._opened.forget(conversation_id)
            raise
        return read

    def _checked(self, read: ConversationRead, before: CheckedThread | None) -> CheckedThread:
        """Return the thread of *read*; build it on the cached thread *before*, if there is one."""
        row = read.conversation
        conversation = self._opened.conversation(row)
        if before and before.thread.conversation.rev == row.rev:
            checked = replace(before, thread=replace(before.thread, conversation=conversation))
        else:
            checked = self._with_messages(read, conversation, before)
        instructions, is_verified = verified(lambda: self._texts.instructions(row))
        has_newer_parts = bool(read.newest_turn and not read.newest_turn.state.is_known)
        summary, is_summary_verified = None, True
        try:
            summary = self._texts.summary(row)
        except NewerVersion:
            has_newer_parts = True
        except Tampered:
            is_summary_verified = False
        thread = replace(
            checked.thread,
            instructions=instructions,
            are_instructions_verified=is_verified,
            summary=summary,
            is_summary_verified=is_summary_verified,
            has_newer_parts=has_newer_parts,
            is_whole=checked.thread.is_whole and not self._opened.is_set_back(row),
        )
        return replace(checked, thread=thread)

    def _with_messages(
        self, read: ConversationRead, conversation: Conversation, before: CheckedThread | None
    ) -> CheckedThread:
        """Decrypt the messages of *read*, which follow the messages of *before*; verify all of them against the head."""
        row = read.conversation
        seals, total = self._opened.seals(row.id, row), before.total if before else Head()
        messages = list(before.thread.messages) if before else []
        for message in read.messages:
            [mac] = seals.macs([message])
            total = total.add(mac, message.seq)
            messages.append(seals.open_message(message))
        head = seals.open_head(row.head)
        is_whole = (
            head is not None
            and head.is_of(total)
            and (head.rev, head.last_seq) == (row.rev, row.last_seq)
        )
        thread = Thread(conversation=conversation, messages=tuple(messages), is_whole=is_whole)
        return CheckedThread(thread, head, total)
