"""Turns. A turn begins with a prompt and a reservation, stays open during a lease, and ends with a reply and its cost."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import Enum, IntEnum
from typing import NewType
from uuid import UUID, uuid4

from services.domain import (
    Attachment,
    ConversationId,
    Message,
    MessageId,
    Outcome,
    Purpose,
    Role,
    Thoughts,
    Thread,
    TurnId,
    Usage,
)
from services.domain.names import StoredName

LONGEST_TURN_SECONDS = 1200
# the id that the app chooses for a turn: if the request is repeated, the store begins no second turn
ClientTurnId = NewType("ClientTurnId", UUID)


class StopCause(Enum):
    """The cause for which a live turn is stopped before its reply is whole, and the outcome of the turn."""

    USER = "user", Outcome.STOPPED  # Stop, deletion of the chat, own sign-out, in any process
    TIME_LIMIT = "time limit", Outcome.STOPPED  # a background call took too long
    SERVER = "server", Outcome.INTERRUPTED  # the process is ending
    # an admin suspended, signed out or deleted the user, or requires a second factor
    ADMIN = "admin", Outcome.INTERRUPTED

    @property
    def outcome(self) -> Outcome:
        return self.value[1]


class TurnState(StoredName):
    """The state of a turn; spelt as in SQL."""

    RESERVED = "reserved"
    STREAMING = "streaming"
    COMPLETE = "complete"
    CUT = "cut"
    STOPPED = "stopped"
    FAILED = "failed"
    LAPSED = "lapsed"
    INTERRUPTED = "interrupted"

    @property
    def is_open(self) -> bool:
        return self in (TurnState.RESERVED, TurnState.STREAMING)

    @property
    def is_final(self) -> bool:
        """True if the turn's cost is final. A lapsed turn's cost is not, because its process may still finish it late.

        An interrupted turn's cost is, unless a process taken for dead ends its turn late: readers of that message read the
        cost again.
        """
        return self.is_known and not self.is_open and self is not TurnState.LAPSED


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """A request to begin a turn: the costs (in micro-dollars) and tokens to reserve for it."""

    client_turn_id: ClientTurnId
    purpose: Purpose = Purpose.REPLY
    model: str
    prompt_micro: int
    reply_micro: int
    least_reply_micro: int
    prompt_tokens: int  # an upper bound on the prompt's tokens
    reply_tokens: int
    least_reply_tokens: int
    lease_seconds: int

    @property
    def least_micro(self) -> int:
        """The smallest amount to reserve, below which the turn is refused: the highest cost of the prompt and a short reply."""
        return self.prompt_micro + self.least_reply_micro

    @property
    def least_tokens(self) -> int:
        """The fewest tokens to reserve, below which the turn is refused: the upper bound of the prompt, plus a short reply."""
        return self.prompt_tokens + self.least_reply_tokens


@dataclass(frozen=True, slots=True)
class Settlement:
    """The outcome, usage and cost of a turn."""

    turn_id: TurnId
    outcome: Outcome
    usage: Usage
    # None: unknown, because the process that streamed the reply died. The outcome is then INTERRUPTED.
    cost_micro: int | None
    first_token_ms: int | None = None  # None: nothing was streamed


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTurn:
    """The prompt to store and the cost to reserve; the store does both atomically."""

    reservation: Reservation
    thread: Thread
    prompt_id: MessageId
    prompt: str | None = field(repr=False)  # None: the prompt is stored already, under `prompt_id`
    start_seq: int
    # the record of the messages that are sent to the model, stored with the turn
    receipt: str | None = field(default=None, repr=False)
    is_first: bool = False  # true if *thread* is new, and is stored with this first prompt
    # the attachments of *prompt*; their pieces are stored already
    attachments: tuple[Attachment, ...] = ()

    def begun_thread(self) -> Thread:
        """Return the thread as it will be once the prompt is stored; only the database's timestamps will differ."""
        thread = self.thread
        last_seq = thread.conversation.last_seq + 1
        message = Message(
            id=self.prompt_id,
            seq=last_seq,
            parent_id=thread.tip.id if thread.tip else None,
            role=Role.USER,
            body=self.prompt or "",
            created_at=datetime.now(UTC),
            attachments=self.attachments,
        )
        conversation = replace(
            thread.conversation,
            rev=thread.conversation.rev + 1,
            last_seq=last_seq,
            start_seq=self.start_seq,
        )
        messages = (*thread.messages, message)
        return replace(thread, conversation=conversation, messages=messages, tip_id=None)


@dataclass(frozen=True, slots=True)
class Begun:
    """A turn that has begun: its model call may use the reserved micro-dollars and tokens for prompt and reply."""

    turn_id: TurnId
    reserved_micro: int
    reserved_tokens: int


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a heartbeat of a live turn stores its texts and renews its lease.

    If the process dies, the lease runs out, and then any process may settle the turn.
    """

    beat_seconds: float = 1.0
    lease_seconds: int = 10


class Lease(IntEnum):
    """The result of a live turn's heartbeat, which renews the lease. Only LAPSED is false in a condition."""

    LAPSED = 0
    HELD = 1
    STOP_REQUESTED = 2  # the turn still has its lease, but the user pressed Stop in another process


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The end of a turn, and the reply to store."""

    settlement: Settlement
    conversation_id: ConversationId
    prompt_id: MessageId
    reply_id: MessageId
    reply: str = field(repr=False)  # empty if there is no reply
    thoughts: Thoughts | None = None

    def makes_message(self, thread: Thread) -> bool:
        """Return True if the reply is stored as a message: it has text, or it has thoughts and answers a prompt of *thread*."""
        return bool(self.reply.strip()) or (
            self.thoughts is not None
            and any(one.id == self.prompt_id and one.role is Role.USER for one in thread.messages)
        )


@dataclass(frozen=True, slots=True)
class OpenTurn:
    """A turn that has not ended: another process is streaming it, or a crashed process left it open."""

    id: TurnId
    state: TurnState
    prompt_id: MessageId | None
    begun_at: datetime
    lease_until: datetime
    partial: str = field(repr=False)
    thoughts: Thoughts | None = None

    def interrupted(self, conversation_id: ConversationId, prompt_id: MessageId) -> Ending:
        """Return the ending for this turn, whose process died. The ending stores the partial reply, and charges nothing more."""
        return Ending(
            settlement=Settlement(self.id, Outcome.INTERRUPTED, Usage(0, 0), None),
            conversation_id=conversation_id,
            prompt_id=prompt_id,
            reply_id=MessageId(uuid4()),
            reply=self.partial,
            thoughts=self.thoughts,
        )
