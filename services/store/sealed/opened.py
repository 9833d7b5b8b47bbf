"""Cache of opened conversations: their keys and decrypted texts, reused until they change in the store."""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Self

from services.caches import LruCache
from services.crypto import Head, UserKeys
from services.domain import (
    Conversation,
    ConversationId,
    MessageId,
    Thoughts,
    Thread,
    TurnCost,
    TurnId,
)
from services.domain.data import CachedData
from services.domain.policies import policy_named
from services.domain.rows import (
    ConversationRow,
    ConversationState,
    DocumentKind,
    DocumentRow,
    SealedConversation,
)
from services.errors import NotFound, Tampered
from services.store.rows import Rows
from services.store.sealed.seals import ConversationSeals, Seals

OPENED = 2_000  # the cache weight of a conversation with its key; a title alone weighs 1
# the maximum total weight of the cache: enough for 100,000 titles, which a search decrypts, or 50 conversations with keys
_MOST_TITLES = 100_000
_MOST_RECEIPTS, _MOST_THOUGHTS, _MOST_COSTS = 200, 50, 5_000


@dataclass(frozen=True, slots=True)
class CheckedThread:
    """The last verified read of a thread, and the head (authenticated list of messages) that its next write extends."""

    thread: Thread
    # None: the head cannot be decrypted, so no message can be added
    head: Head | None = field(repr=False)
    # the head computed from the rows that were read, to be compared with `head`
    total: Head = field(repr=False)

    def next_head(self) -> Head:
        """Return the head that the thread's next write extends. Raise Tampered if the head cannot be decrypted."""
        if self.head is None:
            raise Tampered
        return self.head


@dataclass(slots=True, repr=False)
class OpenedConversation:
    """All cached data of one conversation, so that all of it can be dropped in one step."""

    seals: ConversationSeals | None = None
    checked: CheckedThread | None = None
    title: tuple[str, str] | None = None  # the sealed title, and the decrypted title
    texts: dict[DocumentKind, tuple[DocumentRow, str | None]] = field(
        default_factory=dict[DocumentKind, tuple[DocumentRow, str | None]]
    )
    receipts: LruCache[TurnId, str] = field(  # receipt texts; "": the turn has no receipt
        default_factory=lambda: LruCache[TurnId, str](_MOST_RECEIPTS)
    )
    thoughts: LruCache[MessageId, Thoughts] = field(
        default_factory=lambda: LruCache[MessageId, Thoughts](_MOST_THOUGHTS)
    )
    costs: LruCache[TurnId, TurnCost] = field(
        default_factory=lambda: LruCache[TurnId, TurnCost](_MOST_COSTS)
    )

    def plain_texts(self) -> list[str]:
        """Return all cached texts except the message bodies in `checked`."""
        texts = [self.title[1]] if self.title else []
        texts += [text or "" for _, text in list(self.texts.values())]
        texts += [text for _, text in self.receipts.items()]
        return texts + [thoughts.text for _, thoughts in self.thoughts.items()]


@dataclass(slots=True)
class _Seen:
    """The newest revision of a conversation that this process has seen. It is kept when the cached data are dropped.

    Until the user signs out or clears the server's memory, it reveals that the database was restored to an older state.
    """

    rev: int = 0  # the revision of the last verified read
    is_set_back: bool = False  # True: an older revision was read after a newer one; never reset
    # the number of changes to the cached data: a read that began before a change is repeated
    changes: int = 0


