"""The rows of a temporary chat: its content in memory, its cost in the ledger of its user's own store."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime

from services.domain import ConversationId, Outcome
from services.domain.accounts import Limits
from services.domain.turns import Begun, Lease
from services.rules import NOT_FOUND, Refusal
from services.store.port import UserFigures
from services.store.refusals import error_of
from services.store.rows import Ledger
from services.store.tables.in_memory import InMemoryTables
from services.store.tables.protocol import Block
from services.store.tables.rows import TablesRows
from services.store.tables.schema import TURNS
from services.store.tables.sweep import forgotten
from services.store.writes import BeginTurn, CheckpointTurn, DiscardMessages, EditReply, FinishTurn

_NO_LIMITS = Limits(
    daily_cap_micro=10**18,
    monthly_cap_micro=10**18,
    daily_cap_tokens=None,
    max_open=10**9,
    max_per_minute=10**9,
)


class _NotStored(Exception):
    """Ends a block whose writes are dropped."""

    def __init__(self, answer: object) -> None:
        self.answer = answer


class TemporaryRows(TablesRows):
    """The `Rows` of one temporary chat; *ledger* reserves and settles its turns. Any thread may call any method.

    Each write is tried first, then the ledger is called, outside of any block, then the content is stored.
    """

    def __init__(
        self, ledger: Ledger, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._memory, self._ledger, self.is_closed = InMemoryTables(), ledger, False
        self._lock = threading.RLock()
        super().__init__(ledger.user_id, self._memory, _NO_LIMITS, now)

    @property
    def usage(self) -> UserFigures:
        return self._ledger.usage

    def close(self) -> None:
        """Forget all text for good. Turns that are streaming can still be settled."""
        with self._lock:
            self.is_closed = True
            turns = self.tables.run(lambda block: block.select(TURNS))
            self._memory.clear()
            for turn in turns:
                self.tables.run(lambda block, turn=turn: block.put(TURNS, forgotten(turn)))

    def _tried(self, work: Callable[[Block], object]) -> object:
        """Return the answer of a block, and store nothing."""

        def run_and_drop(block: Block) -> None:
            raise _NotStored(work(block))

        try:
            self.tables.run(run_and_drop)
        except _NotStored as tried:
            return tried.answer

    def begin_turn(self, write: BeginTurn) -> Begun:
        reservation = write.reservation
        with self._lock:
            tried = self._tried(lambda block: self._begin(block, write))
            if write.created and self.is_closed:
                tried = NOT_FOUND
            if isinstance(tried, Refusal):
                raise error_of("begin_turn", tried, reservation)
            if isinstance(tried, Begun) and self._turn(tried):
                return tried
            begun = self._ledger.begin_turn(BeginTurn(reservation=reservation))
            return self._run("begin_turn", lambda block: self._begin(block, write, begun))

    def _turn(self, begun: Begun) -> object:
        return self.tables.run(lambda block: block.get(TURNS, begun.turn_id))

    def checkpoint_turn(self, write: CheckpointTurn) -> Lease:
        seconds = write.lease_seconds
        lease = self._ledger.checkpoint_turn(
            CheckpointTurn(turn_id=write.turn_id, lease_seconds=seconds)
        )
        with self._lock:
            if self.is_closed:
                return Lease.STOP_REQUESTED
            own = super().checkpoint_turn(write) if lease else lease
            return lease if own is Lease.HELD else own

    def finish_turn(self, write: FinishTurn) -> None:
        with self._lock:
            tried = self._tried(lambda block: self._finish(block, write))
            turn_id = write.settlement.turn_id
            turn = self.tables.run(lambda block: block.get(TURNS, turn_id))
            if isinstance(tried, Refusal):
                raise error_of("finish_turn", tried)
            if turn and turn.state.is_final:
                return
            if write.settlement.outcome is not Outcome.INTERRUPTED:
                self._ledger.finish_turn(FinishTurn(settlement=write.settlement))
            super().finish_turn(write)

    def count_edit(self) -> None:
        self._ledger.count_edit()

    def edit_reply(self, write: EditReply) -> None:
        with self._lock:
            tried = self._tried(lambda block: self._edit(block, write))
            if isinstance(tried, Refusal):
                raise error_of("edit_reply", tried)
            if not self.messages_by_id({write.conversation_id: [write.reply_id]}):
                self._ledger.count_edit()
                super().edit_reply(write)

    def discard_messages(self, write: DiscardMessages) -> None:
        super().discard_messages(write)
        self._destroy_in(write.for_seconds)

    def discard_conversation(self, conversation_id: ConversationId, seconds: int) -> None:
        super().discard_conversation(conversation_id, seconds)
        self._destroy_in(seconds)

    def _has_open_turn(self, block: Block, conversation_id: ConversationId) -> bool:
        """Return False: no sweep comes again, so that a timer also destroys a chat whose reply is coming."""
        return False

    def _destroy_in(self, seconds: int) -> None:
        timer = threading.Timer(seconds, self.destroy_due)
        timer.daemon = True
        timer.start()
