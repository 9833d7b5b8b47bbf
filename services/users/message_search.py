"""Search in all messages of a user, in an index that lies in this process's memory alone.

Each search first reads the list of positions, and then the messages that were stored since the last one, so it finds them
and no deleted ones, whichever process changed them. Conversations that were never indexed are read in the background, from
their sealed search texts as far as there are any; a second thread makes those that are missing.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from itertools import islice
from typing import Literal, TypeVar

from services.daemon_threads import in_thread
from services.domain import (
    Conversation,
    ConversationId,
    InstructionsAndSummary,
    Listed,
    Message,
    MessageId,
    Role,
    SearchedMessage,
    Space,
    SpaceId,
    UserId,
)
from services.errors import AppError, NotFound, SignedOut, Stale
from services.events import log_event
from services.search.index import Entry, Filter, Found, MessageIndex
from services.search.snippets import Snippet, Wanted, snippet
from services.search.words import Query, fold
from services.store.port import Store
from services.users.search_texts import complete, missing

Item = TypeVar("Item")
_Places = Mapping[ConversationId, Conversation]

SEARCH_THREAD = "search"  # the name of a thread that indexes messages
SEALING_THREAD = "search texts"  # the name of a thread that makes search texts
_AT_ONCE = 20  # the number of hits in one result
_TITLES, _MEMORIES = 5, 5  # the most of each in one result
_RECENT = 8  # the number of titles for an empty query
_FIRST, _NEXT = 20, 100  # the numbers of conversations that are read at once for the index
_AT_A_TIME = 100_000  # characters of messages that are indexed while a search waits: some 30 ms
# maximum new messages of a conversation that a search itself indexes; more are left to the background
_NEW_MESSAGES = 200
_TEXTS_AT_ONCE = 5_000  # messages whose search texts are read at once
_SEALING_SECONDS = 3.0  # between two conversations whose search texts are made: 20 a minute
_AGAIN_SECONDS = 60.0  # until search texts are made again after a failure
_ALL = 1_000_000  # more conversations than a user may have


class Chats(StrEnum):
    """The conversations in which a search looks."""

    ALL = "all"
    ACTIVE = "active"
    PINNED = "pinned"
    ARCHIVED = "archived"

    def has(self, conversation: Conversation) -> bool:
        match self:
            case Chats.ALL:
                return True
            case Chats.ACTIVE:
                return not conversation.is_archived
            case Chats.PINNED:
                return conversation.pinned_at is not None
            case Chats.ARCHIVED:
                return conversation.is_archived


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A search. *below*: continue where `Results.next_below` says."""

    words: str = field(default="", repr=False)
    order: Literal["newest", "best"] = "newest"
    below: int | None = None
    role: Role | None = None
    since: datetime | None = None
    until: datetime | None = None  # messages of this time are not found
    space_id: SpaceId | None = None
    chats: Chats = Chats.ALL

    @property
    def is_of_some_chats(self) -> bool:
        return self.space_id is not None or self.chats is not Chats.ALL


@dataclass(frozen=True, slots=True)
class FoundTitle:
    """A conversation whose title has the words."""

    conversation: Conversation
    title: Snippet
    space: Space | None


@dataclass(frozen=True, slots=True)
class FoundMessage:
    """A message that has the words; it may be in any version of its conversation."""

    conversation: Conversation
    message_id: MessageId
    role: Role
    position: int  # in the order of time
    snippet: Snippet

    @property
    def created_at(self) -> datetime:
        return datetime.fromtimestamp(self.position / 1_000_000, UTC)


