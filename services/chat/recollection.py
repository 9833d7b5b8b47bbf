"""Finding what was said earlier for a prompt, and what was found for the prompts before it."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from services.domain import ConversationId, Message, MessageId, Role, Thread, TurnId
from services.domain.context import Extract, RecalledMessage
from services.memory.recall import Passage, RecallIndex
from services.memory.receipt import Receipt
from services.store.lru_cache import LruCache

_MOST_INDEXES = 20  # conversations that are kept ready to be searched
_MOST_HITS = 1000
_MOST_RECEIPTS = 5000  # some ids of each


@dataclass(frozen=True, slots=True)
class Brought:
    """The recalled messages of a prompt, read from its receipt."""

    is_known: bool = False  # the turn was planned with recall, and its receipt can be read
    prefix_seq: int = 0
    # for the turn's own prompt, and the extract if not all of a message was sent
    recalled: tuple[tuple[MessageId, Extract | None], ...] = ()
    elsewhere: tuple[MessageId, ...] = ()  # of other conversations, for earlier prompts too

    @classmethod
    def read(cls, text: str) -> "Brought":
        """Read the receipt *text*."""
        receipt = Receipt.from_json(text)
        if receipt is None or receipt.policy != "retrieval":
            return cls()
        own = tuple(
            (note.message_id, note.extract) for note in receipt.recalls if note.recalled_for is None
        )
        far = tuple(note.message_id for note in receipt.recalls if note.conversation_id)
        return cls(True, receipt.prefix_seq, own, far)


class Recollection:
    """One person's conversations, as they are searched: in memory, made when they are first asked for."""

    def __init__(self) -> None:
        self._brought = LruCache[TurnId, Brought](_MOST_RECEIPTS)  # a receipt never changes
        self._indexes = LruCache[ConversationId, tuple[RecallIndex, set[MessageId]]](_MOST_INDEXES)
        self._one_at_a_time = threading.Lock()

    def __repr__(self) -> str:
        return "Recollection()"

    def forget(self, conversation_id: ConversationId) -> None:
        """Drop the index of a conversation."""
        self._indexes.drop(conversation_id)

    def ranked(
        self, thread: Thread, past: tuple[Message, ...], prompt: str
    ) -> tuple[RecalledMessage, ...]:
        """The messages of *past*, a branch of *thread*, that *prompt* may be about, the best first."""
        by_id = {part.id: message for message in past for part in message.stored}
        with self._one_at_a_time:
            hits = self._index(thread).search(prompt, _MOST_HITS)
        return once(
            RecalledMessage(by_id[hit.id], hit.score, hit.matched)
            for hit in hits
            if hit.id in by_id
        )

    def brought(
        self,
        messages: Sequence[Message],
        receipts: Callable[[Sequence[Message]], Mapping[TurnId, str]],
    ) -> dict[MessageId, Brought]:
        """What was brought back for each prompt whose reply is one of *messages*, where that was planned with
        recall. *receipts* is asked once for each reply. Raise what it does."""
        replies = {
            one.turn_id: one.parent_id
            for one in messages
            if one.turn_id and one.parent_id and one.role is Role.ASSISTANT
        }
        known = {turn_id: self._brought.get(turn_id) for turn_id in replies}
        new = receipts([one for one in messages if one.turn_id and not known.get(one.turn_id)])
        for turn_id, text in new.items():
            known[turn_id] = one = Brought.read(text)
            self._brought.put(turn_id, one)
        return {
            prompt_id: one
            for turn_id, prompt_id in replies.items()
            if (one := known[turn_id]) and one.is_known
        }

    def _index(self, thread: Thread) -> RecallIndex:
        conversation_id = thread.conversation.id
        index, known = self._indexes.get(conversation_id) or (RecallIndex(), set[MessageId]())
        deleted = known - {message.id for message in thread.messages}
        index.remove(deleted)
        known -= deleted
        new = [message for message in thread.messages if message.id not in known]
        index.add(passages(conversation_id, new))
        known.update(message.id for message in new)
        self._indexes.put(conversation_id, (index, known))
        return index


def once(recalled: Iterable[RecalledMessage]) -> tuple[RecalledMessage, ...]:
    """The first of each message of *recalled*: several parts of a reply that went on may be found."""
    found: dict[MessageId, RecalledMessage] = {}
    for one in recalled:
        found.setdefault(one.message.id, one)
    return tuple(found.values())


def passages(conversation_id: ConversationId, messages: Iterable[Message]) -> Iterator[Passage]:
    """*messages* of a conversation as they are searched, without those that say nothing."""
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
