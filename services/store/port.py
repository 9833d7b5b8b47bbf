"""The upper port, which chat and pages use: plain texts in, domain values out. Each object is bound to one user.

All methods may raise SignedOut and StoreUnavailable; docstrings name the other errors.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Protocol

from services.domain import (
    Attachment,
    AttachmentId,
    Conversation,
    ConversationId,
    Fact,
    FactId,
    InstructionsAndSummary,
    Listed,
    MemoryPolicy,
    Message,
    MessageId,
    Preferences,
    RunningSummary,
    SearchText,
    Space,
    SpaceId,
    Thoughts,
    Thread,
    TurnCost,
    TurnId,
    UserId,
)
from services.domain.accounts import ActivityRow
from services.domain.data import CachedData, StoredData
from services.domain.revisions import OpenPlace, Revisions
from services.domain.turns import Begun, Ending, Lease, NewTurn, OpenTurn, Pace
from services.domain.usage import LedgerEntry, UsageReport


class Turns(Protocol):
    """The turns of one user (prompts and their replies): starting, stopping, reading and settling them."""

    @property
    def user_id(self) -> UserId: ...
    @property
    def pace(self) -> Pace: ...

    def begin(self, turn: NewTurn) -> Begun:
        """Store the prompt and reserve the turn's highest possible cost, both or neither. A repeated call changes nothing.

        Raise Stale, Busy, OverBudget, NotFound, Tampered; for a new conversation also BadInput (too many) and
        SpaceGone.
        """
        ...

    def checkpoint(
        self,
        turn_id: TurnId,
        conversation_id: ConversationId,
        partial: str,
        lease_seconds: int,
        thoughts: Thoughts | None = None,
    ) -> Lease:
        """Store the partial reply, replace its *thoughts*, and extend the lease."""
        ...

    def finish(self, ending: Ending) -> None:
        """Store the reply and settle the turn. A repeated call changes nothing. Raise Busy, Tampered."""

    def stop(self, conversation_id: ConversationId, turn_id: TurnId) -> None:
        """Ask the process that is streaming the turn's reply to stop."""

    def read_ahead(self, conversation_id: ConversationId) -> None:
        """Begin to read a conversation in the background for a later `read`, unless it is cached."""

    def read(self, conversation_id: ConversationId) -> tuple[Thread, OpenTurn | None]:
        """Return the stored conversation, and its newest turn if the turn is open, or has a partial reply to recover.

        If the newest turn ended without a reply, the thread's `missing_reply` describes that turn.

        Raise NotFound.
        """
        ...

    def known(self, conversation_id: ConversationId) -> Thread:
        """Return the cached conversation, or else the stored one. Raise NotFound."""
        ...

    def costs(
        self, messages: Iterable[Message], conversation_id: ConversationId
    ) -> Mapping[TurnId, TurnCost]:
        """Return the costs of the settled turns of *messages*."""
        ...

    def receipts(
        self, messages: Iterable[Message], conversation_id: ConversationId
    ) -> Mapping[TurnId, str]:
        """Return the receipts of the turns of *messages*."""
        ...

    def thoughts(
        self, messages: Iterable[Message], conversation_id: ConversationId
    ) -> Mapping[MessageId, Thoughts]:
        """Return the thoughts of *messages*."""
        ...


