"""Calls of the model that the app makes by itself, beside the replies: at most one of a kind for each conversation."""

import threading

from services.chat.live_turn import LiveTurns
from services.domain import ConversationId, UserId


class Asides:
    """Those of one kind that this process makes. Who claims one says when it is over."""

    def __init__(self) -> None:
        self.turns = LiveTurns()  # not those of replies
        self._coming: dict[ConversationId, UserId] = {}
        self._lock = threading.Lock()

    def coming(self, user_id: UserId) -> frozenset[ConversationId]:
        """The conversations of a person for which one is being made."""
        with self._lock:
            return frozenset(one for one, owner in self._coming.items() if owner == user_id)
