"""Opened conversations: checked against their heads, and cached by revision.

A conversation's `head` authenticates its revision and all its messages. Each write makes the next head from the one
that the reader's thread was checked against, so a row that was removed, swapped, doubled or put back by someone else
than the app is noticed when the thread is next read.
"""

import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import chain

from services.crypto import Head, UserKeys, Vault, new_key
from services.domain import (
    Conversation,
    ConversationId,
    Message,
    RunningSummary,
    Thread,
    UserId,
)
from services.domain.policies import policy_named, policy_size
from services.errors import NotFound, Stale, Tampered
from services.events import log_event
from services.store.lru_cache import LruCache
from services.store.rows import (
    ConversationRead,
    ConversationRow,
    ConversationState,
    DocumentKind,
    MessageRow,
    ReceiptRow,
    Rows,
    SealedConversation,
    TurnRow,
)
from services.store.sealed.documents import DocumentSeals
from services.store.sealed.formats import Format
from services.store.sealed.opened_conversation import CheckedThread, OpenedConversation
from services.store.sealed.places import conversation_place, receipt_place, row_place

SUMMARY_FORMAT = Format(RunningSummary)
OPENED = 2_000  # weight of a conversation with its key, beside 1 for an opened title
_MOST_TITLES = 100_000  # of all conversations: they are searched; or 50 opened ones


