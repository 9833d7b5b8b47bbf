"""The lower port, which each store implements: sealed rows of one user; each write is one atomic call.

Bodies, titles, keys and heads are sealed above this port; a store sees ids, order, sizes and times. All methods
may raise SignedOut and StoreUnavailable; docstrings name the other errors.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, TypedDict
from uuid import UUID

from services.domain import (
    AttachmentId,
    ConversationId,
    Listed,
    MessageId,
    SpaceId,
    TurnId,
    UserId,
)
from services.domain.accounts import Account
from services.domain.revisions import OpenPlace, Revisions
from services.domain.rows import (
    ConversationRow,
    ConversationState,
    DocumentKind,
    DocumentRow,
    MessageRow,
    SearchTextRow,
)
from services.domain.turns import (
    Begun,
    ClientTurnId,
    Lease,
    Pace,
    TurnState,
)
from services.store.port import UserFigures
from services.store.writes import (
    BeginTurn,
    CheckpointTurn,
    DiscardMessages,
    EditReply,
    FinishTurn,
    PutDocument,
    PutPiece,
    PutSearchText,
    RestoreMessages,
)


class ConversationChanges(TypedDict, total=False):
    """Changes to a conversation's row that do not increase its revision. An absent key leaves its column unchanged."""

    title: str
    titled_by: str  # the title's author; a title by "model" replaces only the prompt's first words
    pinned: bool
    state: ConversationState
    policy: str  # a change allows all messages since the last reset to be sent to the model again
    policy_size: int | None
    reset_seq: int
    model: str | None
    space_id: SpaceId | None
    read_seq: int  # the seq of the last message that the user has read; it never decreases
    facts_seq: int  # the seq of the last prompt that facts were extracted from; it never decreases


@dataclass(frozen=True, slots=True)
class ThoughtsRow:
    """The sealed thoughts of a message."""

    id: MessageId
    thoughts: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class PieceRow:
    """A sealed piece of an attachment."""

    number: int
    body: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRow:
    """The columns of a turn that other processes read; its partial texts are sealed."""

    id: TurnId
    state: TurnState
    prompt_id: MessageId | None
    partial: str | None = field(repr=False)
    partial_thoughts: str | None = field(repr=False)
    begun_at: datetime
    lease_until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CostRow:
    """The usage and cost of a turn."""

    id: TurnId
    state: TurnState
    model: str
    tokens_in: int
    tokens_out: int
    tokens_cached: int
    charged_micro: int


@dataclass(frozen=True, slots=True)
class ReceiptRow:
    """The sealed receipt of a turn."""

    turn_id: TurnId
    client_turn_id: ClientTurnId
    body: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationRead:
    """A conversation as it was stored at one moment."""

    conversation: ConversationRow
    # the messages after the requested seq, without deleted ones, sorted by seq
    messages: Sequence[MessageRow]
    newest_turn: TurnRow | None  # the newest turn that is not a background call
    costs: Sequence[CostRow]  # the costs of the settled turns of *messages*
    receipts: Sequence[ReceiptRow]  # the receipt of the last turn of *messages*, or none


class Ledger(Protocol):
    """Reserves the cost of one user's turns and settles it. For a turn without sealed texts, only the cost is stored."""

    @property
    def user_id(self) -> UserId: ...
    @property
    def usage(self) -> UserFigures: ...
    @property
    def pace(self) -> Pace: ...

    def begin_turn(self, write: BeginTurn) -> Begun:
        """Store the prompt and reserve the turn's highest possible cost, both or neither. A repeated call changes nothing.

        Raise Stale, Busy, OverBudget, AccountFull (only for a turn with a conversation), NotFound, BadInput, SpaceGone.
        """
        ...

    def checkpoint_turn(self, write: CheckpointTurn) -> Lease:
        """Store the turn's partial texts and extend its lease."""
        ...

    def finish_turn(self, write: FinishTurn) -> None:
        """Store the reply and settle the turn. A repeated call changes nothing. Raise Stale, Busy, NotFound."""

    def count_edit(self) -> None:
        """Count an edited reply in a temporary chat toward the limit of messages a minute; raise OverBudget if it is exceeded."""


@dataclass(frozen=True, slots=True)
class FirstPage:
    """The data that the first page after a sign-in needs, read when the session starts."""

    account: Account
    # the first rows of the list, as `recent_conversations` returns them
    conversations: list[ConversationRow]
    documents: list[DocumentRow]  # preferences, spaces and facts