@dataclass(frozen=True, slots=True)
class FoundMemory:
    """A fact, instructions or a summary with the words; of a *conversation*, of a *space*, or (both None) of the user."""

    kind: Literal["fact", "instructions", "summary"]
    snippet: Snippet
    space: Space | None = None
    conversation: Conversation | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """The results of a search, and how much of the user's conversations the index has."""

    titles: tuple[FoundTitle, ...]
    messages: tuple[FoundMessage, ...] = ()
    memories: tuple[FoundMemory, ...] = ()
    count: int = 0  # the messages that the search finds, in all
    # `Asked.below` of a search that continues, if more messages follow: the position of the last one, or the number of
    # ranked ones so far
    next_below: int | None = None
    read: int = 0  # the number of conversations that are indexed
    of: int = 0  # the number of conversations
    is_full: bool = False  # true: the index has no room for older conversations
    is_of_titles: bool = False  # true: the user's preferences leave out messages
    has_only_excluded: bool = False  # true: nothing was found because the query only excludes words


@dataclass(slots=True)
class _Indexed:
    """A record of the messages of a conversation that are indexed."""

    cuts: int  # the value of `Listed.cuts` when the messages were read
    up_to_seq: int = 0
    is_whole: bool = False  # false: the background thread still reads the conversation
    sealed_seq: int = 0  # the messages up to here have search texts, or cannot have any
    instructions_and_summary: InstructionsAndSummary | None = None  # None: it has neither
    seen_revs: tuple[int, int] = (0, 0)  # the revisions of these


