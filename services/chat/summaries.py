"""Running summaries: who is having one made, and why the last one was not.

After a reply the conversation is looked at (`services.memory.plan_compaction`): if the next turn would no
longer fit, the model is asked, in the background and out of the person's budget, to put its oldest messages
into words. Where it fails, where the budget refuses and where its answer is no summary, the conversation goes
on with the latest messages, the page says so, and after a while it is tried again.
"""

from dataclasses import dataclass

from services.chat.asides import Asides
from services.domain import ConversationId, UserId
from services.errors import AppError, Refused

_MOST_SKIPPED = 15  # turns, after several failures in a row: each try may cost money


class NoSummary(Refused):
    """What the model said is no summary."""

    public = "The model's answer was no summary."


@dataclass(slots=True)
class _Trouble:
    """Why there is no summary yet, and how many turns pass until it is tried again."""

    failure: AppError
    in_a_row: int
    skipped: int = 0


class Summarising(Asides):
    """The summaries that this process makes."""

    def __init__(self) -> None:
        super().__init__()
        self._troubles: dict[ConversationId, _Trouble] = {}

    def claim(
        self, user_id: UserId, conversation_id: ConversationId, *, is_wanted: bool = False
    ) -> bool:
        """Whether it is now the caller's to see to the summary, and to say when that is `over`.

        *is_wanted*: its person asked for it, so it is tried whatever happened before.
        """
        with self._lock:
            if conversation_id in self._coming:
                return False
            trouble = self._troubles.get(conversation_id)
            if trouble and not is_wanted:
                trouble.skipped += 1
                if trouble.skipped < min(2 ** (trouble.in_a_row - 1), _MOST_SKIPPED + 1):
                    return False
            self._coming[conversation_id] = user_id
            return True

    def over(self, conversation_id: ConversationId, failure: AppError | None = None) -> None:
        """It was made, was not due, or came to *failure*."""
        with self._lock:
            self._coming.pop(conversation_id, None)
            before = self._troubles.pop(conversation_id, None)
            if failure:  # it is kept for long, and its frames hold the conversation
                failure.__traceback__ = failure.__cause__ = failure.__context__ = None
                in_a_row = before.in_a_row + 1 if before else 1
                self._troubles[conversation_id] = _Trouble(failure, in_a_row)

    def failure(self, conversation_id: ConversationId) -> AppError | None:
        """Why the last summary was not made, until one is."""
        with self._lock:
            trouble = self._troubles.get(conversation_id)
            return trouble.failure if trouble else None
