"""Turns whose replies are still streaming. They belong to the server process, not to a page.

A page follows a turn, and finds it again after a reload or in a second tab; closing a tab does not
stop the turn. Followers learn that a turn is over only after the reply is stored.
"""

import logging
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from services.daemon_threads import in_thread
from services.domain import (
    ConversationId,
    MessageId,
    Purpose,
    Thoughts,
    Thread,
    TurnId,
    Usage,
    UserId,
)
from services.domain.turns import Pace, StopCause
from services.errors import AppError, Busy, SignedOut, StoreUnavailable
from services.events import log_event

_logger = logging.getLogger(__name__)

TURN_THREADS, BEAT_THREADS = "turn-", "beat-"  # prefixes of the names of a turn's two threads
# minimum seconds between two page updates with new text; the pauses grow with the number of readers, and with
# the length of the text, because a browser redraws the whole text each time
_FRAME_SECONDS = 0.005
_DRAWN_CHARACTERS = 500_000  # maximum characters that one page redraws per second
_DRAWINGS = 500  # maximum page updates per second, for all readers of this process together
# maximum seconds that a follower waits for new text, because a page's script cannot be stopped while it waits
_LONGEST_SILENCE = 0.25
_LONGEST_THOUGHTS = 100_000  # maximum bytes of a reply's thoughts that are stored
# control characters, which are removed because each takes six bytes in JSON
_CONTROL = {code: None for code in range(32) if chr(code) not in "\n\t"}
# seconds for which a failed turn stays in memory, so that pages can show its error
_FAILURE_SECONDS = 300.0
_readers: set[object] = set()  # the current followers (pages that draw a reply) in this process


@dataclass(eq=False, repr=False)
class LiveTurn:
    """A streaming reply, or a background call. The repr contains no text.

    One thread adds the text and closes the turn; any thread may follow, stop or read the turn, or wait for its end.
    """

    user_id: UserId
    conversation_id: ConversationId
    id: TurnId
    prompt_id: MessageId
    # the session that began the turn; the turn is stopped when the session ends
    owner: object = None
    # the conversation including this turn's prompt; pages show this copy until they read the stored conversation
    thread: Thread | None = None
    purpose: Purpose = Purpose.REPLY
    pace: Pace = field(default_factory=Pace)
    max_tokens: int = 0  # the reserved length of the reply, in tokens
    failure: AppError | None = field(default=None, init=False)
    # the first cause for which the turn was stopped; None: it was not
    stopped_by: StopCause | None = field(default=None, init=False)
    is_cut: bool = field(default=False, init=False)  # true if the reply reached its length limit
    is_done: bool = field(default=False, init=False)
    # true if the endpoint does not stream: the whole reply will come at once
    is_at_once: bool = field(default=False, init=False)
    usage: Usage | None = field(default=None, init=False)  # the usage that the endpoint reported
    # the thoughts that the last checkpoint stored
    kept_thoughts: Thoughts | None = field(default=None, init=False)
    thought_bytes: int = field(default=0, init=False)  # the bytes of all thoughts, stored or not
    # milliseconds from the beginning of the turn to its first token
    first_token_ms: int | None = field(default=None, init=False)
    _began_at: float = field(default_factory=time.monotonic, init=False)
    _thoughts: list[str] = field(default_factory=list[str], init=False)
    # seconds from the beginning of the turn to the first words of the reply; 0 until these arrive
    _thought_seconds: float = field(default=0.0, init=False)
    _pieces: list[str] = field(default_factory=list[str], init=False)
    _pushed: int = field(default=0, init=False)
    _bytes: int = field(default=0, init=False)
    _changed: threading.Condition = field(default_factory=threading.Condition, init=False)
    _ended_at: float = field(default=0.0, init=False)
    _on_stop: Callable[[], None] | None = field(default=None, init=False)

    def said(self) -> str:
        """Return the whole text of the reply so far."""
        with self._changed:
            self._pieces = ["".join(self._pieces)]
            return _mended(self._pieces[0])

    def waited_seconds(self) -> float:
        """Return the seconds since the turn began."""
        return time.monotonic() - self._began_at

    def think(self, piece: str) -> None:
        """Add *piece* to the thoughts until they reach the limit of stored thoughts; add its bytes to `thought_bytes`.

        Followers are not notified, because each follower wakes up four times a second anyway.
        """
        self._note_first_token()
        piece = piece.translate(_CONTROL)
        with self._changed:
            if self.thought_bytes <= _LONGEST_THOUGHTS:
                self._thoughts.append(piece[: _LONGEST_THOUGHTS + 1])
            self.thought_bytes += len(piece.encode(errors="surrogatepass"))

    def streamed(self) -> tuple[str, str]:
        """Return the thoughts in memory and the text so far. The user pays for both, whatever the purpose of the turn."""
        with self._changed:
            return _mended("".join(self._thoughts)), self.said()

    def thoughts(self) -> Thoughts | None:
        """Return the thoughts of a reply so far, shortened to their first 100 KB; None for other purposes."""
        if not self._thoughts or self.purpose is not Purpose.REPLY:
            return None
        with self._changed:
            self._thoughts = ["".join(self._thoughts)]
            octets = _mended(self._thoughts[0]).encode()
        return Thoughts(
            text=octets[:_LONGEST_THOUGHTS].decode(errors="ignore"),
            seconds=max(1, round(self._thought_seconds or self.waited_seconds())),
            is_shortened=len(octets) > _LONGEST_THOUGHTS,
        )

    def follow(self) -> Iterator[str]:
        """Yield the whole text so far whenever it has grown, and after short silences, until the reply is stored."""
        reader, seen, drawn_at, text = object(), -1, 0.0, ""
        _readers.add(reader)
        try:
            while True:
                with self._changed:
                    if self._pushed == seen and not self.is_done:
                        self._changed.wait(_LONGEST_SILENCE)
                # `drawn_at` is 0 until there is text, so the first words are drawn without a pause
                time.sleep(max(0.0, drawn_at + _pause(len(text)) - time.monotonic()))
                is_done, seen, text = self.is_done, self._pushed, self.said()
                drawn_at = time.monotonic() if text else 0.0
                yield text
                if is_done:
                    return
        finally:
            _readers.discard(reader)

    @property
    def is_stopped(self) -> bool:
        return self.stopped_by is not None

    def stop(self, cause: StopCause = StopCause.USER) -> None:
        """Cancel the request to the model; the text received so far is kept. The first *cause* gives the outcome."""
        self.stopped_by = self.stopped_by or cause
        if self._on_stop:
            self._on_stop()

    def wait(self, seconds: float) -> bool:
        """Return True once the turn is stored and settled; False after *seconds*."""
        with self._changed:
            return self._changed.wait_for(lambda: self.is_done, seconds)

    def when_stopped(self, end_request: Callable[[], None]) -> None:
        """Call *end_request* when the turn is stopped, or immediately if it is stopped already."""
        self._on_stop = end_request
        if self.is_stopped:
            end_request()

    def push(self, piece: str) -> int:
        """Add *piece* to the text, and return the size of the whole text in bytes."""
        with self._changed:
            if not self._pushed:
                self._thought_seconds = self.waited_seconds()
                self._note_first_token()
            self._pieces.append(piece)
            self._pushed += 1
            self._bytes += len(piece.encode(errors="surrogatepass"))
            self._changed.notify_all()
            return self._bytes

    def _note_first_token(self) -> None:
        if self.first_token_ms is None:
            self.first_token_ms = round(1000 * self.waited_seconds())

    def close(self, failure: AppError | None) -> None:
        """Mark the turn as done, with its *failure* if it failed, and notify the followers."""
        with self._changed:
            self.failure, self.is_done, self._ended_at = failure, True, time.monotonic()
            self.thread = None
            self._changed.notify_all()

    def is_forgotten(self) -> bool:
        """Return True if the turn may be dropped from memory: it is done, and no page needs to show its failure any more."""
        return self.is_done and (
            self.failure is None
            # the session has ended: no page will show the failure, or call `find`, which would drop the turn later
            or isinstance(self.failure, SignedOut)
            or self.purpose is not Purpose.REPLY
            or time.monotonic() - self._ended_at > _FAILURE_SECONDS
        )


