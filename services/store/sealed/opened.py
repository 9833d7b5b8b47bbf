"""Opened conversations: checked against their heads, and cached by revision.

A conversation's `head` authenticates its revision and all its messages. Each write makes the next head from the one
that the reader's thread was checked against, so a row that was removed, swapped, doubled or put back by someone else
than the app is noticed when the thread is next read.
"""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TypeVar

from services.caches import CachedRead, LruCache
from services.crypto import Head, UserKeys, sha
from services.domain import (
    Conversation,
    ConversationId,
    MessageId,
    RunningSummary,
    Thoughts,
    Thread,
    TurnCost,
    TurnId,
)
from services.domain.data import HeldData
from services.domain.policies import policy_named
from services.errors import ChangedElsewhere, NotFound, Stale, Tampered
from services.store.rows import (
    ConversationRead,
    ConversationRow,
    ConversationState,
    Rows,
    TurnRow,
)
from services.store.sealed.answers import final_costs
from services.store.sealed.seals import SUMMARY_FORMAT, ConversationSeals, Seals
from services.store.writes import DocumentKind, DocumentRow, PutDocument, SealedConversation

Answer = TypeVar("Answer")
OPENED = 2_000  # weight of a conversation with its key, beside 1 for an opened title
_MOST_TITLES = 100_000  # of all conversations: they are searched; or 50 opened ones
_MOST_RECEIPTS, _MOST_THOUGHTS, _MOST_COSTS = 200, 50, 5_000


@dataclass(frozen=True, slots=True)
class CheckedThread:
    """A thread as it was last read, and the heads that its next write is made from."""

    thread: Thread
    head: Head | None = field(repr=False)  # None: it did not open, so nothing can follow it
    total: Head = field(repr=False)  # of the rows that were read, to be compared with `head`

    def next_head(self) -> Head:
        """The head to continue from. Raise Tampered if there is none."""
        if self.head is None:
            raise Tampered
        return self.head


@dataclass(slots=True, repr=False)
class OpenedConversation:
    """All that this process holds of a conversation: dropped in one piece."""

    seals: ConversationSeals | None = None
    checked: CheckedThread | None = None
    title: tuple[str, str] | None = None  # sealed, and opened
    texts: dict[DocumentKind, tuple[DocumentRow, str | None]] = field(
        default_factory=dict[DocumentKind, tuple[DocumentRow, str | None]]
    )
    receipts: LruCache[TurnId, str] = field(  # "": none to show
        default_factory=lambda: LruCache[TurnId, str](_MOST_RECEIPTS)
    )
    thoughts: LruCache[MessageId, Thoughts] = field(
        default_factory=lambda: LruCache[MessageId, Thoughts](_MOST_THOUGHTS)
    )
    costs: LruCache[TurnId, TurnCost] = field(
        default_factory=lambda: LruCache[TurnId, TurnCost](_MOST_COSTS)
    )

    def plain_texts(self) -> list[str]:
        """All text of it but the bodies of `checked`."""
        texts = [self.title[1]] if self.title else []
        texts += [text or "" for _, text in list(self.texts.values())]
        texts += [text for _, text in self.receipts.items()]
        return texts + [thoughts.text for _, thoughts in self.thoughts.items()]


@dataclass(slots=True)
class _Seen:
    """What is remembered of a conversation that was read or changed, also once it is forgotten.

    A database that is put back while no page looks is noticed by it, until the user signs out or clears the server's
    memory.
    """

    rev: int = 0  # the last one that was whole
    is_set_back: bool = False  # found at an older one: that stays noticed
    changes: int = 0  # of what is cached: a read that began before one is done again


