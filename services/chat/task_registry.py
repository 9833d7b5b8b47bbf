"""The registry of background tasks: at most one of a kind per conversation, with fewer attempts after failures."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain
from math import inf

from cachetools import LRUCache

from services.daemon_threads import in_thread
from services.domain import ConversationId, MessageId, Purpose, UserId
from services.domain.memories import NotedFact
from services.domain.model_failures import ModelUnavailable
from services.errors import AppError
from services.memory.facts import BATCH, SILENCE

BACKGROUND_THREAD = "background-task"  # the name of every thread of a background task
# after repeated failures, at most this many turns pass without another attempt: each attempt may cost money
_MOST_SKIPPED = 15
# title calls that a model may spend on thoughts before it gets room for them
_MOST_TITLES_WITHOUT_TEXT = 2
_MOST_RESULTS = 5_000  # maximum results of ended tasks in memory, for all users together

Work = Callable[[], None]
_Key = tuple[Purpose, ConversationId]


@dataclass(slots=True)
class _Titles:
    """The title calls of a model that may think."""

    without_text: int = 0  # the number of calls whose tokens went into thoughts
    is_room_tried: bool = False  # true once a call with room for thoughts has begun
    has_room: bool | None = None  # whether such a call has given a title; None: it has not ended


@dataclass(slots=True, repr=False)
class _State:
    """The tasks of one kind in one conversation: the running task, and the result of the last task."""

    user_id: UserId
    is_running: bool = False
    # true if the services that the running task uses were dropped from memory; such a task must not postpone work
    is_dropped: bool = False
    # the message that the last ended task was about; no second task begins for this message
    finished: MessageId | None = None
    # the monotonic time at which the postponed `work` begins, unless a task is claimed earlier
    due_at: float = inf
    work: Work | None = None
    error: AppError | None = None
    failures: int = 0  # the number of failures since the last success
    skipped: int = 0  # the number of turns skipped since the last failure
    # the most recently noted facts, without those that the user has dismissed
    noted: tuple[NotedFact, ...] = ()


class BackgroundTasks:
    """The registry of the background tasks of this process. The caller of `claim` must call `end`.

    Any thread may call any method.
    """

    def __init__(
        self, *purposes: Purpose, fact_batch: int = BATCH, silence: timedelta = SILENCE
    ) -> None:
        """Accept only tasks of these *purposes*.

        Facts are noted once *fact_batch* prompts are waiting, or *silence* has passed without a new prompt.
        """
        self._purposes, self.fact_batch, self.silence = purposes, fact_batch, silence
        self._busy: dict[_Key, _State] = {}  # tasks that are running or postponed
        self._idle = LRUCache[_Key, _State](_MOST_RESULTS)
        self._titles = defaultdict[str, _Titles](_Titles)  # by the model's name
        self._lock = threading.Lock()

    def begin_title(self, model: str) -> bool | None:
        """Return whether a title call of *model* gets room for thoughts; None if no title is to be asked of it.

        A model that spends the tokens of two titles on thoughts gets room for them once; if these tokens are spent so,
        too, no more titles are asked of it in this process. The caller must call `end_title` unless None was returned.
        """
        with self._lock:
            titles = self._titles[model]
            if titles.without_text < _MOST_TITLES_WITHOUT_TEXT:
                return False
            if titles.has_room is None and not titles.is_room_tried:
                titles.is_room_tried = True
                return True
            return titles.has_room or None

    def end_title(self, model: str, *, had_room: bool, has_text: bool | None) -> None:
        """Note how a title call of *model* ended.

        *has_text*: False if its tokens, or its time, went into thoughts; None if it ended for another reason.
        """
        with self._lock:
            titles = self._titles[model]
            if had_room and has_text is None:
                titles.is_room_tried = titles.has_room is not None  # try again
            elif had_room:
                titles.has_room = titles.has_room or has_text
            elif has_text is False:
                titles.without_text += 1

    def coming(self, user_id: UserId, purpose: Purpose) -> frozenset[ConversationId]:
        """Return the conversations of a user in which a task of *purpose* is running."""
        with self._lock:
            return frozenset(
                conversation_id
                for (kind, conversation_id), state in self._busy.items()
                if (kind, state.user_id) == (purpose, user_id) and state.is_running
            )

    def claim(
        self,
        purpose: Purpose,
        user_id: UserId,
        conversation_id: ConversationId,
        message_id: MessageId,
        *,
        is_wanted: bool = False,
    ) -> bool:
        """Claim a task about a message; return False if the task must not begin.

        With each failure, more turns are skipped before the next attempt, unless the user requested the task (*is_wanted*).
        """
        if purpose not in self._purposes:
            return False
        with self._changed((purpose, conversation_id), user_id) as state:
            if state.is_running:
                return False
            if not is_wanted:
                if state.finished == message_id:
                    return False
                state.skipped += 1
                if state.skipped < min(2 ** (state.failures - 1), _MOST_SKIPPED + 1):
                    return False
            state.is_running, state.is_dropped = True, False
            state.due_at, state.work = inf, None
            return True

    def postpone(
        self, purpose: Purpose, user_id: UserId, conversation_id: ConversationId, work: Work
    ) -> None:
        """Schedule *work*: `begin_due` starts it once `silence` has passed. *work* replaces any work postponed earlier."""
        if purpose not in self._purposes:
            return
        with self._changed((purpose, conversation_id), user_id) as state:
            self._postpone(state, work)

    def is_postponed(self, purpose: Purpose, conversation_id: ConversationId) -> bool:
        with self._lock:
            state = self._find((purpose, conversation_id))
            return bool(state and state.work)

    def begin_due(self) -> None:
        """Begin all postponed work that is due, each in its own thread. Call this periodically."""
        now, due = time.monotonic(), list[Work]()
        with self._lock:
            for key, state in list(self._busy.items()):
                if state.work and state.due_at <= now:
                    due.append(state.work)
                    state.due_at, state.work = inf, None
                    self._keep(key, state)
        for work in due:
            in_thread(BACKGROUND_THREAD, work)

    def end(
        self,
        purpose: Purpose,
        conversation_id: ConversationId,
        finished: MessageId | None = None,
        *,
        error: AppError | None = None,
        noted: tuple[NotedFact, ...] = (),
        again: Work | None = None,
    ) -> None:
        """End a task. *finished*: the message that the task was about; None: another task for the message may begin.

        *again*: work to postpone, unless the user's last session has ended or the task's services were dropped from memory.
        """
        with self._lock:
            state = self._busy.get((purpose, conversation_id))
            if state is None:  # the user's last session has ended, so no result is recorded
                return
            state.is_running, state.skipped = False, 0
            state.failures = state.failures + 1 if error else 0
            if finished is not None:
                state.finished = finished
            if finished is not None or error:
                # the facts that failed attempts have noted are shown together with those of this attempt
                state.noted = (*(state.noted if state.error else ()), *noted)
            state.error = error
            # drop the traceback and the provider's sentence, because both contain the conversation's text, and the error
            # stays in memory for a long time
            if isinstance(error, ModelUnavailable):
                error.details = None
            if error:
                error.__traceback__ = error.__cause__ = error.__context__ = None
            if again and not state.is_dropped:
                self._postpone(state, again)
            self._keep((purpose, conversation_id), state)

    def failure(self, purpose: Purpose, conversation_id: ConversationId) -> AppError | None:
        """Return the error of the last failed task of *purpose*, or None if a later task succeeded."""
        with self._lock:
            state = self._find((purpose, conversation_id))
            return state.error if state else None

    def noted(
        self, conversation_id: ConversationId, up_to: MessageId | None = None
    ) -> tuple[NotedFact, ...]:
        """Return the most recently noted facts; with *up_to*, only if this is the last prompt that they were noted from."""
        with self._lock:
            state = self._find((Purpose.FACTS, conversation_id))
            return state.noted if state and up_to in (None, state.finished) else ()

    def dismiss(self, conversation_id: ConversationId, dismissed: tuple[NotedFact, ...]) -> None:
        """Remove *dismissed* from the most recently noted facts."""
        with self._lock:
            if state := self._find((Purpose.FACTS, conversation_id)):
                state.noted = tuple(one for one in state.noted if one not in dismissed)

    def drop_noted(self, user_id: UserId) -> None:
        """Drop a user's most recently noted facts and postponed tasks from memory; running tasks continue."""
        with self._lock:
            for key, state in self._of(user_id):
                state.noted, state.due_at, state.work = (), inf, None
                state.is_dropped = state.is_running
                self._keep(key, state)

    def forget(self, user_id: UserId) -> None:
        """Drop the tasks of a user whose last session has ended; the result of a running task will not be recorded."""
        with self._lock:
            for key, _ in self._of(user_id):
                self._busy.pop(key, None)
                self._idle.pop(key, None)

    @contextmanager
    def _changed(self, key: _Key, user_id: UserId) -> Generator[_State]:
        """Yield the state of *key*, which the `with` block may change; store the changed state afterwards."""
        with self._lock:
            state = self._find(key) or _State(user_id)
            try:
                yield state
            finally:
                self._keep(key, state)

    def _postpone(self, state: _State, work: Work) -> None:
        state.due_at, state.work = time.monotonic() + self.silence.total_seconds(), work

    def _find(self, key: _Key) -> _State | None:
        return self._busy.get(key) or self._idle.get(key)

    def _keep(self, key: _Key, state: _State) -> None:
        """Store *state* while its task is running or postponed; afterwards, keep it in an LRU cache."""
        self._busy.pop(key, None)
        self._idle.pop(key, None)
        kept = self._busy if state.is_running or state.work else self._idle
        kept[key] = state

    def _of(self, user_id: UserId) -> list[tuple[_Key, _State]]:
        every = chain(self._busy.items(), self._idle.items())
        return [(key, state) for key, state in every if state.user_id == user_id]