class Conversations(Protocol):
    """Conversations of one user. Methods that take a conversation id raise NotFound for another user's conversation, too."""

    @property
    def user_id(self) -> UserId: ...

    def recent(
        self, limit: int = 30, *, is_archived: bool = False, space_id: SpaceId | None = None
    ) -> list[Conversation]:
        """Return the conversations of one space (None: of all): the pinned ones, last pinned first, then the others, newest first.

        While the database is down, return the last list that was read.
        """
        ...

    def read_ahead(self) -> None:
        """Begin to read the first 31 conversations, in a background thread."""

    def poll(self, place: OpenPlace) -> Revisions:
        """Return the newest revisions of the data that a tab shows, in one call that reads no text."""
        ...

    def titled(
        self, words: str, limit: int = 30, *, space_id: SpaceId | None = None
    ) -> list[Conversation]:
        """Return conversations with all of *words* in their titles, in the order of `recent`, archived ones last."""
        ...

    def some(self, ids: Iterable[ConversationId]) -> list[Conversation]:
        """Return the conversations with *ids*; unknown ids are skipped."""
        ...

    def thread(self, conversation_id: ConversationId) -> Thread:
        """Return the conversation as currently stored."""
        ...

    def cached(self, conversation_id: ConversationId) -> Thread | None:
        """Return the conversation that this process has cached, if any."""
        ...

    def cached_data(self) -> CachedData:
        """Count the conversations, messages and bytes of text that this process has in memory."""
        ...

    def rename(self, conversation_id: ConversationId, title: str) -> None:
        """Replace the title. Raise BadInput if *title* is empty or too long."""

    def give_title(self, conversation_id: ConversationId, title: str) -> bool:
        """Replace a title made of the prompt's first words with the model's *title*; keep any other title, and return False."""
        ...

    def pin(self, conversation_id: ConversationId, *, is_pinned: bool = True) -> None: ...
    def archive(self, conversation_id: ConversationId, *, is_archived: bool = True) -> None: ...

    def mark_read(self, thread: Thread) -> None:
        """Mark all messages of *thread* as read, on every device."""

    def mark_facts_noted(self, conversation_id: ConversationId, seq: int) -> None:
        """Record that facts were extracted from the prompts up to *seq*; the recorded number never decreases."""

    def forget(self, conversation_id: ConversationId) -> None:
        """Drop the conversation's key and text from the memory of this process."""

    def discard(self, conversation_id: ConversationId, seconds: int) -> None:
        """Hide the conversation, stop its turns, and destroy it after *seconds*; until then, `restore` can undo it."""

    def restore(self, conversation_id: ConversationId) -> None:
        """Restore a discarded conversation."""

    def set_policy(self, conversation_id: ConversationId, policy: MemoryPolicy) -> None:
        """Choose another memory policy; from then on, all messages since the last reset may be sent to the model again."""

    def set_model(self, conversation_id: ConversationId, model: str | None) -> None:
        """Choose the conversation's model; None: the model of its space, or else the user's."""

    def move(self, conversation_id: ConversationId, space_id: SpaceId | None) -> None:
        """Move the conversation into a space, or (None) out of its space. Raise SpaceGone."""

    def start_anew(self, thread: Thread) -> None:
        """Stop sending the existing messages to the model. The user still sees them."""

    def take_back_reset(self, thread: Thread) -> None:
        """Undo `start_anew`."""

    def instructions(self, conversation_id: ConversationId) -> str | None:
        """Return the conversation's own instructions. Raise Tampered if they cannot be decrypted."""
        ...

    def set_instructions(
        self, conversation_id: ConversationId, text: str, seen: str | None = None
    ) -> None:
        """Replace the conversation's instructions; an empty text removes them.

        *seen*: replace the instructions only if they still equal this text. Raise BadInput, ChangedElsewhere (they differ).
        """

    def set_summary(self, thread: Thread, summary: RunningSummary | None) -> None:
        """Replace the summary of *thread*.

        Raise Stale (the summary was replaced, or messages were deleted or restored meanwhile), Tampered.
        """


class Messages(Protocol):
    """Changes to one user's stored messages. All methods may raise NotFound for a missing conversation."""

    def edit_reply(self, thread: Thread, reply: Message, text: str) -> None:
        """Store *text* as another version of *reply*. Raise Stale, Busy, Tampered."""

    def discard(
        self,
        thread: Thread,
        doomed: Sequence[Message],
        facts: Iterable[FactId],
        seconds: int,
        *,
        drops_summary: bool,
    ) -> None:
        """Hide the messages *doomed*, and destroy them after *seconds*; destroy the facts with the ids *facts* immediately.

        *doomed* must include all descendants of its messages. *drops_summary*: also delete the thread's summary.

        Raise Stale, Busy (a reply to one of the messages is streaming), Tampered.
        """

    def can_restore(self, conversation_id: ConversationId) -> bool:
        """Return True if a deleted message can be restored."""
        ...

    def restore(self, conversation_id: ConversationId) -> None:
        """Restore all deleted messages that can still be restored. Raise TooLate, Tampered."""


class Attachments(Protocol):
    """Files attached to one user's prompts, stored in sealed pieces. All methods may raise NotFound."""

    def put_piece(
        self,
        conversation_id: ConversationId,
        message_id: MessageId,
        attachment_id: AttachmentId,
        number: int,
        octets: bytes,
    ) -> str:
        """Store a piece of an attachment before its prompt is sent; return the piece's MAC.

        *number*: counts from 1. *octets*: at most `LARGEST_PIECE` bytes.

        Raise AccountFull, Stale (a piece with this number exists), Tampered.
        """
        ...

    def read(
        self, conversation_id: ConversationId, message: Message, attachment: Attachment
    ) -> Iterator[bytes]:
        """Yield the pieces of an *attachment* of *message*. Raise Tampered if a piece is missing or was changed."""
        ...


class Facts(Protocol):
    """Facts of one user in all scopes, the oldest first."""

    def facts(self) -> tuple[Fact, ...]:
        """Return all facts; they are at most a minute old, or older while the database is down."""
        ...

    def read_ahead(self) -> None:
        """Begin to read all facts in a background thread, unless they are cached."""

    def fresh_facts(self) -> tuple[Fact, ...]:
        """Return all facts as currently stored, read without the cache."""
        ...

    def keep(self, fact: Fact, *, replaces: Fact | None = None, cuts: int | None = None) -> None:
        """Store *fact* as a new fact, or in place of the fact *replaces* that the caller has seen.

        *cuts*: `Conversation.cuts` of the source conversation when its messages were read. If messages were deleted or
        restored since then, the fact is refused. Raise BadInput, ChangedElsewhere, NotFound (the conversation or space is
        gone, or *cuts* has changed).
        """

    def forget(self, fact_id: FactId) -> None:
        """Destroy a fact, if it exists."""

    def forget_all(self) -> None:
        """Destroy all facts of every scope."""


