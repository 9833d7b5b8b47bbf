"""A turn of another process, read from the database: the process still streams the reply, or died and left it unfinished."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime

from services.domain import ConversationId, MessageId, Thoughts
from services.domain.turns import OpenTurn
from services.errors import NotFound, StoreUnavailable
from services.store.port import Turns

# seconds between two reads of the database
_GLANCE = 0.5
# if a renewal of the turn's lease is this many seconds overdue, `follow` calls the sweep, which settles the turn only if
# the database finds that the lease has run out
_OVERDUE = 3.0


class RemoteTurn:
    """Follows the text that another process writes, and settles the turn once the lease of the turn has run out.

    One thread may call `follow`; any thread may call the other methods.
    """

    is_at_once = False  # only the process that asks the endpoint knows whether it streams

    def __init__(
        self,
        conversation_id: ConversationId,
        turn: OpenTurn,
        turns: Turns,
        sweep: Callable[[], object],
    ) -> None:
        self.conversation_id = conversation_id
        self.prompt_id: MessageId | None = turn.prompt_id
        self._turn: OpenTurn | None = turn
        self._turns, self._sweep = turns, sweep

    @property
    def is_done(self) -> bool:
        return self._turn is None or not self._turn.state.is_open

    def stop(self) -> None:
        """Ask the other process to stop, which takes at most two heartbeats. May raise StoreUnavailable or SignedOut."""
        if self._turn:
            self._turns.stop(self.conversation_id, self._turn.id)

    def waited_seconds(self) -> float:
        """Return the seconds since the turn began."""
        turn = self._turn
        return (datetime.now(UTC) - turn.begun_at).total_seconds() if turn else 0.0

    def thoughts(self) -> Thoughts | None:
        """Return the thoughts so far."""
        return self._turn.thoughts if self._turn else None

    def follow(self) -> Iterator[str]:
        """Yield the whole text so far, about twice a second, until the turn is no longer open."""
        renewed_at = time.monotonic()
        while self._turn and self._turn.state.is_open:
            yield self._turn.partial
            time.sleep(_GLANCE)
            last = self._turn
            try:
                _, turn = self._turns.read(self.conversation_id)
                # a turn with another id means that this turn has ended: a conversation has only one turn at a time
                self._turn = turn if turn and turn.id == last.id else None
            except NotFound:
                self._turn = None
            except StoreUnavailable:  # the page keeps showing the text so far
                # after an outage, give the other process time to renew the lease
                renewed_at = time.monotonic() + self._turns.pace.lease_seconds
            if self._turn and self._turn.lease_until != last.lease_until:
                renewed_at = time.monotonic()
            elif time.monotonic() > renewed_at + self._turns.pace.beat_seconds + _OVERDUE:
                renewed_at = time.monotonic()
                with suppress(StoreUnavailable):
                    self._sweep()
