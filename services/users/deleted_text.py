"""When users deleted text for good, so that what was drawn before, and may contain the text, leaves this process's memory."""

import math
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field

from services.domain import UserId


@dataclass(frozen=True, slots=True)
class _Deletion:
    at: float
    until: float  # the end of its Undo


@dataclass(slots=True)
class DeletedText:
    """The deletions of this process's users, by the clock `time.monotonic`. Any thread may call any method."""

    _deletions: defaultdict[UserId, list[_Deletion]] = field(
        default_factory=lambda: defaultdict[UserId, list[_Deletion]](list)
    )
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, user_id: UserId, seconds: float) -> None:
        """Note that *user_id* has just deleted text, which can be restored for *seconds*."""
        now = time.monotonic()
        with self._lock:
            self._deletions[user_id].append(_Deletion(now, now + seconds))

    def latest(self, user_id: UserId) -> float:
        """Return the time of the user's latest deletion that can no longer be undone; minus infinity if there is none."""
        now = time.monotonic()
        with self._lock:
            deletions = self._deletions.get(user_id, [])
            over = [deletion for deletion in deletions if deletion.until <= now]
            latest = max(over, key=lambda deletion: deletion.at, default=None)
            for deletion in over:
                if deletion is not latest:
                    deletions.remove(deletion)
        return latest.at if latest else -math.inf

    def forget(self, user_id: UserId) -> None:
        """Drop the deletions of a user whose last session of this process has ended, with all that was drawn for it."""
        with self._lock:
            self._deletions.pop(user_id, None)
