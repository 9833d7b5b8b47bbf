"""Search in the messages of one user: in one conversation, or in all conversations of its space.

Other conversations are indexed in the background when a search first needs them; new messages are indexed before each
prompt. If indexing is slow or the database is unreachable, the search for a prompt uses the messages indexed so far. From a
conversation that is in no space, the search finds only conversations that are in no space.
"""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from services.caches import LruCache
from services.daemon_threads import in_thread
from services.domain import (
    ConversationId,
    Listed,
    Message,
    MessageId,
    Role,
    SpaceId,
    Thread,
    TurnId,
)
from services.domain.context import Extract, RecalledMessage
from services.domain.policies import policy_named
from services.errors import AppError
from services.events import log_event
from services.memory.receipt import Receipt
from services.store.port import Corpus

# services.memory.recall imports numpy, which would take a tenth of the start-up time, so import it only when needed
if TYPE_CHECKING:
    from services.memory.recall import Hit, Passage

RECALL_THREAD = "recall"  # the name of a thread that indexes messages
_PATIENCE = 2.0  # maximum seconds that a prompt waits for messages to be indexed
_MOST_HITS = 1000
# maximum messages recalled from other conversations: in measurements, ten contained four fifths of the relevant facts,
# and more would make every prompt more expensive
_MOST_ELSEWHERE = 10
_MOST_OPENED = 2_000  # maximum number of cached messages from other conversations
_MOST_INDEXES = 20  # maximum indexes of single conversations in memory
# maximum receipts whose message ids are cached; the text of receipts is not cached
_MOST_RECEIPTS = 5000

Located = tuple[ConversationId, Message]


@dataclass(frozen=True, slots=True)
class StoredRecalls:
    """The messages that were recalled for a prompt, read from the receipt of the prompt's turn."""

    prefix_seq: int = 0
    # the messages recalled for the turn's own prompt, each with its extract if only a part was sent
    own: tuple[tuple[MessageId, Extract | None], ...] = ()
    # the conversation of each message recalled from another conversation, for this prompt or an earlier one
    elsewhere: Mapping[MessageId, ConversationId] = field(
        default_factory=dict[MessageId, ConversationId]
    )

    @classmethod
    def read(cls, text: str) -> "StoredRecalls":
        """Read the receipt *text*; return `_NO_RECALLS` for a turn without recall, or an unreadable receipt."""
        receipt = Receipt.from_json(text)
        if receipt is None or not policy_named(receipt.policy).kind.needs_search:
            return _NO_RECALLS
        return cls(
            receipt.prefix_seq,
            tuple(
                (note.message_id, note.extract)
                for note in receipt.recalls
                if note.recalled_for is None
            ),
            {note.message_id: where for note in receipt.recalls if (where := note.conversation_id)},
        )


_NO_RECALLS = StoredRecalls()


@dataclass(slots=True)
class _Indexed:
    """A record of the messages of one conversation that are indexed."""

    cuts: int  # the value of `Conversation.cuts` when the messages were indexed
    up_to_seq: int = 0  # all messages with a seq up to this one are indexed
    ids: set[MessageId] = field(default_factory=set[MessageId])
    # maps each prompt to its newest reply, and each reply to its continuation
    replies: dict[MessageId, MessageId] = field(default_factory=dict[MessageId, MessageId])


