"""Finding what one person said in their other conversations.

All of it is taken into memory, in the background, once it is first needed, and what is new before each prompt. Where
that takes long, or the database is away, a prompt is answered by what is there. A conversation in a space sees those of
its space, any other those of none.
"""

import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from services.chat.recollection import once, passages
from services.domain import ConversationId, Listed, Message, MessageId, Role, SpaceId, Thread
from services.domain.context import RecalledMessage
from services.errors import AppError
from services.events import log_event
from services.memory.recall import RecallIndex
from services.store.lru_cache import LruCache
from services.store.port import Corpus

_PATIENCE = 2.0  # seconds for which a prompt waits until all is read
_MOST_HITS = 1000
_MOST_ELSEWHERE = 10  # of these, from other conversations: they hold four fifths of what matters,
# and more would be paid for with every prompt, whether or not it is about any of them
_MOST_OPENED = 2_000


@dataclass(slots=True)
class _Known:
    """The indexed part of a conversation."""

    space_id: SpaceId | None
    cuts: int
    up_to_seq: int = 0
    ids: set[MessageId] = field(default_factory=set[MessageId])
    replies: dict[MessageId, MessageId] = field(
        default_factory=dict[MessageId, MessageId]
    )  # the newest to each prompt


class Elsewhere:
    """One person's conversations, searched together."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus
        self._listed: Mapping[ConversationId, Listed] = {}  # as last read
        self._indexes: defaultdict[SpaceId | None, RecallIndex] = defaultdict(RecallIndex)
        self._known: dict[ConversationId, _Known] = {}
        self._dropped: set[ConversationId] = set()  # since the last reading began
        self._older: set[MessageId] = set()  # replies that were written again
        self._opened = LruCache[MessageId, tuple[ConversationId, Message]](_MOST_OPENED)
        self._gone: set[MessageId] = set()  # not there as the last prompt was planned, or after it
        self._reading: threading.Thread | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return "Elsewhere()"

    def prepare(self) -> None:
        """Begin to read, unless that was done: a prompt may follow."""
        if self._reading is None:
            self._read_on()

    def ranked(
        self, thread: Thread, past: tuple[Message, ...], prompt: str
    ) -> tuple[RecalledMessage, ...]:
        """What *prompt* may be about, the best first: messages of *past*, a branch of *thread*, and of other
        conversations."""
        self._listed = {}  # a reading that is under way may have looked before something was moved
        self._gone = set()
        self._read_on().join(_PATIENCE)
        conversation, here = thread.conversation, {message.id for message in thread.messages}
        with self._lock:
            now = Listed(conversation.last_seq, conversation.space_id, conversation.cuts)
            self._take_in(conversation.id, now, thread.messages)
            hits = self._indexes[conversation.space_id].search(prompt, _MOST_HITS)
            far = [hit.id for hit in hits if hit.id not in here and hit.id not in self._older]
        found: dict[MessageId, tuple[ConversationId | None, Message]] = {
            part.id: (None, message) for message in past for part in message.stored
        }
        with suppress(AppError):
            found |= self.opened(far[:_MOST_ELSEWHERE], thread)
        return once(
            RecalledMessage(message, hit.score, hit.matched, its)
            for hit in hits
            if hit.id in found
            for its, message in (found[hit.id],)
        )

    def opened(
        self, ids: Iterable[MessageId], thread: Thread
    ) -> dict[MessageId, tuple[ConversationId, Message]]:
        """The messages among *ids* that *thread* may see, with their conversations. Raise StoreUnavailable, SignedOut."""
        asked = list(ids)
        unknown = {its for its in asked if self._opened.get(its) is None} - self._gone
        if unknown:
            some = self._corpus.some(unknown)
            self._gone |= unknown - some.keys()
            for message_id, found in some.items():
                self._opened.put(message_id, found)
        listed, space_id = self._listed, thread.conversation.space_id
        if asked and not listed:
            self._listed = listed = self._corpus.conversations()
        return {
            message_id: found
            for message_id in asked
            if (found := self._opened.get(message_id))
            and (its := listed.get(found[0]))
            and its.space_id == space_id
        }

    def forget(self, conversation_id: ConversationId) -> None:
        """Drop a conversation from memory; if it still exists, it is read again."""
        with self._lock:
            self._listed = {its: at for its, at in self._listed.items() if its != conversation_id}
            if conversation_id in self._known:
                self._drop(conversation_id)
        # those, too, that a receipt named and no index has
        self._opened.drop_all(lambda found: found[0] == conversation_id)

    def _read_on(self) -> threading.Thread:
        """The thread that reads what is new."""
        with self._lock:
            if self._reading is None or not self._reading.is_alive():
                self._reading = threading.Thread(target=self._read, name="recall", daemon=True)
                self._reading.start()
            return self._reading

    def _read(self) -> None:
        try:
            listed = self._listed = self._corpus.conversations()
            with self._lock:
                for gone in self._known.keys() - listed.keys():
                    self._drop(gone)
                wanted = {
                    conversation_id: range(self._up_to(conversation_id, now) + 1, now.last_seq + 1)
                    for conversation_id, now in listed.items()
                }
                self._dropped.clear()
            for found in self._corpus.messages({its: new for its, new in wanted.items() if new}):
                with self._lock:
                    for conversation_id, messages in found.items():
                        self._take_in(conversation_id, listed[conversation_id], messages)
            with self._lock:
                for conversation_id, new in wanted.items():
                    known = self._known.get(conversation_id)
                    if new and known and conversation_id not in self._dropped:
                        known.up_to_seq = max(known.up_to_seq, new.stop - 1)
        except AppError:  # what was taken in is there; the rest is read before the next prompt
            log_event("recall.unread")

    def _up_to(self, conversation_id: ConversationId, now: Listed) -> int:
        """Return the last seq that is indexed; 0 if the conversation changed its space or lost messages since."""
        known = self._known.get(conversation_id)
        if known and (known.space_id, known.cuts) != (now.space_id, now.cuts):
            self._drop(conversation_id)
            return 0
        return known.up_to_seq if known else 0

    def _take_in(
        self,
        conversation_id: ConversationId,
        now: Listed,
        messages: Sequence[Message],
    ) -> None:
        self._up_to(conversation_id, now)
        known = self._known.setdefault(conversation_id, _Known(now.space_id, now.cuts))
        new = [message for message in messages if message.id not in known.ids]
        self._indexes[now.space_id].add(passages(conversation_id, new))
        for message in new:
            known.ids.add(message.id)
            if message.role is Role.ASSISTANT and message.parent_id:
                older = known.replies.get(message.parent_id)
                while older:
                    self._older.add(older)
                    older = known.replies.get(older)  # what it went on with
                known.replies[message.parent_id] = message.id

    def _drop(self, conversation_id: ConversationId) -> None:
        known = self._known.pop(conversation_id)
        self._dropped.add(conversation_id)
        self._indexes[known.space_id].remove(known.ids)
        for message_id in known.ids:
            self._opened.drop(message_id)
        self._older -= known.ids