class Rows(Ledger, Protocol):
    """The sealed rows of one user.

    An account may have a limit on its stored bytes. The bytes are summed at most once a minute, so writes within a minute
    may exceed the limit. While it is exceeded, new turns, versions and documents are refused, but not the end of a turn
    or a deletion.
    """

    def conversation(self, conversation_id: ConversationId) -> ConversationRow:
        """Return the row of a conversation. Raise NotFound."""
        ...

    def read_conversation(
        self, conversation_id: ConversationId, after_seq: int
    ) -> ConversationRead:
        """Read a conversation and its messages after *after_seq*, as one snapshot if the messages are few. Raise NotFound."""
        ...

    def conversations(self, ids: Iterable[ConversationId]) -> list[ConversationRow]:
        """Return the conversations with *ids*, including discarded ones, without instructions and summary; skip unknown ids."""
        ...

    def whole_conversations(self, ids: Iterable[ConversationId]) -> list[ConversationRow]:
        """Return the conversations with *ids*, including discarded ones, with instructions and summary; skip unknown ids."""
        ...

    def all_conversations(self) -> list[ConversationRow]:
        """Return the conversations that are not discarded, without instructions and summary."""
        ...

    def positions(self) -> list[Listed]:
        """Return the id, revision, last sequence number and space of each conversation that is not discarded."""
        ...

    def recent_conversations(
        self, limit: int, *, is_archived: bool, space_id: SpaceId | None
    ) -> list[ConversationRow]:
        """Return the conversations of one space (None: of all), pinned ones first, then the newest; omit instructions and summary."""
        ...

    def poll(self, place: OpenPlace) -> Revisions:
        """Return the newest revisions of the data that a tab shows, in one call that changes nothing."""
        ...

    def discarded_messages(self, conversation_id: ConversationId) -> list[MessageRow]:
        """Return the deleted messages that can still be restored, sorted by seq."""
        ...

    def messages_by_id(self, asked: Mapping[MessageId, ConversationId]) -> list[MessageRow]:
        """Return the messages *asked* (message ids with the ids of their conversations) that exist, deleted ones included."""
        ...

    def messages_between(self, ids: Sequence[ConversationId], seqs: range) -> list[MessageRow]:
        """Return the messages in the conversations *ids* whose sequence numbers are in *seqs*, sorted by seq."""
        ...

    def thoughts(
        self, conversation_id: ConversationId, ids: Iterable[MessageId]
    ) -> list[ThoughtsRow]: ...
    def costs(
        self, conversation_id: ConversationId, turn_ids: Iterable[TurnId]
    ) -> list[CostRow]: ...
    def receipts(
        self, conversation_id: ConversationId, turn_ids: Iterable[TurnId]
    ) -> list[ReceiptRow]: ...

    def pieces(
        self,
        conversation_id: ConversationId,
        message_id: MessageId,
        attachment_id: AttachmentId,
        numbers: range,
    ) -> list[PieceRow]:
        """Return the pieces of an attachment whose numbers are in *numbers*, at most 100."""
        ...

    def documents(self, kind: DocumentKind) -> list[DocumentRow]:
        """Return all documents of a *kind*: preferences, spaces or facts."""
        ...

    def search_texts(self, ids: Iterable[ConversationId]) -> list[SearchTextRow]:
        """Return the search texts of the conversations *ids*, including discarded ones."""
        ...

    def change_conversation(
        self, conversation_id: ConversationId, changes: ConversationChanges
    ) -> bool:
        """Apply the changes; return False if the title stays, because the user has set it. Raise NotFound, SpaceGone."""
        ...

    def discard_conversation(self, conversation_id: ConversationId, seconds: int) -> None:
        """Hide the conversation immediately, ask its open turns to stop, and destroy it after *seconds*. Raise NotFound."""

    def restore_conversation(self, conversation_id: ConversationId) -> None:
        """Undo `discard_conversation`; a repeated call changes nothing. Raise NotFound."""

    def put_document(self, write: PutDocument) -> None:
        """Store the document; a repeated call changes nothing.

        Raise Stale, NotFound, BadInput (too many), AccountFull (only for a new document that the user wrote).
        """

    def delete_document(self, document_id: UUID) -> None:
        """Destroy a fact, or a space with its facts. Raise NotFound."""

    def delete_facts(self) -> None:
        """Destroy all facts."""

    def stop_turn(self, conversation_id: ConversationId, turn_id: TurnId) -> None:
        """Ask the process that is streaming the turn's reply to stop."""

    def put_piece(self, write: PutPiece) -> None:
        """Store a piece, which is deleted with its message; a repeated call changes nothing.

        Raise NotFound, AccountFull, Stale (another piece has the same number).
        """

    def put_search_text(self, write: PutSearchText) -> None:
        """Store a search text. If its range is stored already, and not replaced, change nothing.

        It is deleted when a message in its range is discarded or restored. Raise NotFound, AccountFull, Stale (messages
        were discarded or restored since *cuts*, or another text overlaps).
        """

    def delete_search_texts(self) -> None:
        """Destroy all search texts."""

    def edit_reply(self, write: EditReply) -> None:
        """Store another version of a reply; it counts toward the limit of messages a minute.

        Raise Stale, Busy, NotFound, OverBudget, AccountFull, BadInput (too many).
        """

    def discard_messages(self, write: DiscardMessages) -> None:
        """Hide messages immediately, and destroy them when they can no longer be restored. Raise Stale, Busy, NotFound."""

    def restore_messages(self, write: RestoreMessages) -> None:
        """Undo `discard_messages`: restore all messages that can be restored, or none. Raise Stale, NotFound."""