class _Index:
    """An index of the messages of some conversations. Callers hold the lock of the `Search` that owns the index."""

    def __init__(self, opened: LruCache[MessageId, Located]) -> None:
        from services.memory.recall import RecallIndex

        self._recall, self._opened = RecallIndex(), opened
        self.conversations: dict[ConversationId, _Indexed] = {}
        self.replaced: set[MessageId] = set()  # indexed replies to prompts that have a newer reply

    def search(self, query: str) -> "tuple[Hit, ...]":
        return self._recall.search(query, _MOST_HITS)

    def conversations_of(self, ids: Iterable[MessageId]) -> dict[MessageId, ConversationId]:
        """Map each of the messages *ids* to its conversation."""
        wanted = set(ids)
        return {
            message_id: conversation_id
            for conversation_id, indexed in self.conversations.items()
            for message_id in indexed.ids & wanted
        }

    def at(self, conversation_id: ConversationId, cuts: int) -> _Indexed:
        """Return the record of a conversation's indexed messages; empty if messages were deleted since they were indexed."""
        indexed = self.conversations.get(conversation_id)
        if indexed and indexed.cuts != cuts:
            self.drop(conversation_id)
        return self.conversations.setdefault(conversation_id, _Indexed(cuts))

    def add(self, conversation_id: ConversationId, cuts: int, messages: Sequence[Message]) -> None:
        """Index the *messages* that are not indexed yet."""
        indexed = self.at(conversation_id, cuts)
        new = [message for message in messages if message.id not in indexed.ids]
        self._recall.add(passages(conversation_id, new))
        for message in new:
            indexed.ids.add(message.id)
            if message.role is Role.ASSISTANT and message.parent_id:
                older = indexed.replies.get(message.parent_id)
                chain: set[MessageId] = set()
                while older and older not in chain:  # an edited store may have a circle of parents
                    chain.add(older)
                    older = indexed.replies.get(older)  # the continuation of the reply
                self.replaced |= chain
                indexed.replies[message.parent_id] = message.id

    def drop(self, conversation_id: ConversationId) -> None:
        if indexed := self.conversations.pop(conversation_id, None):
            self._recall.remove(indexed.ids)
            self.replaced -= indexed.ids
            # drop the cached messages, too, because some may be deleted by now
            for message_id in indexed.ids:
                self._opened.drop(message_id)