class OpenedConversations:
    """One user's opened conversations, cached with the keys that decrypt them.

    Any thread may call any method. A lock guards cached data; a read that began before another thread read, changed or
    forgot the conversation never replaces the data.
    """

    def __init__(self, rows: Rows, keys: UserKeys, other: Self | None = None) -> None:
        """*other*: another cache of the user, which shares the revisions that this process has seen, but no text."""
        self._rows = rows
        self.user_seals = other.user_seals if other else Seals(rows.user_id, keys)
        self._opened = LruCache[ConversationId, OpenedConversation](
            _MOST_TITLES, lambda one: OPENED if one.seals else 1
        )
        self._seen = other._seen if other else defaultdict[ConversationId, _Seen](_Seen)
        self._change = other._change if other else threading.RLock()
        self.on_forget: list[Callable[[ConversationId], None]] = []
        self.on_create: list[Callable[[], None]] = []

    def opened(
        self, conversation_id: ConversationId, row: ConversationRow | None = None
    ) -> OpenedConversation:
        """Return the cached conversation; if it is not cached, open its *row*.

        Raise NotFound, Tampered (its key is invalid).
        """
        cached = self._opened.get(conversation_id)
        return (
            cached if cached and cached.seals else self._open(row or self.row(conversation_id))[0]
        )

    def checked(self, conversation_id: ConversationId) -> CheckedThread | None:
        """Return the thread as this process last read it, or None."""
        cached = self._opened.get(conversation_id)
        return cached.checked if cached else None

    def cached_data(self) -> CachedData:
        """Return the counts of all cached conversations and texts."""
        cached = [one for _, one in self._opened.items()]
        threads = [one.checked.thread for one in cached if one.checked]
        texts = [text for one in cached for text in one.plain_texts()]
        texts += [message.body for thread in threads for message in thread.messages]
        return CachedData(
            conversations=len(threads),
            messages=sum(len(thread.messages) for thread in threads),
            text_bytes=sum(len(text.encode()) for text in texts),
        )

    def forget(self, conversation_id: ConversationId) -> None:
        """Drop the conversation's key and text from memory."""
        with self._change:
            self._opened.drop(conversation_id)
            self._note_change(conversation_id)
        for forget in self.on_forget:
            forget(conversation_id)

    def amend(self, conversation_id: ConversationId, change: Callable[[Thread], Thread]) -> None:
        """Apply a stored *change* to the cached thread, too, so that the next turn need not read the thread again."""
        with self._change:
            cached = self._opened.get(conversation_id)
            if cached and cached.checked:
                cached.checked = replace(cached.checked, thread=change(cached.checked.thread))
            self._note_change(conversation_id)

    def changes(self, conversation_id: ConversationId) -> int:
        """Return the number of times that this process has read, changed or forgotten the conversation."""
        with self._change:
            seen = self._seen.get(conversation_id)
            return seen.changes if seen else 0

    def _note_change(self, conversation_id: ConversationId) -> _Seen:
        """Count a change, so that reads in progress are repeated."""
        seen = self._seen[conversation_id]
        seen.changes += 1
        return seen

    def put(
        self, row: ConversationRow, checked: CheckedThread, changes: int
    ) -> OpenedConversation | None:
        """Cache the data of a read, and return the cached conversation.

        If the change count is no longer *changes*, its value before the read, cache nothing and return None.
        """
        with self._change:
            if self.changes(row.id) != changes:
                return None
            opened, _ = self._open(row)
            opened.checked = checked
            seen = self._note_change(row.id)
            if row.rev < seen.rev:
                seen.is_set_back = True
            elif checked.thread.is_whole:
                seen.rev = row.rev
            return opened

    def is_set_back(self, row: ConversationRow) -> bool:
        """Return True if the revision of *row*, or of an earlier read, is older than a revision seen before."""
        with self._change:
            seen = self._seen.get(row.id)
            return seen is not None and (seen.is_set_back or row.rev < seen.rev)

    def put_new(self, thread: Thread, created: SealedConversation) -> None:
        """Cache the empty *thread*, which was just stored as *created*, unless this process has already read it again."""
        with self._change:
            if created.id not in self._seen:
                self._open(created)[0].checked = CheckedThread(thread, Head(), Head())
                self._note_change(created.id)
        for outdate in self.on_create:
            outdate()

    def row(self, conversation_id: ConversationId) -> ConversationRow:
        """Return the row of a conversation. Raise NotFound."""
        try:
            return self._rows.conversation(conversation_id)
        except NotFound:
            self.forget(conversation_id)
            raise

    def conversation(self, row: ConversationRow) -> Conversation:
        """Return the conversation of *row*, with its title decrypted."""
        try:
            title, is_verified = self._title(row), True
        except Tampered:
            title, is_verified = "", False
        return Conversation(
            id=row.id,
            title=title,
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
            is_unread=row.is_unread,
            is_verified=is_verified,
            title_hash=row.title_hash,
            model=row.model,
            space_id=row.space_id,
            choices=row.choices,
        )

    def seals(
        self, conversation_id: ConversationId, row: ConversationRow | None = None
    ) -> ConversationSeals:
        """Return the object that seals and decrypts a conversation's texts. Raise NotFound, Tampered (its key is invalid)."""
        cached = self._opened.get(conversation_id)
        if cached and cached.seals:
            return cached.seals
        return self._open(row or self.row(conversation_id))[1]

    def all_seals(self, ids: Iterable[ConversationId]) -> dict[ConversationId, ConversationSeals]:
        """Return the `ConversationSeals` of each of *ids* that exists, is not discarded and has a valid key.

        The seals are not cached.
        """
        seals: dict[ConversationId, ConversationSeals] = {}
        for row in self._rows.conversations(ids):
            with suppress(Tampered):
                if not row.destroy_at:
                    seals[row.id] = self.user_seals.of(row)
        return seals

    def _open(self, row: SealedConversation) -> tuple[OpenedConversation, ConversationSeals]:
        """Return the cached conversation of *row* and its seals; first unwrap its key if needed.

        Raise Tampered if that fails.
        """
        with self._change:
            cached = self._opened.get(row.id) or OpenedConversation()
            if cached.seals is None:
                cached.seals = self.user_seals.of(row)
                self._opened.put(row.id, cached)
            return cached, cached.seals

    def _title(self, row: ConversationRow) -> str:
        """Return the decrypted title, from the cache if it is unchanged. Raise Tampered if decryption fails."""
        changes, cached = self.changes(row.id), self._opened.get(row.id)
        if cached and cached.title and cached.title[0] == row.title:
            return cached.title[1]
        seals = (cached and cached.seals) or self.user_seals.of(row)
        title = seals.open_title(row.title)
        with self._change:
            # after a change, do not cache the title: the conversation may have been dropped from memory on purpose
            if self.changes(row.id) == changes:
                cached = self._opened.get(row.id) or OpenedConversation()
                cached.title = row.title, title
                self._opened.put(row.id, cached)
        return title