class Spaces(Protocol):
    """Spaces of one user, sorted by name, archived ones included."""

    def all(self) -> tuple[Space, ...]:
        """Return all spaces; they are at most a minute old, or older while the database is down."""
        ...

    def read_ahead(self) -> None:
        """Begin to read all spaces in a background thread, unless they are cached."""

    def find(self, space_id: SpaceId | None) -> Space | None: ...

    def keep(self, space: Space, *, replaces: Space | None = None) -> None:
        """Store *space* as a new space, or in place of the space *replaces*. Raise BadInput, ChangedElsewhere, NotFound."""

    def forget(self, space_id: SpaceId) -> None:
        """Destroy a space with its facts, if it exists; its conversations stay."""


class Profile(Protocol):
    """The preferences of one user."""

    def preferences(self) -> Preferences:
        """Return the preferences; they are at most a minute old, or older while the database is down."""
        ...

    def revision(self) -> int:
        """Return the revision of the preferences as last read, or 0 if none are stored."""
        ...

    def outdate(self) -> None:
        """Mark the cached preferences as outdated, because another process changed them."""

    def read_ahead(self) -> None:
        """Begin to read the preferences in a background thread, unless they are cached."""

    def change(
        self, change: Callable[[Preferences], Preferences], *, seen: str | None = None
    ) -> None:
        """Apply *change* to the stored preferences, and store the result.

        If *seen* is given, the instructions are replaced only if they still equal *seen*. Raise BadInput, ChangedElsewhere.
        """


class Corpus(Protocol):
    """All messages of one user, read in bulk for search."""

    def conversations(self) -> Mapping[ConversationId, Listed]: ...

    def messages(
        self, wanted: Mapping[ConversationId, range]
    ) -> Iterator[Mapping[ConversationId, Sequence[Message]]]:
        """Yield the messages with the *wanted* sequence numbers, in order, for a few conversations at a time."""
        ...

    def some(
        self, asked: Mapping[MessageId, ConversationId]
    ) -> Mapping[MessageId, tuple[ConversationId, Message]]:
        """Return the messages *asked* that exist and are authentic, with the ids of their conversations."""
        ...

    def instructions_and_summaries(
        self, ids: Iterable[ConversationId]
    ) -> Mapping[ConversationId, InstructionsAndSummary]: ...

    def search_texts(
        self, ids: Iterable[ConversationId]
    ) -> Mapping[ConversationId, Sequence[SearchText]]:
        """Return the stored search texts of the conversations *ids*, in order; omit texts that cannot be decrypted."""
        ...

    def put_search_texts(
        self,
        listed: Listed,
        seqs: range,
        messages: Sequence[Message],
        replaces: Collection[int] = (),
    ) -> None:
        """Store *messages*, read from a conversation in the state *listed*, as search texts that cover *seqs*.

        The texts are as few as their largest size allows. A message that is too long for one is left out: no text covers
        its seq. *replaces*: the numbers of stored texts, which the first new one replaces; unknown numbers are ignored. A
        range that is stored already, and not replaced, stays as it is.

        Raise Stale (messages were deleted or restored, or a stored text overlaps), NotFound, AccountFull.
        """

    def delete_search_texts(self) -> None:
        """Destroy all search texts of the user."""


class UserFigures(Protocol):
    """Usage, account changes, and counts of stored rows of one user; none of these figures is encrypted.

    Days begin at midnight UTC. All methods may raise SignedOut and StoreUnavailable.
    """

    def report(self, first_day: date, last_day: date) -> UsageReport:
        """Return the usage of all turns that were settled from *first_day* to *last_day*."""
        ...

    def ledger(self, first_day: date, last_day: date, after: str = "") -> list[LedgerEntry]:
        """Return at most 500 ledger entries from *first_day* to *last_day*, sorted by day and id.

        *after*: skip the entries of *first_day* up to this id. To read the next entries, pass the day and the id of the
        last entry.
        """
        ...

    def account_changes(self) -> list[ActivityRow]:
        """Return the newest audit entries about the user: at most 500 changes and 100 failures."""
        ...

    def stored(self) -> StoredData:
        """Return the current counts of the user's rows."""
        ...


@dataclass(slots=True)
class Store:
    """All data of one user. Not frozen: a temporary chat replaces `facts`, `spaces` and `profile` (`TemporaryChat.share`)."""

    conversations: Conversations
    messages: Messages
    attachments: Attachments
    turns: Turns
    facts: Facts
    spaces: Spaces
    profile: Profile
    corpus: Corpus
    usage: UserFigures
