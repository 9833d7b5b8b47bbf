"""Threads as they are read: opened, checked against their head, and cached by revision.

A conversation's `head` authenticates its revision and all its messages. Whoever writes makes the
next head from the one that the reader's thread was checked against, so a row that was removed,
swapped, doubled or put back behind our back is noticed when the thread is next read.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from services.crypto import Head, Place, Vault
from services.domain import (
    Conversation,
    ConversationId,
    MemoryPolicy,
    Message,
    MessageId,
    NewConversation,
    Role,
    RunningSummary,
    Thread,
    UserId,
)
from services.errors import NotFound, Stale, Tampered
from services.store.documents import Format
from services.store.lru_cache import LruCache
from services.store.rows import (
    CONVERSATIONS,
    LISTED_CONVERSATIONS,
    MESSAGES,
    ConversationRow,
    ConversationState,
    MessageRow,
    policy_named,
)
from services.store.supabase.paging import every_row
from services.store.supabase.sessions import AppSession

SUMMARY_FORMAT = Format(RunningSummary)
_MOST = 50  # threads that are kept opened, their keys and their instructions
_MOST_TITLES = 100_000  # of all conversations: they are searched


@dataclass(frozen=True, slots=True)
class KnownThread:
    """A thread as it was last read, with what its next write is made from."""

    thread: Thread
    head: Head | None = field(repr=False)  # None: it did not open, so nothing can follow it
    total: Head = field(repr=False)  # of the rows that were read, to be compared with `head`

    def next_head(self) -> Head:
        """The head to continue from. Raise Tampered if there is none."""
        if self.head is None:
            raise Tampered
        return self.head


class Threads:
    """One person's threads, and the keys that open them."""

    def __init__(self, session: AppSession) -> None:
        self._session = session
        self._vaults = LruCache[ConversationId, Vault](_MOST)
        self._known = LruCache[ConversationId, KnownThread](_MOST)
        self._texts = {  # by column, each sealed and opened
            "title": LruCache[ConversationId, tuple[str, str]](_MOST_TITLES),
            "instructions": LruCache[ConversationId, tuple[str, str]](_MOST),
            "summary": LruCache[ConversationId, tuple[str, str]](_MOST),
        }
        # never forgotten, or a database could be put back while nobody looks
        self._newest: dict[ConversationId, int] = {}  # the last revision that was whole
        self._set_back: set[ConversationId] = set()  # found at an older one: that stays noticed
        self._change = threading.Lock()
        self.on_forget: list[Callable[[ConversationId], None]] = []  # of what others keep of one

    @property
    def user_id(self) -> UserId:
        return self._session.user_id

    def known(self, conversation_id: ConversationId) -> KnownThread | None:
        """The thread as it was last read here."""
        return self._known.get(conversation_id)

    def known_as(self, thread: Thread) -> KnownThread:
        """What the next write to *thread* is made from. Raise Stale: it went on since it was read."""
        known = self.known(thread.conversation.id)
        if known is None or known.thread.conversation.rev != thread.conversation.rev:
            raise Stale
        return known

    def forget(self, conversation_id: ConversationId) -> None:
        """Have the whole thread read anew, if it is read again. Its key and its text leave the memory."""
        self._known.drop(conversation_id)
        self._vaults.drop(conversation_id)
        for texts in self._texts.values():
            texts.drop(conversation_id)
        for forget in self.on_forget:
            forget(conversation_id)

    def amend(self, conversation_id: ConversationId, change: Callable[[Thread], Thread]) -> None:
        """Have what is known of it say what was just stored: the next turn may not wait for a reading."""
        with self._change:
            if known := self._known.get(conversation_id):
                self._known.put(conversation_id, replace(known, thread=change(known.thread)))

    def read(
        self, conversation_id: ConversationId, *, may_be_discarded: bool = False
    ) -> KnownThread:
        """The thread as it is now; only what is new of it is fetched and opened.

        Raise NotFound, also for somebody else's; RowsCut.
        """
        row = self.row(conversation_id)
        if row.destroy_at and not may_be_discarded:
            self.forget(conversation_id)
            raise NotFound
        with self._change:
            known = self._checked(row)
            # its row and its messages are read one after the other: it may have grown in between
            while not known.thread.is_whole and (now := self.row(conversation_id)).rev > row.rev:
                row, known = now, self._checked(now)
            if not known.thread.is_whole:
                self._session.check_rows()  # before anybody is said to have tampered with it
            if row.rev < self._newest.get(conversation_id, 0):
                self._set_back.add(conversation_id)
            elif known.thread.is_whole:
                self._newest[conversation_id] = row.rev
            self._known.put(conversation_id, known)
            return known

    def made(
        self,
        conversation_id: ConversationId,
        title: str,
        policy: MemoryPolicy,
        vault: Vault,
        new: NewConversation,
    ) -> Thread:
        """Return the thread of a conversation that was stored this moment: empty, and not read yet."""
        thread = Thread.empty(conversation_id, title, policy, new, made_at=datetime.now(UTC))
        self._vaults.put(conversation_id, vault)
        self._known.put(conversation_id, KnownThread(thread, Head(), Head()))
        return thread

    def row(self, conversation_id: ConversationId) -> ConversationRow:
        """The conversation's row. Raise NotFound, SignedOut, StoreUnavailable."""
        rows = CONVERSATIONS.rows(
            self._session.client, lambda query: query.eq("id", str(conversation_id))
        )
        if not rows:
            self.forget(conversation_id)
            raise NotFound
        return rows[0]

    def rows(self, ids: Iterable[ConversationId]) -> dict[ConversationId, ConversationRow]:
        """Those of *ids* that are there, discarded ones too, without what may be long.

        Raise SignedOut, StoreUnavailable.
        """
        return {
            row.id: row for row in LISTED_CONVERSATIONS.rows_of(self._session.client, "id", ids)
        }

    def conversation(self, row: ConversationRow) -> Conversation:
        """The conversation of *row*, with its title opened."""
        try:
            title, is_verified = self._opened_text(row, "title", row.title), True
        except Tampered:
            title, is_verified = None, False
        return Conversation(
            id=row.id,
            title=title or "",
            policy=policy_named(row.policy, row.policy_size),
            rev=row.rev,
            reset_seq=row.reset_seq,
            start_seq=row.start_seq,
            pinned_at=row.pinned_at,
            created_at=row.created_at,
            updated_at=row.updated_at,
            last_seq=row.last_seq,
            undo_until=row.undo_until,
            is_titled=row.titled_by != "words",
            is_archived=row.state is ConversationState.ARCHIVED,
            is_unread=row.last_seq > row.read_seq,
            is_verified=is_verified,
            model=row.model,
            space_id=row.space_id,
        )

    def instructions(self, row: ConversationRow) -> str | None:
        """The conversation's own, if it has some. Raise Tampered."""
        return self._opened_text(row, "instructions", row.instructions)

    def summary(self, row: ConversationRow) -> RunningSummary | None:
        """The conversation's running summary, if it has one. Raise Tampered."""
        text = self._opened_text(row, "summary", row.summary)
        return None if text is None else SUMMARY_FORMAT.read(text)

    def readable_summary(self, row: ConversationRow) -> RunningSummary | None:
        """As `summary`; none where it does not open: nobody can say what it was, and another mends it."""
        try:
            return self.summary(row)
        except Tampered:
            return None

    def vault(self, conversation_id: ConversationId, row: ConversationRow | None = None) -> Vault:
        """What seals and opens the conversation. Raise NotFound, Tampered."""
        vault = self._vaults.get(conversation_id)
        if vault is None:
            vault = self.unwrapped(row or self.row(conversation_id))
            self._vaults.put(conversation_id, vault)
        return vault

    def unwrapped(self, row: ConversationRow) -> Vault:
        """What seals and opens the conversation of *row*, which is not kept here. Raise Tampered."""
        user_key = self._session.user_keys.get(row.user_key_version)
        if user_key is None:
            raise Tampered
        key = user_key.unwrap(row.wrapped_key, row.id, row.key_version)
        return Vault(key, row.key_version)

    def opened_message(
        self, conversation_id: ConversationId, vault: Vault, row: MessageRow
    ) -> Message:
        """The message of *row*, by itself."""
        return _message(vault, row, self.place_of(row, conversation_id))

    def place(self, column: str, conversation_id: ConversationId) -> Place:
        """The place of a text in the conversation's row."""
        return Place(
            table="conversations",
            column=column,
            row_id=conversation_id,
            user_id=self.user_id,
            conversation_id=conversation_id,
        )

    def message_place(
        self,
        conversation_id: ConversationId,
        message_id: MessageId,
        seq: int,
        parent_id: MessageId | None,
        role: Role,
        column: str = "body",
    ) -> Place:
        """The place of a text of a message."""
        return Place(
            table="messages",
            column=column,
            row_id=message_id,
            user_id=self.user_id,
            conversation_id=conversation_id,
            seq=seq,
            parent_id=parent_id,
            role=role,
        )

    def place_of(self, row: MessageRow, conversation_id: ConversationId) -> Place:
        return self.message_place(conversation_id, row.id, row.seq, row.parent_id, row.role)

    def _opened_text(self, row: ConversationRow, column: str, sealed: str | None) -> str | None:
        """The text of a *column*; opened once for as long as what is *sealed* stays the same. Raise Tampered."""
        if sealed is None:
            return None
        held = self._texts[column].get(row.id)
        if held is None or held[0] != sealed:
            held = sealed, self.vault(row.id, row).open(sealed, self.place(column, row.id))
            self._texts[column].put(row.id, held)
        return held[1]

    def _checked(self, row: ConversationRow) -> KnownThread:
        """The thread of *row*, from what was known of it where that is still good."""
        known = self._with_messages(row)
        try:
            own, is_verified = self.instructions(row), True
        except Tampered:
            own, is_verified = None, False
        try:
            summary, is_summary_verified = self.summary(row), True
        except Tampered:
            summary, is_summary_verified = None, False
        thread = replace(
            known.thread,
            instructions=own,
            are_instructions_verified=is_verified,
            summary=summary,
            is_summary_verified=is_summary_verified,
        )
        return replace(known, thread=thread)

    def _with_messages(self, row: ConversationRow) -> KnownThread:
        conversation = self.conversation(row)
        before = self._known.get(conversation.id)
        if before and before.thread.is_whole and before.thread.conversation.rev == row.rev:
            return replace(before, thread=replace(before.thread, conversation=conversation))
        known = self._grown(before, row, conversation) or self._opened(row, conversation)
        is_older = row.rev < self._newest.get(conversation.id, 0)
        if is_older or conversation.id in self._set_back:
            known = replace(known, thread=replace(known.thread, is_whole=False))
        return known

    def _grown(
        self, before: KnownThread | None, row: ConversationRow, conversation: Conversation
    ) -> KnownThread | None:
        """What was known and what has come since, if together they are what the head says."""
        if before is None or not before.thread.is_whole or not before.thread.messages:
            return None
        known = self._opened(row, conversation, before.thread.messages, before.total)
        return known if known.thread.is_whole else None

    def _opened(
        self,
        row: ConversationRow,
        conversation: Conversation,
        messages: tuple[Message, ...] = (),
        total: Head | None = None,
    ) -> KnownThread:
        """Fetch and open what follows *messages*, whose head is *total*; check the whole."""
        vault, total = self.vault(conversation.id, row), total or Head()
        opened: list[Message] = []
        for message in self._message_rows(row, messages[-1].seq if messages else 0):
            place = self.place_of(message, conversation.id)
            total = total.add(vault.row_mac(message.body, place), message.seq)
            opened.append(_message(vault, message, place))
        try:
            head = vault.open_head(row.head, self.user_id, conversation.id)
        except Tampered:
            head = None
        thread = Thread(
            conversation=conversation,
            messages=(*messages, *opened),
            is_whole=head is not None
            and head.is_of(total)
            and (head.rev, head.last_seq) == (row.rev, row.last_seq),
        )
        return KnownThread(thread, head, total)

    def _message_rows(self, row: ConversationRow, after_seq: int) -> Sequence[MessageRow]:
        def read(last: MessageRow | None, limit: int) -> list[MessageRow]:
            if last and last.seq >= row.last_seq:
                return []
            return MESSAGES.rows(
                self._session.client,
                lambda query: (
                    query.eq("conversation_id", str(row.id))
                    .is_("destroy_at", "null")
                    .gt("seq", last.seq if last else after_seq)
                    .order("seq")
                    .limit(limit)
                ),
            )

        return every_row(read)


def _message(vault: Vault, row: MessageRow, place: Place) -> Message:
    try:
        body, is_verified = vault.open(row.body, place), True
    except Tampered:
        body, is_verified = "", False
    return Message(
        id=row.id,
        seq=row.seq,
        parent_id=row.parent_id,
        role=row.role,
        body=body,
        created_at=row.created_at,
        outcome=row.outcome,
        turn_id=row.turn_id,
        is_verified=is_verified,
        has_thoughts=row.has_thoughts,
    )
