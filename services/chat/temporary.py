"""Temporary chats: each belongs to one page, and is deleted soon after the page is left.

Their text is in the memory of this process alone: in the conversation, in the live turns, and in the search index of
earlier messages. All three are dropped with the chat. The database stores only the cost.
"""

import math
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from services.chat.parts import ChatParts
from services.chat.service import Chat
from services.domain import ConversationId, SessionId
from services.domain.limits import UNDO_SECONDS
from services.domain.turns import StopCause
from services.errors import Refused
from services.store.tables.temporary import TemporaryRows

# the title of every temporary chat, because a title must not reveal the content
TEMPORARY_TITLE = "Temporary chat"
# seconds for which the page may be disconnected, long enough for a short network failure
_ABSENCE_SECONDS = 10.0


class ChatIsOver(Refused):
    """The temporary chat was left, or its page was disconnected for too long."""

    public = "This temporary chat has ended and is deleted. You can start another."


class TemporaryChat(ChatParts):
    """The chat of one page, kept for `UNDO_SECONDS` after the page is left. Any thread may call any method."""

    def __init__(
        self,
        chat: Chat,
        *,
        chat_id: ConversationId,
        owner: SessionId,
        rows: TemporaryRows,
        is_there: Callable[[], bool],
    ) -> None:
        """*is_there*: a function that returns True while the chat's page is connected."""
        super().__init__(chat)
        self.id, self.owner, self.rows, self._is_there = chat_id, owner, rows, is_there
        # `_missed_at`: when a check first found the page disconnected; time before it does not count, because checks may be late
        self._missed_at = self._left_at = math.inf

    @property
    def is_over(self) -> bool:
        return self.rows.is_closed

    @property
    def is_begun(self) -> bool:
        """True once a prompt has been stored."""
        return bool(self.rows.positions())

    @property
    def chat(self) -> Chat:
        """The `Chat` of this temporary chat. Raise ChatIsOver if the temporary chat has ended."""
        if self.is_over:
            raise ChatIsOver
        return self._chat

    @property
    def is_live(self) -> bool:
        """True while a turn of this chat is live."""
        return self._chat.live_turns.has_live()

    def leave(self) -> None:
        """Note that the user has left the chat, which ends after `UNDO_SECONDS`, or as soon as the page is disconnected."""
        self._left_at = time.monotonic()

    def come_back(self) -> None:
        """Undo `leave`. Raise ChatIsOver if the chat has ended."""
        if self.is_over:
            raise ChatIsOver
        self._missed_at = self._left_at = math.inf

    def share(self, user: ChatParts) -> None:
        """Switch to the facts, spaces and preferences services of *user*, because the old ones are dropped from memory."""
        for parts in (self, self.store):
            parts.facts, parts.spaces, parts.profile = user.facts, user.spaces, user.profile

    def stop(self, cause: StopCause, within: float = 2.0) -> None:
        """Stop the streaming turns, and wait for them to be settled."""
        self._chat.live_turns.stop(cause, within=within)

    def end(self, within: float = 2.0) -> None:
        """Stop the streaming turns, wait for them to be settled, and forget all text."""
        self.rows.close()  # closed before the turns are stopped, so that no new turn can begin
        self.conversations.forget(self.id)
        self.stop(StopCause.USER, within)
        self._chat.live_turns.forget()
        self._chat.forget(self.id)

    def is_deserted(self) -> bool:
        """Return True if the chat was left and cannot be restored any more, or its page was disconnected for too long. Call this
        periodically."""
        if self.is_over:
            return True
        now = time.monotonic()
        if self._left_at < math.inf:
            return not self._is_there() or now - self._left_at > UNDO_SECONDS
        self._missed_at = math.inf if self._is_there() else min(self._missed_at, now)
        return now - self._missed_at > _ABSENCE_SECONDS


@dataclass(slots=True)
class TemporaryChats:
    """The temporary chats of this process. Any thread may call any method."""

    _chats: list[TemporaryChat] = field(default_factory=list[TemporaryChat], repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, chat: TemporaryChat) -> None:
        with self._lock:
            self._chats.append(chat)

    def find(self, owner: SessionId, conversation_id: ConversationId) -> TemporaryChat | None:
        """Return the chat with this id, if it belongs to this device and is not over."""
        chats = (chat for chat in self._all() if chat.owner == owner and not chat.is_over)
        return next((chat for chat in chats if chat.id == conversation_id), None)

    def share(self, owner: SessionId, user: ChatParts) -> None:
        """Switch the chats of one device to the facts, spaces and preferences services of *user*, the device's new services."""
        for chat in self._all():
            if chat.owner == owner:
                chat.share(user)

    def has_live(self, owner: SessionId) -> bool:
        """Return True if any chat of one device has a live turn."""
        return any(chat.is_live for chat in self._all() if chat.owner == owner)

    def end_of(self, owner: SessionId) -> None:
        """End the chats of a device whose user signs out."""
        self._end([chat for chat in self._all() if chat.owner == owner])

    def end_deserted(self) -> None:
        """End the chats for which `TemporaryChat.is_deserted` returns True. Call this periodically."""
        self._end([chat for chat in self._all() if chat.is_deserted()])

    def stop(
        self, cause: StopCause, within: float = 2.0, owners: Collection[SessionId] | None = None
    ) -> None:
        """Stop the turns in all chats, or in the chats of *owners*; wait up to *within* seconds until they are settled."""
        chats = [chat for chat in self._all() if owners is None or chat.owner in owners]
        for chat in chats:
            chat.stop(cause, 0.0)
        deadline = time.monotonic() + within
        for chat in chats:
            chat.stop(cause, max(0.0, deadline - time.monotonic()))

    def close(self, cause: StopCause) -> None:
        """Close all chats and stop their turns: new turns are refused, and the text of the chats is dropped."""
        for chat in self._all():
            chat.rows.close()
            # stopped at once, because a heartbeat of a closed chat would stop its turn as if the user had asked for it
            chat.stop(cause, 0.0)

    def _end(self, ended: list[TemporaryChat]) -> None:
        with self._lock:
            self._chats = [chat for chat in self._chats if chat not in ended]
        for chat in ended:
            chat.end()

    def _all(self) -> list[TemporaryChat]:
        with self._lock:
            return list(self._chats)
