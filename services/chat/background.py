"""Background model calls of this process (title, summary, facts): which are running, and what came of the last ones."""

import threading
from dataclasses import dataclass, replace

from services.domain import ConversationId, MessageId, Purpose, UserId
from services.domain.memories import NotedFact
from services.errors import AppError
from services.store.lru_cache import LruCache

_MOST_SKIPPED = 15  # turns, after several failures in a row: each try may cost money
_MOST_REMEMBERED = 500  # conversations in which something was noted last


@dataclass(frozen=True, slots=True)
class _LastNoted:
    """The facts noted after a prompt, without those that were dismissed."""

    user_id: UserId
    prompt_id: MessageId
    noted: tuple[NotedFact, ...]


@dataclass(slots=True)
class _SummaryFailure:
    """Why there is no summary yet, and how many turns were skipped since it was tried."""

    error: AppError
    in_a_row: int
    skipped: int = 0


class BackgroundTasks:
    """At most one background task of a purpose per conversation. Who claims one ends it, whatever comes of it."""

    def __init__(self, *purposes: Purpose) -> None:
        """Only tasks of these *purposes* can be claimed."""
        self._purposes = purposes
        self._running: dict[tuple[Purpose, ConversationId], UserId] = {}
        self._titled: set[ConversationId] = set()
        self._failures: dict[ConversationId, _SummaryFailure] = {}
        self._noted = LruCache[ConversationId, _LastNoted](_MOST_REMEMBERED)
        self._waiting: dict[ConversationId, MessageId] = {}  # the newest prompt while one is read
        self._lock = threading.Lock()

    def coming(self, user_id: UserId, purpose: Purpose) -> frozenset[ConversationId]:
        """The conversations of a user in which a task of *purpose* is running."""
        with self._lock:
            running = self._running.items()
            return frozenset(c for (kind, c), u in running if (kind, u) == (purpose, user_id))

    def claim_title(self, user_id: UserId, conversation_id: ConversationId) -> bool:
        """Claim the title of a conversation; true once in the life of this process."""
        with self._lock:
            if conversation_id in self._titled:
                return False
            self._titled.add(conversation_id)
            return self._claim(Purpose.TITLE, user_id, conversation_id)

    def end_title(self, conversation_id: ConversationId) -> None:
        with self._lock:
            del self._running[Purpose.TITLE, conversation_id]

    def claim_summary(
        self, user_id: UserId, conversation_id: ConversationId, *, is_wanted: bool = False
    ) -> bool:
        """Claim the summary of a conversation. *is_wanted* by its user: whatever failed before."""
        with self._lock:
            failure = self._failures.get(conversation_id)
            is_running = (Purpose.SUMMARY, conversation_id) in self._running
            if failure and not is_wanted and not is_running:
                failure.skipped += 1
                if failure.skipped < min(2 ** (failure.in_a_row - 1), _MOST_SKIPPED + 1):
                    return False
            return self._claim(Purpose.SUMMARY, user_id, conversation_id)

    def end_summary(self, conversation_id: ConversationId, error: AppError | None = None) -> None:
        """End the summary: it was made or not due, or *error* came of it."""
        with self._lock:
            del self._running[Purpose.SUMMARY, conversation_id]
            before = self._failures.pop(conversation_id, None)
            if error:  # it is kept for long, and its frames hold the conversation
                error.__traceback__ = error.__cause__ = error.__context__ = None
                in_a_row = before.in_a_row + 1 if before else 1
                self._failures[conversation_id] = _SummaryFailure(error, in_a_row)

    def summary_failure(self, conversation_id: ConversationId) -> AppError | None:
        """Why the last summary was not made, until one is."""
        with self._lock:
            failure = self._failures.get(conversation_id)
            return failure.error if failure else None

    def claim_facts(
        self, user_id: UserId, conversation_id: ConversationId, prompt_id: MessageId
    ) -> bool:
        """Claim a prompt to be read for facts; while another of the conversation is, let it wait for that."""
        with self._lock:
            last = self._noted.get(conversation_id)
            if last and last.prompt_id == prompt_id:
                return False
            is_claimed = self._claim(Purpose.FACTS, user_id, conversation_id)
            if (Purpose.FACTS, conversation_id) in self._running and not is_claimed:
                self._waiting[conversation_id] = prompt_id
            return is_claimed

    def end_facts(
        self,
        user_id: UserId,
        conversation_id: ConversationId,
        prompt_id: MessageId,
        noted: tuple[NotedFact, ...] | None,
    ) -> MessageId | None:
        """End the reading of a prompt, of which *noted* came; None: it failed, and may be read once more.

        Return the prompt that waited, which the caller has now claimed, unless this one failed.
        """
        with self._lock:
            if noted is not None:
                self._noted.put(conversation_id, _LastNoted(user_id, prompt_id, noted))
            waiting = self._waiting.pop(conversation_id, None)
            if noted is None or waiting in (None, prompt_id):
                self._running.pop((Purpose.FACTS, conversation_id), None)
                return None
            return waiting

    def noted(self, conversation_id: ConversationId) -> tuple[NotedFact, ...]:
        """What was noted last, and not dismissed."""
        last = self._noted.get(conversation_id)
        return last.noted if last else ()

    def dismiss(self, conversation_id: ConversationId, dismissed: tuple[NotedFact, ...]) -> None:
        """Leave these out of what was noted last."""
        with self._lock:
            if last := self._noted.get(conversation_id):
                left = tuple(one for one in last.noted if one not in dismissed)
                self._noted.put(conversation_id, replace(last, noted=left))

    def forget(self, user_id: UserId) -> None:
        """Drop what was noted of a user who has left."""
        self._noted.drop_all(lambda last: last.user_id == user_id)

    def _claim(self, purpose: Purpose, user_id: UserId, conversation_id: ConversationId) -> bool:
        if purpose not in self._purposes or (purpose, conversation_id) in self._running:
            return False
        self._running[purpose, conversation_id] = user_id
        return True
