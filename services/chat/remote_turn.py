"""A turn that another process is at, or was when it died, followed through the database."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from services.domain import ConversationId, MessageId
from services.errors import AppError, StoreUnavailable
from services.store.turns import OpenTurn

_GLANCE = 0.5  # seconds between looks; its process writes once a second
_GRACE = timedelta(seconds=1)


class RemoteTurn:
    """Follows what its process writes; once its lease has run out, has it settled.

    It cannot be stopped from here: the request is the other process's.
    """

    failure: AppError | None = None

    def __init__(
        self,
        conversation_id: ConversationId,
        turn: OpenTurn,
        look: Callable[[ConversationId], OpenTurn | None],
        sweep: Callable[[], object],
    ) -> None:
        self.conversation_id = conversation_id
        self.prompt_id: MessageId | None = turn.prompt_id
        self._turn: OpenTurn | None = turn
        self._look, self._sweep = look, sweep

    @property
    def is_done(self) -> bool:
        return self._turn is None or not self._turn.state.is_open

    def follow(self) -> Iterator[str]:
        """The whole text so far, about twice a second, until the turn is no longer open."""
        while self._turn and self._turn.state.is_open:
            yield self._turn.said
            time.sleep(_GLANCE)
            with suppress(StoreUnavailable):  # what was seen stays until there is more
                if datetime.now(UTC) > self._turn.lease_until + _GRACE:
                    self._sweep()
                self._turn = self._look(self.conversation_id)