class MessageSearch:
    """The search of one user, shared by the user's sessions in this process. Any thread may call any method."""

    def __init__(self, has_room: "Callable[[MessageSearch], bool]") -> None:
        """*has_room* is called after messages were added: false ends the indexing of older conversations."""
        self._has_room, self._index = has_room, MessageIndex()
        self._indexed: dict[ConversationId, _Indexed] = {}
        self._lock = threading.Lock()  # guards `_indexed`, together with the index's messages
        self._filling: Future[None] | None = None
        self._sealing: Future[None] | None = None
        self._seal_from = 0.0  # the time (`time.monotonic`) before which no search texts are made
        self._stopped = threading.Event()
        self._is_purging = self._is_purge_due = False
        # true: the background thread has ended, so new conversations are read at once
        self._is_filled = False
        self._left_out: Set[ConversationId] = frozenset()  # for which there is no room
        self.size = 0  # of the index, in bytes

    def __repr__(self) -> str:
        return "MessageSearch()"

    def stop(self) -> None:
        """Stop indexing, so that no more text enters memory."""
        self._stopped.set()

    def find(self, store: Store, asked: Asked) -> Results:
        """Search in the user's titles, messages and memories. *store*: the store of one of the user's sessions.

        May raise SignedOut or StoreUnavailable.
        """
        listed = self._catch_up(store)
        if self._is_purge_due:
            self._begin_purge(store)
        read = self._begin_filling(store, listed)
        self._begin_sealing(store)
        query = Query.read(asked.words)
        wanted = self._index.wanted(query)
        places = _places(store, asked)
        where = Filter(
            conversations=places.keys() if asked.is_of_some_chats else None,
            role=asked.role,
            since=asked.since,
            until=asked.until,
        )
        most, is_ranked, skipped = _AT_ONCE + 1, asked.order == "best", asked.below or 0
        if is_ranked:
            hits = self._index.best(query, most, where, skipped)
        else:
            hits = self._index.newest(query, most, where, asked.below)
        shown, next_below = hits[:_AT_ONCE], None
        if len(hits) == most:
            next_below = skipped + _AT_ONCE if is_ranked else shown[-1].position
        excluded = self._index.wanted(Query(query.excluded))
        return replace(
            _find_beside(
                store, asked, query, places, wanted, excluded, self._instructions_and_summaries()
            ),
            messages=tuple(_messages(store, shown, places, wanted)),
            count=self._index.count(query, where),
            next_below=next_below,
            read=read,
            of=len(listed),
            is_full=bool(self._left_out),
        )

    def refresh(self, store: Store) -> None:
        """Remove deleted messages from the index, and their words from memory, in the background."""
        if self._indexed:
            self._is_purge_due = True
            self._begin_purge(store)

    def _begin_purge(self, store: Store) -> None:
        """Start the thread that removes words, unless it is running and so will look again."""
        with self._lock:
            if self._is_purging:
                return
            self._is_purging = True
        in_thread(SEARCH_THREAD, lambda: self._purge(store))

    def _purge(self, store: Store) -> None:
        while True:
            with suppress(AppError):
                self._catch_up(store)
            with self._lock:
                if not self._is_purge_due or self._stopped.is_set():
                    self._is_purging = False
                    return
                self._is_purge_due = False
            for _ in self._index.purge():
                if self._stopped.is_set():
                    break

    def _catch_up(self, store: Store) -> Mapping[ConversationId, Listed]:
        """Bring the indexed conversations up to date; return the positions of all conversations.

        May raise SignedOut or StoreUnavailable.
        """
        listed = store.corpus.conversations()
        with self._lock:
            for chat_id, indexed in [*self._indexed.items()]:
                now = listed.get(chat_id)
                if now is None or now.cuts != indexed.cuts:
                    del self._indexed[chat_id]
                    self._index.remove_conversation(chat_id)
                    self._is_purge_due = True
                elif now.last_seq - indexed.up_to_seq > _NEW_MESSAGES:
                    indexed.is_whole = False  # the background thread reads the conversation again
            behind = {
                chat_id: indexed
                for chat_id, indexed in self._indexed.items()
                if indexed.is_whole and indexed.up_to_seq < listed[chat_id].last_seq
            }
            if self._is_filled:
                known = self._indexed.keys() | self._left_out
                new = [
                    chat_id
                    for chat_id, now in listed.items()
                    if chat_id not in known and now.last_seq <= _NEW_MESSAGES
                ]
                behind |= self._begin(new, listed)
        self._read(
            store, {chat_id: (indexed, listed[chat_id]) for chat_id, indexed in behind.items()}
        )
        self._read_instructions_and_summaries(store, listed)
        return listed

    def _read_instructions_and_summaries(
        self, store: Store, listed: Mapping[ConversationId, Listed]
    ) -> None:
        """Read the instructions and summaries of indexed conversations that have changed."""
        with self._lock:
            changed = {
                chat_id: indexed
                for chat_id, indexed in self._indexed.items()
                if indexed.is_whole and indexed.seen_revs != _revs(listed.get(chat_id))
            }
        for ids in _portions(changed, lambda _: 1, _NEXT):
            found = store.corpus.instructions_and_summaries(ids)
            for chat_id in ids:
                changed[chat_id].instructions_and_summary = found.get(chat_id)
                changed[chat_id].seen_revs = _revs(listed.get(chat_id))

    def _instructions_and_summaries(self) -> dict[ConversationId, InstructionsAndSummary]:
        """Return those of the indexed conversations that have any."""
        with self._lock:
            return {
                chat_id: indexed.instructions_and_summary
                for chat_id, indexed in self._indexed.items()
                if indexed.instructions_and_summary
            }

    def _read(self, store: Store, wanted: Mapping[ConversationId, tuple[_Indexed, Listed]]) -> None:
        """Index the new messages of conversations, unless a record was dropped meanwhile, because messages were deleted."""
        left = {
            chat_id: [range(indexed.up_to_seq + 1, now.last_seq + 1)]
            for chat_id, (indexed, now) in wanted.items()
        }
        # once the index is filled, the few messages of a new conversation are read more quickly without their texts
        new = [
            chat_id
            for chat_id, (indexed, now) in wanted.items()
            if not indexed.up_to_seq and not (self._is_filled and now.last_seq <= _NEW_MESSAGES)
        ]
        for ids in _portions(new, lambda chat_id: wanted[chat_id][1].last_seq, _TEXTS_AT_ONCE):
            found = store.corpus.search_texts(ids)
            self._add(
                wanted,
                [
                    _entry(chat_id, message)
                    for chat_id, texts in found.items()
                    for text in texts
                    for message in text.messages
                ],
            )
            for chat_id, texts in found.items():
                left[chat_id] = [*missing(texts, *left[chat_id])]
        sealed = {chat_id for chat_id in new if not left[chat_id]}
        while seqs := {chat_id: ranges.pop(0) for chat_id, ranges in left.items() if ranges}:
            for read in store.corpus.messages(seqs):
                self._add(
                    wanted,
                    [
                        _entry(chat_id, message)
                        for chat_id, said in read.items()
                        for message in said
                    ],
                )
        with self._lock:
            for chat_id, (indexed, now) in wanted.items():
                indexed.up_to_seq, indexed.is_whole = max(indexed.up_to_seq, now.last_seq), True
                if chat_id in sealed:
                    indexed.sealed_seq = indexed.up_to_seq

    def _add(
        self,
        wanted: Mapping[ConversationId, tuple[_Indexed, Listed]],
        entries: Sequence[Entry],
    ) -> None:
        """Index messages of the conversations *wanted*, unless a record was dropped meanwhile."""
        for some in _portions(entries, lambda entry: len(entry.body), _AT_A_TIME):
            with self._lock:
                if self._stopped.is_set():
                    return
                self._index.add(
                    entry
                    for entry in some
                    if self._indexed.get(entry.conversation_id) is wanted[entry.conversation_id][0]
                )
        self.size = self._index.size

    def _begin(
        self, ids: Sequence[ConversationId], listed: Mapping[ConversationId, Listed]
    ) -> dict[ConversationId, _Indexed]:
        """Add records of the first of the conversations *ids*. Callers hold the lock."""
        some = ids[: _NEXT if self._indexed else _FIRST]
        chosen = {chat_id: _Indexed(listed[chat_id].cuts) for chat_id in some}
        self._indexed |= chosen
        return chosen

    def _is_whole(self, conversation_id: ConversationId) -> bool:
        indexed = self._indexed.get(conversation_id)
        return indexed is not None and indexed.is_whole

    def _begin_filling(self, store: Store, listed: Mapping[ConversationId, Listed]) -> int:
        """Index the conversations that are not indexed, in the background; return the number of those that are."""
        with self._lock:
            read = sum(indexed.is_whole for indexed in self._indexed.values())
            is_idle = self._filling is None or self._filling.done()
            if is_idle and not all(map(self._is_whole, listed.keys() - self._left_out)):
                self._filling = in_thread(SEARCH_THREAD, lambda: self._fill(store))
        return min(read, len(listed))

    def _begin_sealing(self, store: Store) -> None:
        """Make the search texts that are missing, in the background, once all conversations are indexed."""
        with self._lock:
            is_idle = self._sealing is None or self._sealing.done()
            is_due = self._is_filled and time.monotonic() >= self._seal_from
            if is_idle and is_due and self._unsealed():
                self._sealing = in_thread(SEALING_THREAD, lambda: self._seal(store))

    def _unsealed(self) -> tuple[ConversationId, _Indexed] | None:
        """Return a conversation with messages that have no search text. Callers hold the lock."""
        return next(
            (
                (chat_id, indexed)
                for chat_id, indexed in self._indexed.items()
                if indexed.is_whole and indexed.sealed_seq < indexed.up_to_seq
            ),
            None,
        )

    def _seal(self, store: Store) -> None:
        """Make the search texts that are missing, one conversation after the other."""
        try:
            while not self._stopped.wait(_SEALING_SECONDS):
                with self._lock:
                    chosen = self._unsealed()
                if chosen is None or store.profile.preferences().searches_titles_only:
                    return
                chat_id, indexed = chosen
                if listed := store.corpus.conversations().get(chat_id):
                    with suppress(Stale, NotFound):  # messages were deleted meanwhile
                        complete(store.corpus, listed)
                indexed.sealed_seq = listed.last_seq if listed else indexed.up_to_seq
        except AppError as error:  # such as AccountFull: search goes on without the texts
            self._seal_from = time.monotonic() + _AGAIN_SECONDS
            log_event("search.unsealed", error=type(error))

    def _fill(self, store: Store) -> None:
        """Index the conversations that are not indexed, newest first, until none is left or there is no more room."""
        try:
            while not self._stopped.is_set():
                listed = self._catch_up(store)
                wanted = self._next(store, listed)
                if not wanted:
                    break
                self._read(store, wanted)
                if not self._has_room(self):
                    with self._lock:
                        self._left_out = listed.keys() - self._indexed.keys()
                    break
            self._is_filled = True
            self._begin_sealing(store)
        except AppError:
            log_event("search.unread")  # the next search goes on

    def _next(
        self, store: Store, listed: Mapping[ConversationId, Listed]
    ) -> dict[ConversationId, tuple[_Indexed, Listed]]:
        """Return the next conversations to index, with new records; empty if none is left."""
        newest = (conversation.id for conversation in store.conversations.titled("", _ALL))
        ids = [chat_id for chat_id in dict.fromkeys([*newest, *listed]) if chat_id in listed]
        with self._lock:
            left = [
                chat_id
                for chat_id in ids
                if chat_id not in self._left_out and not self._is_whole(chat_id)
            ]
            chosen = self._begin(left, listed)
        return {chat_id: (indexed, listed[chat_id]) for chat_id, indexed in chosen.items()}


