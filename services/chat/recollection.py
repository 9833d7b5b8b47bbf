"""Finding what was said earlier for a prompt, and what was found for the prompts before it."""

import threading
from collections.abc import Iterable, Iterator, Mapping

from services.domain import ConversationId, Message, MessageId, Role, Thread, TurnId
from services.memory import Passage, Recalled, RecallIndex, Receipt
from services.store.recent import Recent

_MOST_INDEXES = 20  # conversations that are kept ready to be searched
_MOST_HITS = 1000


class Recollection:
    """One person's conversations, as they are searched: in memory, made when they are first asked for."""

    def __init__(self) -> None:
        self._indexes = Recent[ConversationId, tuple[RecallIndex, set[MessageId]]](_MOST_INDEXES)
        self._one_at_a_time = threading.Lock()

    def __repr__(self) -> str:
        return "Recollection()"

    def forget(self, conversation_id: ConversationId) -> None:
        """What was said in it leaves the memory."""
        self._indexes.drop(conversation_id)

    def ranked(
        self, thread: Thread, past: tuple[Message, ...], prompt: str
    ) -> tuple[Recalled, ...]:
        """The messages of *past*, a branch of *thread*, that *prompt* may be about, the best first."""
        by_id = {message.id: message for message in past}
        with self._one_at_a_time:
            hits = self._index(thread).search(prompt, _MOST_HITS)
        return tuple(
            Recalled(by_id[hit.id], hit.score, hit.matched) for hit in hits if hit.id in by_id
        )

    def _index(self, thread: Thread) -> RecallIndex:
        conversation_id = thread.conversation.id
        index, known = self._indexes.get(conversation_id) or (RecallIndex(), set[MessageId]())
        new = [message for message in thread.messages if message.id not in known]
        index.add(passages(conversation_id, new))
        known.update(message.id for message in new)
        self._indexes.put(conversation_id, (index, known))
        return index


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


def receipts_by_prompt(
    past: Iterable[Message], receipts: Mapping[TurnId, str]
) -> dict[MessageId, Receipt]:
    """What the model was shown for each prompt of *past* that was planned with recall, where that is known."""
    found: dict[MessageId, Receipt] = {}
    for reply in past:
        text = receipts.get(reply.turn_id) if reply.turn_id else None
        receipt = Receipt.read(text) if text and reply.role is Role.ASSISTANT else None
        if receipt and reply.parent_id and receipt.policy == "retrieval":
            found[reply.parent_id] = receipt
    return found


def recalled_before(
    receipts: Mapping[MessageId, Receipt], messages: Iterable[Message]
) -> dict[MessageId, tuple[Message, ...]]:
    """What was recalled of *messages* for each prompt that has a receipt."""
    by_id = {message.id: message for message in messages}
    return {
        prompt_id: tuple(by_id[each] for each in receipt.recalled_here() if each in by_id)
        for prompt_id, receipt in receipts.items()
    }


def recalled_elsewhere(receipts: Mapping[MessageId, Receipt]) -> list[MessageId]:
    """What was recalled from other conversations."""
    return [
        note.message_id
        for receipt in receipts.values()
        for note in receipt.recalled
        if note.conversation_id
    ]
