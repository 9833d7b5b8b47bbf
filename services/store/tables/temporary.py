"""The rows of a temporary chat: its content is only in memory; its costs are in the ledger of the user's store."""

import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

from services.domain import ConversationId, TurnId
from services.domain.accounts import Limits
from services.domain.turns import Begun, Lease
from services.rules import NOT_FOUND
from services.rules.turns import Turn
from services.store.port import UserFigures
from services.store.rows import Ledger
from services.store.tables import schema
from services.store.tables.blocks import accepted
from services.store.tables.in_memory import InMemoryTables
from services.store.tables.protocol import Answer, Block
from services.store.tables.rows import TablesRows
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
    """Raised at the end of a block (transaction) to drop its writes."""


class TemporaryRows(TablesRows):
    """Implements `Rows` for one temporary chat; *ledger* reserves and settles its turns. Any thread may call any method.

    Each write is first tried without storing it; then the ledger is called, outside of any block; then the content is
    stored.
    """

    def __init__(
        self, ledger: Ledger, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._memory, self._ledger, self.is_closed = InMemoryTables(), ledger, False
        self._lock = threading.RLock()
        super().__init__(ledger.user_id, self._memory, now, limits=_NO_LIMITS)
        self.pace = ledger.pace

    @property
    def usage(self) -> UserFigures:
        return self._ledger.usage

    def close(self) -> None:
        """Drop all text permanently. Turns that are streaming can still be settled."""
        with self._lock:
            self.is_closed = True
            turns = self.tables.run(lambda block: block.select(schema.TURNS))
            self._memory.clear()
            for turn in turns:
                self.tables.run(lambda block, turn=turn: block.put(schema.TURNS, forgotten(turn)))

    def _tried(self, work: Callable[[Block], Answer]) -> Answer:
        """Run *work* in a block (transaction) and return its result, but store nothing."""

        answers = list[Answer]()

        def run_and_drop(block: Block) -> None:
            answers.append(work(block))
            raise _NotStored

        with suppress(_NotStored):
            self.tables.run(run_and_drop)
        return answers[-1]

    def begin_turn(self, write: BeginTurn) -> Begun:
        reservation = write.reservation
        with self._lock:
            tried = self._tried(lambda block: self._begin(block, write))
            if write.created and self.is_closed:
                tried = NOT_FOUND
            tried = accepted("begin_turn", tried, reservation)
            if self._turn(tried.turn_id):
                return tried
            begun = self._ledger.begin_turn(BeginTurn(reservation=reservation))
            answer = self.tables.run(lambda block: self._begin(block, write, begun))
            return accepted("begin_turn", answer)

    def _turn(self, turn_id: TurnId) -> Turn | None:
        return self.tables.run(lambda block: block.get(schema.TURNS, turn_id))

    def checkpoint_turn(self, write: CheckpointTurn) -> Lease:
        beat = CheckpointTurn(turn_id=write.turn_id, lease_seconds=write.lease_seconds)
        lease = self._ledger.checkpoint_turn(beat)
        with self._lock:
            if self.is_closed:
                return Lease.STOP_REQUESTED
            own = super().checkpoint_turn(write) if lease else lease
            return lease if own is Lease.HELD else own

    def finish_turn(self, write: FinishTurn) -> None:
        with self._lock:
            tried = self._tried(lambda block: self._finish(block, write))
            accepted("finish_turn", tried)
            turn = self._turn(write.settlement.turn_id)
            if turn and turn.is_over(write.settlement):
                return
            if write.settlement.cost_micro is not None:
                self._ledger.finish_turn(FinishTurn(settlement=write.settlement))
            super().finish_turn(write)

    def count_edit(self) -> None:
        self._ledger.count_edit()

    def edit_reply(self, write: EditReply) -> None:
        with self._lock:
            tried = self._tried(lambda block: self._edit(block, write))
            accepted("edit_reply", tried)
            if not self.messages_by_id({write.reply_id: write.conversation_id}):
                self._ledger.count_edit()
                super().edit_reply(write)

    def discard_messages(self, write: DiscardMessages) -> None:
        super().discard_messages(write)
        self._destroy_in(write.for_seconds)

    def discard_conversation(self, conversation_id: ConversationId, seconds: int) -> None:
        super().discard_conversation(conversation_id, seconds)
        self._destroy_in(seconds)

    def _has_open_turn(self, block: Block, conversation_id: ConversationId) -> bool:
        """Return False, so that the timer destroys even a chat whose reply is streaming: no later sweep would destroy it."""
        return False

    def _destroy_in(self, seconds: int) -> None:
        timer = threading.Timer(seconds, self.destroy_due)
        timer.daemon = True
        timer.start()