class MessageSearches:
    """The searches of all users of this process, whose indexes share a number of bytes. Any thread may call any method."""

    def __init__(self, most_bytes: int) -> None:
        """*most_bytes*: the most that the indexes of all users take together."""
        self._most_bytes = most_bytes
        self._searches: dict[UserId, MessageSearch] = {}  # the one used last comes last
        self._lock = threading.Lock()

    def find(self, user_id: UserId) -> MessageSearch | None:
        """Return the search of a user if there is one."""
        return self._searches.get(user_id)

    def of(self, user_id: UserId, is_here: Callable[[], bool]) -> MessageSearch:
        """Return the search of a user; begin one if there is none. Raise SignedOut unless *is_here* after that."""
        with self._lock:
            known = self._searches.pop(user_id, None)
            search = known or MessageSearch(self._has_room)
            self._searches[user_id] = search
        if not is_here():
            if known is None:  # the user's last session may have ended just before
                self.drop(user_id)
            raise SignedOut
        return search

    def drop(self, user_id: UserId) -> None:
        """Drop the index of a user."""
        with self._lock:
            search = self._searches.pop(user_id, None)
        if search:
            search.stop()

    def _has_room(self, search: MessageSearch) -> bool:
        """Return True while all indexes fit; drop those that were not used for the longest time in favour of *search*."""
        with self._lock:
            sizes = {user_id: other.size for user_id, other in self._searches.items()}
            for user_id, other in [*self._searches.items()]:
                if sum(sizes.values()) <= self._most_bytes or other is search:
                    break
                del self._searches[user_id], sizes[user_id]
                other.stop()
        return sum(sizes.values()) <= self._most_bytes