def _pause(characters: int) -> float:
    """Return the seconds to wait between two page updates with a text of this length."""
    return max(_FRAME_SECONDS, characters / _DRAWN_CHARACTERS, len(_readers) / _DRAWINGS)


def _mended(text: str) -> str:
    """Return *text* without lone surrogates, which some endpoints send and no store accepts."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


_Key = tuple[UserId, ConversationId, Purpose]


@dataclass(slots=True)
class LiveTurns:
    """All live turns of this process: at most one per conversation and purpose. Any thread may call any method."""

    _turns: dict[_Key, LiveTurn] = field(default_factory=dict[_Key, LiveTurn], repr=False)
    # the sessions that are ending; they cannot begin turns
    _leaving: set[object] = field(default_factory=set[object], repr=False)
    _is_ending: bool = False  # true once the process is ending; no turn can begin
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def find(
        self, user_id: UserId, conversation_id: ConversationId, purpose: Purpose = Purpose.REPLY
    ) -> LiveTurn | None:
        """Return the turn of *purpose* in a conversation, if it is live or failed in the last few minutes."""
        key = user_id, conversation_id, purpose
        with self._lock:
            turn = self._turns.get(key)
            # drop the turn here, because it contains text, and no other code is certain to drop it
            if turn and turn.is_forgotten():
                del self._turns[key]
                return None
            return turn

    def has_live(self, is_meant: Callable[[LiveTurn], bool] = lambda _: True) -> bool:
        """Return True if any turn that *is_meant* selects is still live."""
        with self._lock:
            return any(not turn.is_done and is_meant(turn) for turn in self._turns.values())

    def coming(self, user_id: UserId) -> frozenset[ConversationId]:
        """Return the conversations of a user in which a reply is still streaming."""
        with self._lock:
            turns = list(self._turns.items())
        return frozenset(
            conversation_id
            for (owner_id, conversation_id, purpose), turn in turns
            if (owner_id, purpose) == (user_id, Purpose.REPLY) and not turn.is_done
        )

    def run(
        self, turn: LiveTurn, beat: Callable[[str], object], produce: Callable[[LiveTurn], None]
    ) -> None:
        """Run *produce* in a thread, and call *beat* with the text so far in another thread, at the pace of *turn*.

        Raise SignedOut while the session of *turn* is ending, StoreUnavailable while the process is ending, Busy if the
        turn is running already, because another tab has resent the request.
        """
        key = turn.user_id, turn.conversation_id, turn.purpose
        with self._lock:
            # without heartbeats, the refused turn's lease runs out, and a sweep settles it as if the model had not been called
            if self._is_ending or turn.owner in self._leaving:
                log_event("turn.lost", turn=turn.id)
                raise StoreUnavailable if self._is_ending else SignedOut
            known = self._turns.get(key)
            if known and known.id == turn.id and not known.is_done:
                raise Busy
            # start the thread first: if no thread can be started, the turn must not be registered or kept alive
            try:
                in_thread(f"{TURN_THREADS}{turn.id}", partial(self._work, turn, produce))
            except RuntimeError:  # the process can start no more threads
                log_event("turn.lost", turn=turn.id)
                raise
            self._turns[key] = turn
        in_thread(f"{BEAT_THREADS}{turn.id}", partial(_keep_alive, turn, beat))

    def stop(
        self,
        cause: StopCause,
        is_meant: Callable[[LiveTurn], bool] = lambda _: True,
        within: float = 2.0,
    ) -> None:
        """Stop the turns that *is_meant* selects, and wait up to *within* seconds for them to be stored."""
        with self._lock:
            turns = [turn for turn in self._turns.values() if not turn.is_done and is_meant(turn)]
        for turn in turns:
            turn.stop(cause)
        deadline = time.monotonic() + within
        for turn in turns:
            turn.wait(max(0.0, deadline - time.monotonic()))

    def refuse_new_turns(self) -> None:
        """Refuse all new turns from now on, because the process is ending."""
        with self._lock:
            self._is_ending = True

    @contextmanager
    def leaving(self, owner: object, cause: StopCause, within: float = 2.0) -> Generator[None]:
        """Stop the turns of the session *owner*, as `stop` does; refuse its new turns while the `with` block ends the session."""
        with self._lock:
            self._leaving.add(owner)
        try:
            self.stop(cause, lambda turn: turn.owner == owner, within)
            yield
        finally:
            with self._lock:
                self._leaving.discard(owner)

    def drop(self, user_id: UserId, conversation_id: ConversationId, *purposes: Purpose) -> None:
        """Drop a conversation's turns (all, or those of *purposes*), because the conversation or its messages are deleted."""
        with self._lock:
            for purpose in purposes or Purpose:
                self._turns.pop((user_id, conversation_id, purpose), None)

    def drop_failed(self, user_id: UserId) -> None:
        """Drop a user's ended turns. Failed turns would otherwise stay in memory for five minutes, for pages to show."""
        self._drop_all(lambda key, turn: key[0] == user_id and turn.is_done)

    def forget(self) -> None:
        """Drop all turns from this registry, so that their text leaves memory as soon as they end."""
        with self._lock:
            self._turns.clear()

    def _drop_all(self, is_over: Callable[[_Key, LiveTurn], bool]) -> None:
        with self._lock:
            for key in [key for key, turn in self._turns.items() if is_over(key, turn)]:
                del self._turns[key]

    def _work(self, turn: LiveTurn, produce: Callable[[LiveTurn], None]) -> None:
        try:
            produce(turn)
        finally:  # `produce` closes the turn; a bug in it must not leave followers waiting
            if not turn.is_done:
                log_event("turn.lost", turn=turn.id)
                turn.close(AppError())
            # drop ended turns now, because they contain text, and no page may ever ask for them
            self._drop_all(lambda _, turn: turn.is_forgotten())


def _keep_alive(turn: LiveTurn, beat: Callable[[str], object]) -> None:
    """Call *beat* immediately, and then at the pace of *turn* until it is done."""
    is_done = turn.is_done
    while not is_done:
        try:
            beat(turn.said())
        except SignedOut:
            # the session was ended in another process, other than by its own sign-out (`Backend.end_session`), so end the
            # call, which then costs nothing more; the store refuses the end of the turn, which will lapse
            turn.stop(StopCause.ADMIN)
        except AppError:  # the next heartbeat may succeed, and until then the reply is in memory
            log_event("turn.unheard", turn=turn.id)
        except Exception:  # a bug must not let the lease of a healthy reply run out
            _logger.exception("a heartbeat failed")
        is_done = turn.wait(turn.pace.beat_seconds)