class OpenedConversations:
    """The opened conversations of one user, and the keys that open them."""

    def __init__(self, rows: Rows, keys: UserKeys) -> None:
        self._rows, self._keys = rows, keys
        self._seals = DocumentSeals(rows.user_id, keys)
        self._opened = LruCache[ConversationId, OpenedConversation](
            _MOST_TITLES, lambda one: OPENED if one.vault else 1
        )
        # never forgotten, or a database could be put back while no page looks
        self._newest: dict[ConversationId, int] = {}  # the last revision that was whole
        self._set_back: set[ConversationId] = set()  # found at an older one: that stays noticed
        self._change = threading.RLock()
        self.on_forget: list[Callable[[ConversationId], None]] = []
        self.on_create: list[Callable[[], None]] = []

    @property
    def user_id(self) -> UserId:
        return self._rows.user_id

    def opened(self, conversation_id: ConversationId) -> OpenedConversation:
        """The cached conversation, opened if it was not. Raise NotFound, Tampered."""
        held = self._opened.get(conversation_id)
        return held if held and held.vault else self._open(self.row(conversation_id))[0]

    def checked(self, conversation_id: ConversationId) -> CheckedThread | None:
        """The thread as it was last read here."""
        held = self._opened.get(conversation_id)
        return held.checked if held else None

    def checked_as(self, thread: Thread) -> CheckedThread:
        """The heads of *thread*. Raise Stale if it was read again since at another revision."""
        checked = self.checked(thread.conversation.id)
        if checked is None or checked.thread.conversation.rev != thread.conversation.rev:
            raise Stale
        return checked

    def forget(self, conversation_id: ConversationId) -> None:
        """Drop its key and its text from memory."""
        self._opened.drop(conversation_id)
        for forget in self.on_forget:
            forget(conversation_id)

    def amend(self, conversation_id: ConversationId, change: Callable[[Thread], Thread]) -> None:
        """Apply to the cached thread what was just stored, so that the next turn need not read it."""
        with self._change:
            held = self._opened.get(conversation_id)
            if held and held.checked:
                held.checked = replace(held.checked, thread=change(held.checked.thread))
                held.changes += 1

    def read(
        self, conversation_id: ConversationId, *, may_be_discarded: bool = False
    ) -> tuple[CheckedThread, TurnRow | None]:
        """The thread as it is stored now, and its newest turn; fetch and open only new messages. Raise NotFound, RowsCut."""
        while True:
            changes = self._changes(conversation_id)
            checked, read = self._read_whole(conversation_id, may_be_discarded=may_be_discarded)
            row = read.conversation
            with self._change:
                if self._changes(conversation_id) != changes:
                    continue  # it was read or changed here meanwhile, and may be newer than *row*
                opened, vault = self._open(row)
                if row.rev < self._newest.get(conversation_id, 0):
                    self._set_back.add(conversation_id)
                elif checked.thread.is_whole:
                    self._newest[conversation_id] = row.rev
                opened.checked = checked
                opened.changes += 1
            self._hold_turns(opened, vault, read)
            return checked, read.newest_turn

    def _changes(self, conversation_id: ConversationId) -> int:
        held = self._opened.get(conversation_id)
        return held.changes if held else 0

    def _read_whole(
        self, conversation_id: ConversationId, *, may_be_discarded: bool
    ) -> tuple[CheckedThread, ConversationRead]:
        """Read what is new of a conversation; all of it where the thread is not whole then. Raise NotFound, RowsCut."""
        before = self.checked(conversation_id)
        if before and not (before.thread.is_whole and before.thread.messages):
            before = None
        read = self._read(conversation_id, before, may_be_discarded=may_be_discarded)
        checked = self._checked(read, before)
        while not checked.thread.is_whole:  # messages were deleted, or came while others were read
            rev = read.conversation.rev if before is None else -1
            before = None
            read = self._read(conversation_id, None, may_be_discarded=may_be_discarded)
            checked = self._checked(read, None)
            if read.conversation.rev == rev:
                self._rows.check_complete()  # before anyone is said to have tampered with it
                break
        return checked, read

    def sealed_new(self, thread: Thread) -> tuple[SealedConversation, Vault]:
        """Seal an empty conversation that is not stored yet under a new key."""
        conversation, key, user_key = thread.conversation, new_key(), self._keys.newest
        vault = Vault(key)

        def sealed(text: str, column: str) -> str:
            return vault.seal(text, conversation_place(self.user_id, conversation.id, column))

        created = SealedConversation(
            id=conversation.id,
            title=sealed(conversation.title, "title"),
            wrapped_key=user_key.wrap(key, conversation.id, vault.version),
            user_key_version=user_key.version,
            head=vault.seal_head(Head(), self.user_id, conversation.id),
            policy=conversation.policy.name,
            policy_size=policy_size(conversation.policy),
            model=conversation.model,
            instructions=sealed(thread.instructions, "instructions")
            if thread.instructions
            else None,
            space_id=conversation.space_id,
        )
        return created, vault

    def hold_new(self, thread: Thread, vault: Vault) -> None:
        """Hold a conversation that was just stored as *thread*, empty."""
        self._opened.put(
            thread.conversation.id, OpenedConversation(vault, CheckedThread.new(thread))
        )
        for outdate in self.on_create:
            outdate()

    def row(self, conversation_id: ConversationId) -> ConversationRow:
        """The row of a conversation. Raise NotFound."""
        try:
            return self._rows.conversation(conversation_id)
        except NotFound:
            self.forget(conversation_id)
            raise

    def rows(self, ids: Iterable[ConversationId]) -> dict[ConversationId, ConversationRow]:
        """The rows of those of *ids* that exist, discarded ones too, without instructions and summary."""
        return {row.id: row for row in self._rows.conversations(ids)}

    def conversation(self, row: ConversationRow) -> Conversation:
        """The conversation of *row*, with its title opened."""
        try:
            title, is_verified = self._title(row), True
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
        """The conversation's own instructions. Raise Tampered."""
        return self._text(row, DocumentKind.INSTRUCTIONS)

    def summary(self, row: ConversationRow) -> RunningSummary | None:
        """The conversation's running summary. Raise Tampered."""
        text = self._text(row, DocumentKind.SUMMARY)
        return None if text is None else SUMMARY_FORMAT.read(text)

    def readable_summary(self, row: ConversationRow) -> RunningSummary | None:
        """The running summary; None also if it does not open, for another one mends that."""
        try:
            return self.summary(row)
        except Tampered:
            return None

    def put_text(
        self, row: ConversationRow, kind: DocumentKind, text: str | None, cuts: int | None = None
    ) -> None:
        """Replace the instructions or the summary that *row* holds. Raise Stale, NotFound, Tampered."""
        seen = row.text(kind)
        document = self._seals.seal(seen, text, self.vault(row.id, row))
        self._rows.put_document(document, seen_rev=seen.rev, cuts=cuts)
        self._seals.note(document)

    def vault(self, conversation_id: ConversationId, row: ConversationRow | None = None) -> Vault:
        """The vault of a conversation. Raise NotFound, Tampered."""
        held = self._opened.get(conversation_id)
        if held and held.vault:
            return held.vault
        return self._open(row or self.row(conversation_id))[1]

    def unwrapped(self, row: ConversationRow) -> Vault:
        """The vault of the conversation of *row*, uncached. Raise Tampered."""
        key = self._keys.unwrap(row.wrapped_key, row.user_key_version, row.id, row.key_version)
        return Vault(key, row.key_version)

    def message(self, vault: Vault, row: MessageRow) -> Message:
        """The message of *row*, unverified if it does not open."""
        try:
            body, is_verified = vault.open(row.body, row_place(self.user_id, row)), True
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

    def receipt(self, vault: Vault, conversation_id: ConversationId, row: ReceiptRow) -> str:
        """The receipt of *row*; empty if it does not open."""
        place = receipt_place(self.user_id, conversation_id, row.client_turn_id)
        try:
            return vault.open(row.body, place)
        except Tampered:
            log_event("receipt.unverified", turn=row.turn_id)
            return ""

    def _open(self, row: ConversationRow) -> tuple[OpenedConversation, Vault]:
        """Hold the conversation of *row* with its key. Raise Tampered."""
        with self._change:
            held = self._opened.get(row.id) or OpenedConversation()
            if held.vault is None:
                held.vault = self.unwrapped(row)
                self._opened.put(row.id, held)
            return held, held.vault

    def _title(self, row: ConversationRow) -> str | None:
        """The title; opened once for as long as it stays the same. Raise Tampered."""
        if row.title is None:
            return None
        held = self._opened.get(row.id) or OpenedConversation()
        if held.title is None or held.title[0] != row.title:
            vault = held.vault or self.unwrapped(row)
            place = conversation_place(self.user_id, row.id, "title")
            held.title = row.title, vault.open(row.title, place)
            self._opened.put(row.id, held)
        return held.title[1]

    def _text(self, row: ConversationRow, kind: DocumentKind) -> str | None:
        """The instructions or the summary; opened once for as long as they stay the same. Raise Tampered."""
        document = row.text(kind)
        if self._seals.is_set_back(document):  # or replaced after *row* was read
            document = self.row(row.id).text(kind)
        held, vault = self._open(row)
        known = held.texts.get(kind)
        if known is None or known[0] != document or self._seals.is_set_back(document):
            known = held.texts[kind] = document, self._seals.open(document, vault)
        return known[1]

    def _read(
        self,
        conversation_id: ConversationId,
        before: CheckedThread | None,
        *,
        may_be_discarded: bool,
    ) -> ConversationRead:
        """Read the conversation and its messages after those of *before*. Raise NotFound."""
        after_seq = before.thread.messages[-1].seq if before else 0
        try:
            read = self._rows.read_conversation(conversation_id, after_seq)
            if read.conversation.destroy_at and not may_be_discarded:
                raise NotFound
        except NotFound:
            self.forget(conversation_id)
            raise
        return read

    def _checked(self, read: ConversationRead, before: CheckedThread | None) -> CheckedThread:
        """Return the thread that was read, from what was known of it where that is still good."""
        row = read.conversation
        conversation = self.conversation(row)
        if before and before.thread.conversation.rev == row.rev:
            checked = replace(before, thread=replace(before.thread, conversation=conversation))
        else:
            checked = self._with_messages(read, conversation, before)
        try:
            instructions, is_verified = self.instructions(row), True
        except Tampered:
            instructions, is_verified = None, False
        try:
            summary, is_summary_verified = self.summary(row), True
        except Tampered:
            summary, is_summary_verified = None, False
        is_older = row.rev < self._newest.get(row.id, 0) or row.id in self._set_back
        thread = replace(
            checked.thread,
            instructions=instructions,
            are_instructions_verified=is_verified,
            summary=summary,
            is_summary_verified=is_summary_verified,
            is_whole=checked.thread.is_whole and not is_older,
        )
        return replace(checked, thread=thread)

    def _with_messages(
        self, read: ConversationRead, conversation: Conversation, before: CheckedThread | None
    ) -> CheckedThread:
        """Open the messages that were read, after those of *before*; check the whole."""
        row = read.conversation
        vault, total = self.vault(row.id, row), before.total if before else Head()
        messages = list(before.thread.messages) if before else []
        rest = iter(read.messages)
        if read.messages and read.messages[-1].seq < row.last_seq:
            rest = chain(rest, self._rows.messages(row.id, read.messages[-1].seq, row.last_seq))
        for message in rest:
            total = total.add(
                vault.row_mac(message.body, row_place(self.user_id, message)), message.seq
            )
            messages.append(self.message(vault, message))
        try:
            head = vault.open_head(row.head, self.user_id, row.id)
        except Tampered:
            head = None
        is_whole = (
            head is not None
            and head.is_of(total)
            and (head.rev, head.last_seq) == (row.rev, row.last_seq)
        )
        thread = Thread(conversation=conversation, messages=tuple(messages), is_whole=is_whole)
        return CheckedThread(thread, head, total)

    def _hold_turns(self, opened: OpenedConversation, vault: Vault, read: ConversationRead) -> None:
        """Hold the costs and the receipt that were read with the messages."""
        for cost in read.costs:
            opened.hold_cost(cost)
        for row in read.receipts:
            if opened.receipts.get(row.turn_id) is None:
                receipt = self.receipt(vault, read.conversation.id, row)
                opened.receipts.put(row.turn_id, receipt)