def find_titles(store: Store, asked: Asked) -> Results:
    """Search in titles and memories alone, without an index. May raise SignedOut or StoreUnavailable."""
    index, query = MessageIndex(), Query.read(asked.words)
    wanted, excluded = index.wanted(query), index.wanted(Query(query.excluded))
    found = _find_beside(store, asked, query, _places(store, asked), wanted, excluded, {})
    return replace(found, is_of_titles=True)


def _find_beside(
    store: Store,
    asked: Asked,
    query: Query,
    places: _Places,
    wanted: Wanted,
    excluded: Wanted,
    of_chats: Mapping[ConversationId, InstructionsAndSummary],
) -> Results:
    """Return the titles and memories that *asked* finds: none with filters that only messages have, or further below."""
    has_only_excluded = query.is_empty and bool(query.excluded)
    if asked.below is not None or asked.role or asked.since or asked.until:
        return Results(titles=(), has_only_excluded=has_only_excluded)
    memories = (
        () if asked.is_of_some_chats else _memories(store, places, of_chats, wanted, excluded)
    )
    return Results(
        titles=tuple(_titles(store, asked, query, places, wanted)),
        memories=tuple(islice(memories, _MEMORIES)),
        has_only_excluded=has_only_excluded,
    )


def _places(store: Store, asked: Asked) -> _Places:
    """Return the conversations in which *asked* searches, in the order of the list."""
    return {
        conversation.id: conversation
        for conversation in store.conversations.titled("", _ALL, space_id=asked.space_id)
        if asked.chats.has(conversation)
    }