class Search:
    """Searches the messages of one user, with indexes in memory only. Any thread may call any method."""

    def __init__(self, corpus: Corpus | None = None) -> None:
        """*corpus* reads the user's stored messages; None: search only in the conversation of the prompt."""
        self._corpus = corpus
        # the user's conversations as last read from the store; empty if they must be read again
        self._listed: Mapping[ConversationId, Listed] = {}
        self._opened = LruCache[MessageId, Located](_MOST_OPENED)
        self._alone = LruCache[ConversationId, _Index](_MOST_INDEXES)
        self._spaces = defaultdict[SpaceId | None, _Index](lambda: _Index(self._opened))
        # ids of messages that the store no longer has; they are not read again until the next prompt is planned
        self._missing: set[MessageId] = set()
        self._recalls = LruCache[TurnId, StoredRecalls](_MOST_RECEIPTS)
        self._reading: Future[None] | None = None
        self._is_stopped = False
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return "Search()"

    def prepare(self) -> None:
        """Start indexing other conversations, unless that was started before, so that the next prompt need not wait."""
        if self._corpus and self._reading is None:
            self._read_on()

    def stop(self) -> None:
        """Stop indexing other conversations, so that no more of their text enters memory."""
        self._is_stopped = True

    def ranked(
        self, thread: Thread, past: tuple[Message, ...], prompt: str, *, is_elsewhere: bool = False
    ) -> tuple[RecalledMessage, ...]:
        """Return the messages that *prompt* may be about, best first: from *past*, a branch of *thread*, and, if
        *is_elsewhere*, from other conversations."""
        conversation, here = thread.conversation, {message.id for message in thread.messages}
        is_elsewhere = is_elsewhere and self._corpus is not None
        if is_elsewhere:
            # clear the list so that it is read again: a read in progress may predate a conversation's move to another space
            self._listed = {}
            self._missing = set()
            wait([self._read_on()], _PATIENCE)
        with self._lock:
            if is_elsewhere:
                index = self._spaces[conversation.space_id]
            else:
                index = self._alone.get(conversation.id) or _Index(self._opened)
                self._alone.put(conversation.id, index)
            index.add(conversation.id, conversation.cuts, thread.messages)
            hits = index.search(prompt)
            known = here | index.replaced
            far = [hit.id for hit in hits if hit.id not in known] if is_elsewhere else []
            places = index.conversations_of(far[:_MOST_ELSEWHERE])
        found: dict[MessageId, tuple[ConversationId | None, Message]] = {
            part.id: (None, message) for message in past for part in message.stored
        }
        with suppress(AppError):
            found |= self.opened(places, thread)
        # `ranked` has each message once, even if several parts of a reply match
        ranked: dict[MessageId, RecalledMessage] = {}
        for hit in hits:
            if located := found.get(hit.id):
                chat_id, message = located
                ranked.setdefault(
                    message.id, RecalledMessage(message, hit.score, hit.matched, chat_id)
                )
        return tuple(ranked.values())

    def opened(
        self, asked: Mapping[MessageId, ConversationId], thread: Thread
    ) -> dict[MessageId, Located]:
        """Read the *asked* messages (a map from message to conversation); omit those that have left the space of *thread*.

        May raise StoreUnavailable or SignedOut.
        """
        if self._corpus is None or not asked:
            return {}
        unknown = {
            message_id for message_id in asked if self._opened.get(message_id) is None
        } - self._missing
        if unknown:
            read = self._corpus.some({message_id: asked[message_id] for message_id in unknown})
            self._missing |= unknown - read.keys()
            for message_id, located in read.items():
                self._opened.put(message_id, located)
        if not self._listed:
            self._listed = self._corpus.conversations()
        listed, space_id = self._listed, thread.conversation.space_id
        return {
            message_id: located
            for message_id in asked
            if (located := self._opened.get(message_id))
            and (place := listed.get(located[0]))
            and place.space_id == space_id
        }

    def recalls(
        self,
        messages: Sequence[Message],
        receipts: Callable[[Sequence[Message]], Mapping[TurnId, str]],
    ) -> dict[MessageId, StoredRecalls]:
        """Return the stored recalls of each prompt whose reply is one of *messages*.

        *receipts*: a function that reads the receipts of those messages whose receipts are not cached; its errors are raised.
        """
        replies = {
            one.turn_id: one.parent_id
            for one in messages
            if one.turn_id and one.parent_id and one.role is Role.ASSISTANT
        }
        known = {turn_id: self._recalls.get(turn_id) for turn_id in replies}
        new = receipts([one for one in messages if one.turn_id and not known.get(one.turn_id)])
        for turn_id, text in new.items():
            known[turn_id] = one = StoredRecalls.read(text)
            self._recalls.put(turn_id, one)
        return {
            prompt_id: one
            for turn_id, prompt_id in replies.items()
            if (one := known[turn_id]) and one is not _NO_RECALLS
        }

    def forget(self, conversation_id: ConversationId) -> None:
        """Drop a conversation from the indexes and caches; if it still exists, it is indexed again when next needed."""
        self._alone.drop(conversation_id)
        with self._lock:
            self._listed = {
                chat_id: at for chat_id, at in self._listed.items() if chat_id != conversation_id
            }
            for index in self._spaces.values():
                index.drop(conversation_id)
        self._opened.drop_all(lambda located: located[0] == conversation_id)

    def _read_on(self) -> Future[None]:
        """Start a thread that indexes new messages, unless one is running; return its future."""
        with self._lock:
            if self._reading is None or self._reading.done():
                self._reading = in_thread(RECALL_THREAD, self._read)
            return self._reading

    def _read(self) -> None:
        """Index the new messages of all conversations."""
        if self._corpus is None:
            return
        try:
            listed = self._listed = self._corpus.conversations()
            with self._lock:
                for space_id, index in self._spaces.items():
                    there = {chat_id for chat_id, now in listed.items() if now.space_id == space_id}
                    for chat_id in index.conversations.keys() - there:
                        index.drop(chat_id)
                begun = {
                    chat_id: self._spaces[now.space_id].at(chat_id, now.cuts)
                    for chat_id, now in listed.items()
                }
            wanted = {
                chat_id: range(indexed.up_to_seq + 1, listed[chat_id].last_seq + 1)
                for chat_id, indexed in begun.items()
            }
            wanted = {chat_id: seqs for chat_id, seqs in wanted.items() if seqs}
            for read in self._corpus.messages(wanted):
                if self._is_stopped:
                    return
                with self._lock:
                    for chat_id, messages in read.items():
                        self._spaces[listed[chat_id].space_id].add(
                            chat_id, listed[chat_id].cuts, messages
                        )
            # for a conversation that was dropped in the meantime, this changes only the old record: the new record is read from 0
            for chat_id, seqs in wanted.items():
                begun[chat_id].up_to_seq = max(begun[chat_id].up_to_seq, seqs.stop - 1)
        except AppError:
            # the messages indexed so far stay in the index; the rest is read before the next prompt
            log_event("recall.unread")


def passages(conversation_id: ConversationId, messages: Iterable[Message]) -> "Iterator[Passage]":
    """Convert the *messages* of a conversation to passages for the index, omitting empty and unverified messages."""
    from services.memory.recall import Passage

    return (
        Passage(
            id=message.id,
            conversation_id=conversation_id,
            seq=message.seq,
            speaker=message.role,
            body=message.body,
            created_at=message.created_at,
        )
        for message in messages
        if message.is_verified and message.body
    )
