"""Finding what was said earlier for a prompt, and what was found for the prompts before it."""

import threading
from collections.abc import Iterable, Mapping

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
        index.add(
            Passage(
                id=message.id,
                conversation_id=conversation_id,
                seq=message.seq,
                speaker=message.role,
                body=message.body,
                created_at=message.created_at,
            )
            for message in new
            if message.is_verified and message.body
        )
        known.update(message.id for message in new)
        self._indexes.put(conversation_id, (index, known))
        return index


def recalled_before(
    past: Iterable[Message], receipts: Mapping[TurnId, str]
) -> tuple[dict[MessageId, tuple[Message, ...]], int]:
    """What was recalled of *past* for each of its prompts that has a receipt, and the last epoch.

    Only turns that were planned with recall count.
    """
    by_id = {message.id: message for message in past}
    found: dict[MessageId, tuple[Message, ...]] = {}
    epoch_seq = 0
    for reply in by_id.values():
        text = receipts.get(reply.turn_id) if reply.turn_id else None
        if reply.role is not Role.ASSISTANT or not reply.parent_id or not text:
            continue
        receipt = Receipt.read(text)
        if receipt is None or receipt.policy != "retrieval":
            continue
        found[reply.parent_id] = tuple(
            by_id[message_id] for message_id in receipt.recalled_here() if message_id in by_id
        )
        epoch_seq = receipt.epoch_seq
    return found, epoch_seq