def _titles(
    store: Store, asked: Asked, query: Query, places: _Places, wanted: Wanted
) -> Iterator[FoundTitle]:
    """Yield the titles that have the words, the best first: equal to them, then beginning with them, then the others."""
    typed = " ".join(fold(asked.words).split())
    words = query.wanted_words or typed.split()

    def rank(found: tuple[str, Conversation]) -> tuple[bool, bool]:
        return found[0] != typed, not found[0].startswith(typed)

    titles = ((fold(conversation.title), conversation) for conversation in places.values())
    shown = [
        (title, conversation)
        for title, conversation in titles
        if all(word in title for word in words)
        and not any(word in title for word in query.excluded_words)
    ]
    if typed:
        shown.sort(key=rank)
    for _, conversation in shown[: _TITLES if typed else _RECENT]:
        title = snippet(conversation.title, wanted)
        yield FoundTitle(conversation, title, store.spaces.find(conversation.space_id))


def _messages(
    store: Store, hits: Sequence[Found], places: _Places, wanted: Wanted
) -> Iterator[FoundMessage]:
    missing = {hit.conversation_id for hit in hits} - places.keys()
    new = store.conversations.some(missing) if missing else []
    known = {**places, **{conversation.id: conversation for conversation in new}}
    for hit in hits:
        if conversation := known.get(hit.conversation_id):
            shown = snippet(hit.body, wanted)
            yield FoundMessage(conversation, hit.message_id, hit.role, hit.position, shown)


def _memories(
    store: Store,
    places: _Places,
    of_chats: Mapping[ConversationId, InstructionsAndSummary],
    wanted: Wanted,
    excluded: Wanted,
) -> Iterator[FoundMemory]:
    """Yield the facts, instructions and summaries that have all that is *wanted* and nothing *excluded*."""

    def found(text: str | None) -> Snippet | None:
        if not text or not wanted.is_in(text) or next(excluded.ranges(text), None) is not None:
            return None
        return snippet(text, wanted)

    if not wanted.parts:
        return
    for fact in store.facts.facts():
        if shown := found(fact.text):
            conversation = places.get(fact.conversation_id) if fact.conversation_id else None
            yield FoundMemory("fact", shown, store.spaces.find(fact.space_id), conversation)
    if shown := found(store.profile.preferences().instructions):
        yield FoundMemory("instructions", shown)
    for space in store.spaces.all():
        if shown := found(space.instructions):
            yield FoundMemory("instructions", shown, space)
    for chat_id, own in of_chats.items():
        if conversation := places.get(chat_id):
            if shown := found(own.instructions):
                yield FoundMemory("instructions", shown, conversation=conversation)
            if shown := found(own.summary):
                yield FoundMemory("summary", shown, conversation=conversation)


def _revs(listed: Listed | None) -> tuple[int, int]:
    return (listed.instructions_rev, listed.summary_rev) if listed else (0, 0)


def _portions(
    items: Iterable[Item], size: Callable[[Item], int], most: int
) -> Iterator[list[Item]]:
    """Yield *items* in portions, each of which ends with the item that brings its size to *most*."""
    some, sum_of_sizes = list[Item](), 0
    for item in items:
        some.append(item)
        sum_of_sizes += size(item)
        if sum_of_sizes >= most:
            yield some
            some, sum_of_sizes = [], 0
    if some:
        yield some


def _entry(conversation_id: ConversationId, message: Message | SearchedMessage) -> Entry:
    return Entry(
        message_id=message.id,
        conversation_id=conversation_id,
        role=message.role,
        created_at=message.created_at,
        body=message.body,
    )