class OpenedConversations:
    """The opened conversations of one user, and the keys that open them.

    Any thread may call any method. What is cached is replaced under a lock, and never with what was read before another
    thread read, changed or forgot the conversation.
    """

    def __init__(self, rows: Rows, keys: UserKeys) -> None:
        self._rows, self.user_seals = rows, Seals(rows.user_id, keys)
        self._opened = LruCache[ConversationId, OpenedConversation](
            _MOST_TITLES, lambda one: OPENED if one.seals else 1
        )
        self._seen = defaultdict[ConversationId, _Seen](_Seen)
        self._ahead: tuple[ConversationId, CachedRead[ConversationRead]] | None = None
        self._change = threading.RLock()
        self.on_forget: list[Callable[[ConversationId], None]] = []
        self.on_create: list[Callable[[], None]] = []

    def opened(self, conversation_id: ConversationId) -> OpenedConversation:
        """The cached conversation, opened if it was not. Raise NotFound, Tampered."""
        held = self._opened.get(conversation_id)
        return held if held and held.seals else self._open(self.row(conversation_id))[0]

    def checked(self, conversation_id: ConversationId) -> CheckedThread | None:
        """The thread as it was last read here."""
        held = self._opened.get(conversation_id)
        return held.checked if held else None

    def held(self) -> HeldData:
        """The text of all conversations that is cached."""
        held = [one for _, one in self._opened.items()]
        threads = [one.checked.thread for one in held if one.checked]
        texts = [text for one in held for text in one.plain_texts()]
        texts += [message.body for thread in threads for message in thread.messages]
        return HeldData(
            conversations=len(threads),
            messages=sum(len(thread.messages) for thread in threads),
            text_bytes=sum(len(text.encode()) for text in texts),
        )

    def head_of(self, thread: Thread) -> Head:
        """The head to continue from. Raise Stale if *thread* has another revision by now, NotFound, Tampered."""
        conversation_id = thread.conversation.id
        checked = self.checked(conversation_id) or self.read(conversation_id)[0]
        if checked.thread.conversation.rev != thread.conversation.rev:
            raise Stale
        return checked.next_head()

    def forget(self, conversation_id: ConversationId) -> None:
        """Drop its key and its text from memory."""
        with self._change:
            self._opened.drop(conversation_id)
            self._note_change(conversation_id)
        for forget in self.on_forget:
            forget(conversation_id)

    def amend(self, conversation_id: ConversationId, change: Callable[[Thread], Thread]) -> None:
        """Apply to the cached thread what was just stored, so that the next turn need not read it."""
        with self._change:
            held = self._opened.get(conversation_id)
            if held and held.checked:
                held.checked = replace(held.checked, thread=change(held.checked.thread))
            self._note_change(conversation_id)

    def read_ahead(self, conversation_id: ConversationId) -> None:
        """Begin to read a conversation of which nothing is held, for the next `read` of it."""
        if self.checked(conversation_id) is None:
            ahead = CachedRead(lambda: self._rows.read_conversation(conversation_id, 0))
            self._ahead = conversation_id, ahead
            ahead.read_ahead()

    def _take_ahead(self, conversation_id: ConversationId) -> CachedRead[ConversationRead] | None:
        with self._change:
            ahead = self._ahead
            if ahead is None or ahead[0] != conversation_id:
                return None
            self._ahead = None
            return ahead[1]

    def read(
        self, conversation_id: ConversationId, *, may_be_discarded: bool = False
    ) -> tuple[CheckedThread, TurnRow | None]:
        """The thread as it is stored now, and its newest turn; fetch and open only new messages. Raise NotFound."""
        while True:
            changes = self._changes(conversation_id)
            checked, read = self._read_whole(conversation_id, may_be_discarded=may_be_discarded)
            row = read.conversation
            with self._change:
                if self._changes(conversation_id) != changes:
                    continue  # it was read or changed here meanwhile, and may be newer than *row*
                opened, seals = self._open(row)
                opened.checked = checked
                seen = self._note_change(conversation_id)
                if row.rev < seen.rev:
                    seen.is_set_back = True
                elif checked.thread.is_whole:
                    seen.rev = row.rev
            for turn_id, cost in final_costs(read.costs).items():
                opened.costs.put(turn_id, cost)
            for receipt in read.receipts:
                if opened.receipts.get(receipt.turn_id) is None:
                    opened.receipts.put(receipt.turn_id, seals.open_receipt(receipt))
            return checked, read.newest_turn

    def _changes(self, conversation_id: ConversationId) -> int:
        with self._change:
            seen = self._seen.get(conversation_id)
            return seen.changes if seen else 0

    def _note_change(self, conversation_id: ConversationId) -> _Seen:
        """Have reads that are under way done again."""
        self._take_ahead(conversation_id)
        seen = self._seen[conversation_id]
        seen.changes += 1
        return seen

    def _read_whole(
        self, conversation_id: ConversationId, *, may_be_discarded: bool
    ) -> tuple[CheckedThread, ConversationRead]:
        """Read what is new of a conversation; all of it where the thread is not whole then. Raise NotFound."""
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
                break
        return checked, read

    def hold_new(self, thread: Thread, created: SealedConversation) -> None:
        """Hold the empty *thread*, which was just stored as *created*, unless another thread has read it since."""
        with self._change:
            if created.id not in self._seen:
                self._open(created)[0].checked = CheckedThread(thread, Head(), Head())
                self._note_change(created.id)
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
        title, is_verified = _verified(lambda: self._title(row))
        return Conversation(
            id=row.id,
            title=title or "",
            policy=policy_named(row.policy, row.policy_size),
            rev=row.rev,
            reset_seq=row.reset_seq,
            start_seq=row.start_seq,
            facts_seq=row.facts_seq,
            pinned_at=row.pinned_at,
            created_at=row.created_at,
            updated_at=row.updated_at,
            last_seq=row.last_seq,
            undo_until=row.undo_until,
            is_titled=row.titled_by != "words",
            is_archived=row.state is ConversationState.ARCHIVED,
            is_unread=row.last_seq > row.read_seq,
            is_verified=is_verified,
            title_hash=sha(row.title),
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
        return _verified(lambda: self.summary(row))[0]

    def put_summary(self, row: ConversationRow, summary: RunningSummary | None, cuts: int) -> None:
        """Replace the running summary that *row* holds. Raise Stale, NotFound, Tampered."""
        text = SUMMARY_FORMAT.write(summary) if summary else None
        self.put_text(row, DocumentKind.SUMMARY, text, cuts)

    def put_text(
        self, row: ConversationRow, kind: DocumentKind, text: str | None, cuts: int | None = None
    ) -> None:
        """Replace the instructions or the summary that *row* holds. Raise Stale, NotFound, Tampered."""
        seen = row.text(kind)
        document = self.user_seals.documents.seal(seen, text, self.seals(row.id, row).vault)
        self._rows.put_document(PutDocument.of(document, seen.rev, cuts=cuts))
        self.user_seals.documents.note(document)

    def seals(
        self, conversation_id: ConversationId, row: ConversationRow | None = None
    ) -> ConversationSeals:
        """The seals of a conversation. Raise NotFound, Tampered."""
        held = self._opened.get(conversation_id)
        if held and held.seals:
            return held.seals
        return self._open(row or self.row(conversation_id))[1]

    def all_seals(self, ids: Iterable[ConversationId]) -> dict[ConversationId, ConversationSeals]:
        """The seals of those of *ids* that exist, are not discarded, and verify. None is held."""
        seals: dict[ConversationId, ConversationSeals] = {}
        for row in self.rows(ids).values():
            with suppress(Tampered):
                if not row.destroy_at:
                    seals[row.id] = self.user_seals.of(row)
        return seals

    def _open(self, row: SealedConversation) -> tuple[OpenedConversation, ConversationSeals]:
        """Hold the conversation of *row* with its key. Raise Tampered."""
        with self._change:
            held = self._opened.get(row.id) or OpenedConversation()
            if held.seals is None:
                held.seals = self.user_seals.of(row)
                self._opened.put(row.id, held)
            return held, held.seals

    def _title(self, row: ConversationRow) -> str:
        """The title; opened once for as long as it stays the same. Raise Tampered."""
        changes, held = self._changes(row.id), self._opened.get(row.id)
        if held and held.title and held.title[0] == row.title:
            return held.title[1]
        seals = (held and held.seals) or self.user_seals.of(row)
        title = seals.open_title(row.title)
        with self._change:
            if self._changes(row.id) == changes:  # else it may have been forgotten
                held = self._opened.get(row.id) or OpenedConversation()
                held.title = row.title, title
                self._opened.put(row.id, held)
        return title

    def _text(self, row: ConversationRow, kind: DocumentKind) -> str | None:
        """The instructions or the summary; opened once for as long as they stay the same. Raise Tampered."""
        document = row.text(kind)
        documents = self.user_seals.documents
        if documents.is_set_back(document):  # or replaced after *row* was read
            document = self.row(row.id).text(kind)
        held, seals = self._open(row)
        known = held.texts.get(kind)
        if known is None or known[0] != document or documents.is_set_back(document):
            known = held.texts[kind] = document, documents.open(document, seals.vault)
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
        ahead = self._take_ahead(conversation_id)
        try:
            if ahead and before is None:
                read = ahead.get()
            else:
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
        instructions, is_verified = _verified(lambda: self.instructions(row))
        summary, is_summary_verified = _verified(lambda: self.summary(row))
        with self._change:
            seen = self._seen.get(row.id)
            is_older = seen is not None and (seen.is_set_back or row.rev < seen.rev)
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
        seals, total = self.seals(row.id, row), before.total if before else Head()
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


def _verified(open_text: Callable[[], Answer]) -> tuple[Answer | None, bool]:
    """Return what *open_text* returns, and True; None and False if it raises Tampered."""
    try:
        return open_text(), True
    except Tampered:
        return None, False


def check_seen(seen: str | None, now: str | None, wanted: str | None) -> None:
    """Raise ChangedElsewhere if the stored text *now* is neither *seen* nor *wanted*."""
    if seen is not None and (now or "") not in (seen, wanted or ""):
        raise ChangedElsewhere(now or "")
