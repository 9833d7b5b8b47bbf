"""The value types of the app: frozen dataclasses and enums, without I/O."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal, NewType
from uuid import UUID

from services.domain.accounts import AccountRole as AccountRole
from services.domain.accounts import SessionId as SessionId
from services.domain.accounts import TurnCost as TurnCost
from services.domain.accounts import Usage as Usage
from services.domain.accounts import UserId as UserId
from services.domain.attachments import Attachment as Attachment
from services.domain.attachments import AttachmentId as AttachmentId
from services.domain.names import StoredName
from services.domain.policies import Full as Full
from services.domain.policies import MemoryPolicy as MemoryPolicy
from services.domain.policies import Retrieval as Retrieval
from services.domain.policies import Summary as Summary
from services.domain.policies import Window as Window

ConversationId = NewType("ConversationId", UUID)
MessageId = NewType("MessageId", UUID)
TurnId = NewType("TurnId", UUID)
FactId = NewType("FactId", UUID)
SpaceId = NewType("SpaceId", UUID)
Theme = Literal["system", "light", "dark"]
EnterSends = Literal["device", "always", "never"]
_NO_MESSAGE = MessageId(UUID(int=0))


class Role(StoredName):
    """The role of a message, as in the chat-completions API."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


class Outcome(StoredName):
    """The outcome of a reply."""

    COMPLETE = "complete"
    CUT = "cut"  # the reply reached its length limit
    STOPPED = "stopped"  # the user stopped the reply
    FAILED = "failed"  # the model or the network failed
    INTERRUPTED = "interrupted"  # the end of the process, or an admin, ended the reply
    EDITED = "edited"  # the user replaced the model's text


class Purpose(StoredName):
    """The purpose of a model call. Calls for every purpose are charged to the user."""

    REPLY = "reply"
    TITLE = "title"
    SUMMARY = "summary"
    FACTS = "facts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Thoughts:
    """The reasoning that an endpoint streamed before a reply: shown, but never sent to a model."""

    text: str = field(default="", repr=False)  # empty if the thoughts could not be verified
    seconds: int = 0  # seconds from the request to the first words of the reply
    is_shortened: bool = False
    is_verified: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of a conversation. Its body stays out of reprs, and so out of tracebacks."""

    id: MessageId
    seq: int
    parent_id: MessageId | None
    role: Role
    body: str = field(repr=False)  # empty if the message could not be verified
    created_at: datetime
    outcome: Outcome = Outcome.COMPLETE
    turn_id: TurnId | None = None
    is_verified: bool = True
    # true if the message has thoughts, which are read separately and only for display
    has_thoughts: bool = False
    attachments: tuple[Attachment, ...] = ()  # the attachments of a prompt
    # the stored messages that `joined` merged into this reply; empty: none
    parts: tuple["Message", ...] = field(default=(), repr=False)

    @property
    def stored(self) -> tuple["Message", ...]:
        """The stored messages that make up this message: a reply and its continuations, or the message itself."""
        return self.parts or (self,)

    @property
    def is_answer(self) -> bool:
        """True for a reply that is complete, edited, or cut off at its length limit."""
        is_reply = self.role is Role.ASSISTANT and not self.is_thoughts_only
        return is_reply and self.outcome in (Outcome.COMPLETE, Outcome.CUT, Outcome.EDITED)

    @property
    def is_unfinished(self) -> bool:
        """True for a reply that can be continued."""
        is_early = self.outcome not in (Outcome.COMPLETE, Outcome.EDITED)
        return self.role is Role.ASSISTANT and is_early and not self.is_thoughts_only

    @property
    def is_newer(self) -> bool:
        """True if a newer version of the app stored the message with a value that this version does not know."""
        return self.is_verified and not (self.role.is_known and self.outcome.is_known)

    @property
    def is_thoughts_only(self) -> bool:
        """True for a reply that has thoughts but no text."""
        return self.has_thoughts and self.is_verified and not self.body.strip()


def joined(path: Iterable[Message]) -> tuple[Message, ...]:
    """Return the messages of *path*, with each reply and its continuations joined into one.

    A joined reply has the outcome of its last part. It has the id, seq and turn of its first part, which therefore stay
    the same when the reply is continued. A part that could not be verified is not joined.
    """
    found: list[Message] = []
    for message in path:
        before = found[-1] if found else message
        is_reply = before.role is message.role is Role.ASSISTANT
        if found and is_reply and before.is_verified and message.is_verified:
            body, parts = before.body + message.body, (*before.stored, message)
            found[-1] = replace(before, body=body, outcome=message.outcome, parts=parts)
        else:
            found.append(message)
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """One user's conversation: its title, settings and sequence numbers, without its messages."""

    id: ConversationId
    title: str = field(repr=False)  # empty if the conversation has no title yet
    policy: MemoryPolicy
    # the number of changes to the thread; a write names the revision that its caller has read
    rev: int = 0
    # messages up to reset_seq are not sent to the model, because the user cleared the context
    reset_seq: int = 0
    # messages after start_seq, which is at least reset_seq, are sent to the model in full
    start_seq: int = 0
    # prompts up to facts_seq have already been searched for facts about the user
    facts_seq: int = 0
    pinned_at: datetime | None = None
    created_at: datetime
    updated_at: datetime
    last_seq: int = 0  # the highest seq so far; its message may have been deleted
    undo_until: datetime | None = None  # until this time, deleted messages can be restored
    # true if the model or the user gave the title; false if the title is the first words of the prompt
    is_titled: bool = False
    is_archived: bool = False
    is_unread: bool = False  # true if there is a reply that the user has not opened on any device
    is_verified: bool = True  # false if the title could not be decrypted
    # a hash of the sealed title, which shows other tabs that the title has changed (`list_digest`)
    title_hash: str = field(default="", repr=False)
    model: str | None = None  # the model chosen for this conversation; None: the user's default
    space_id: SpaceId | None = None
    # `ConversationRow.choices` from the last read; this process's own changes appear here only after the next read
    choices: str = field(default="", compare=False, repr=False)

    @property
    def cuts(self) -> int:
        """The number of times that messages were deleted or restored: only these changes raise `rev` but not `last_seq`."""
        return self.rev - self.last_seq


@dataclass(frozen=True, slots=True, kw_only=True)
class NewConversation:
    """The choices for a conversation that is not stored yet. None means that the default applies."""

    policy: MemoryPolicy | None = None
    model: str | None = None
    instructions: str | None = field(default=None, repr=False)
    space_id: SpaceId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """The fields of a conversation that the search over all conversations needs."""

    id: ConversationId
    rev: int
    last_seq: int
    space_id: SpaceId | None = None
    instructions_rev: int = 0
    summary_rev: int = 0

    @property
    def cuts(self) -> int:
        """The number of times that messages were deleted or restored, as in `Conversation.cuts`."""
        return self.rev - self.last_seq


@dataclass(frozen=True, slots=True, kw_only=True)
class InstructionsAndSummary:
    """A conversation's own instructions and the text of its summary; None: it has none, or it could not be decrypted."""

    instructions: str | None = field(default=None, repr=False)
    summary: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """A named folder of conversations, with settings that apply to all of them."""

    id: SpaceId
    name: str = field(repr=False)  # empty if the name could not be decrypted
    # None: the user's instructions apply
    instructions: str | None = field(default=None, repr=False)
    policy: MemoryPolicy | None = None  # the policy of new conversations; None: the user's default
    uses_personal_facts: bool = True  # true if facts that apply everywhere also apply in this space
    created_at: datetime
    is_archived: bool = False
    is_verified: bool = True
    is_newer: bool = False  # true if only a newer version can read the space; changes are refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A fact about the user that applies in one conversation, one space, or (with neither id) all conversations."""

    id: FactId
    text: str = field(repr=False)
    since: datetime
    # the message that the fact was noted from; None: the user wrote the fact
    source_id: MessageId | None = None
    source_conversation_id: ConversationId | None = None
    conversation_id: ConversationId | None = None
    space_id: SpaceId | None = None

    @property
    def is_placed(self) -> bool:
        """True if the user wrote the fact and limited it to one conversation or space."""
        return bool(self.conversation_id or self.space_id) and self.source_id is None

    def rewritten(self, text: str, at: datetime) -> "Fact":
        """Return the fact with a *text* that the user wrote, and without the ids of its source message and conversation."""
        return replace(self, text=text, since=at, source_id=None, source_conversation_id=None)

    def holds_in(self, conversation: Conversation, space: Space | None) -> bool:
        """Return True if the fact applies in *conversation*: it belongs to the conversation, to its *space* or to the user.

        A space may exclude facts that apply everywhere. If the space cannot be read, these facts are excluded, too.
        """
        if self.conversation_id:
            return self.conversation_id == conversation.id
        if self.space_id or conversation.space_id is None:
            return self.space_id in (None, conversation.space_id)
        if space is None or space.is_newer or not space.is_verified:
            return False
        return space.uses_personal_facts


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningSummary:
    """A summary of the messages of a branch from *from_seq* to *up_to_seq*, inclusive."""

    text: str = field(repr=False)
    from_seq: int
    up_to_seq: int
    made_at: datetime  # the time at which the summary was made or edited
    is_edited: bool = False  # true if the user edited the summary


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchedMessage:
    """The part of a message that search needs."""

    id: MessageId
    seq: int
    role: Role
    created_at: datetime
    body: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchText:
    """The sealed copy of the messages in a range of seqs, from which search fills its index at once.

    A seq of the range without a message here is that of a message that was deleted or cannot be read.
    """

    seqs: range  # its start is the text's number
    messages: tuple[SearchedMessage, ...] = field(repr=False)  # in the order of their seqs


@dataclass(frozen=True, slots=True, kw_only=True)
class Preferences:
    """A user's choices for all conversations. A choice made for one conversation or space takes precedence."""

    model: str | None = None  # None: the deployment's first model
    # None: the deployment's instructions
    instructions: str | None = field(default=None, repr=False)
    policy: MemoryPolicy | None = None  # None: the deployment's default policy
    context_tokens: int | None = None  # None: the most that the model and the deployment allow
    reply_tokens: int | None = None  # None: the most that the model and the deployment allow
    window_messages: int | None = None  # the window's size; None: the deployment's default
    keeps_facts: bool | None = None  # true: facts are noted; None: the user has not chosen yet
    keeps_facts_since: datetime | None = None  # no facts are noted from prompts before this time
    recalls_elsewhere: bool = False  # true if recall also searches other conversations
    theme: Theme = "system"
    # "device": Enter sends a prompt, but begins a new line on touch screens and in edited messages
    enter_sends: EnterSends = "device"
    # true if the browser's tab, and so its history, shows the title of the open chat
    has_title_in_tab: bool = False
    # true if search looks in titles only, so that no index of messages is in memory
    searches_titles_only: bool = False
    is_verified: bool = True  # false if the stored text could not be decrypted
    is_newer: bool = False  # true if only a newer version can read the text; changes are refused

    def with_memory(self, is_on: bool, now: datetime) -> "Preferences":
        """Return the preferences with memory on or off. Once switched on, memory notes facts only from prompts after *now*."""
        since = now if is_on and not self.keeps_facts else self.keeps_facts_since
        return replace(self, keeps_facts=is_on, keeps_facts_since=since)


def total_cost(message: Message, costs: Mapping[TurnId, TurnCost]) -> TurnCost | None:
    """Return the total usage and cost of the parts of *message*; None if *costs* contains none of their turns."""
    turn_ids = [part.turn_id for part in message.stored if part.turn_id]
    known = [costs[turn_id] for turn_id in turn_ids if turn_id in costs]
    if not known:
        return None
    tokens = Usage(
        prompt=sum(cost.tokens.prompt for cost in known),
        reply=sum(cost.tokens.reply for cost in known),
        cached=sum(cost.tokens.cached for cost in known),
    )
    models = " + ".join(dict.fromkeys(cost.model for cost in known))
    return TurnCost(models, tokens, sum(cost.cost_micro for cost in known))


@dataclass(frozen=True, slots=True)
class MissingReply:
    """The prompt and the outcome of a conversation's newest turn, if that turn stored no reply."""

    prompt_id: MessageId
    outcome: Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Thread:
    """A conversation with its instructions and all its messages, ordered by seq."""

    conversation: Conversation
    messages: tuple[Message, ...]
    is_whole: bool = True  # false if rows were removed, added, swapped or changed outside the app
    # the conversation's own instructions; None: the instructions of the space or the user apply
    instructions: str | None = field(default=None, repr=False)
    # false if the conversation has instructions that could not be decrypted
    are_instructions_verified: bool = True
    summary: RunningSummary | None = None
    # false if the conversation has a summary that could not be decrypted
    is_summary_verified: bool = True
    # true if only a newer version can read the summary or the newest turn's state
    has_newer_parts: bool = False
    # the last message of the current branch; None: the newest message
    tip_id: MessageId | None = None
    # None: the newest turn has a reply, or the thread was read without that turn
    missing_reply: MissingReply | None = None

    @classmethod
    def empty(
        cls,
        conversation_id: ConversationId,
        title: str,
        policy: MemoryPolicy,
        new: NewConversation | None = None,
        *,
        made_at: datetime,
    ) -> "Thread":
        """Return the empty thread of a new conversation with *policy* and the choices in *new*."""
        new = new or NewConversation()
        conversation = Conversation(
            id=conversation_id,
            title=title,
            policy=policy,
            created_at=made_at,
            updated_at=made_at,
            model=new.model,
            space_id=new.space_id,
        )
        return cls(conversation=conversation, messages=(), instructions=new.instructions)

    @property
    def is_newer(self) -> bool:
        """True if a newer version of the app stored part of the thread with a value that this version does not know.

        Such a conversation can be read, exported, renamed and deleted, but not continued.
        """
        is_known = self.conversation.policy.is_known and not self.has_newer_parts
        return not is_known or any(message.is_newer for message in self.messages)

    @property
    def tip(self) -> Message | None:
        """The stored message at the end of the current branch; the next prompt follows it."""
        if self.tip_id is None:
            match self.messages[-2:]:
                case (before, last) if last.parent_id == before.id:
                    return last  # the usual case, decided without a look at the other messages
                case _:
                    return self._newest(self.messages)
        return next((message for message in self.messages if message.id == self.tip_id), None)

    def branch(self) -> tuple[Message, ...]:
        """Return the branch that the page shows: the tip and its ancestors, oldest first.

        Each reply and its continuations are joined into one message.
        """
        by_id = {message.id: message for message in self.messages}
        path: list[Message] = []
        here = self.tip
        while here is not None and len(path) < len(self.messages):
            path.append(here)
            here = by_id.get(here.parent_id) if here.parent_id else None
        return joined(reversed(path))

    def up_to(self, message_id: MessageId) -> "Thread":
        """Return a copy of this thread whose branch ends at a message; the unchanged thread if the message is not in it."""
        is_here = any(message.id == message_id for message in self.messages)
        return replace(self, tip_id=message_id) if is_here else self

    def before(self, message: Message) -> "Thread":
        """Return a copy of this thread whose branch ends before *message*; the branch is empty if *message* is the first."""
        return replace(self, tip_id=message.parent_id or _NO_MESSAGE)

    def through(self, message_id: MessageId) -> "Thread":
        """Return a copy of this thread with the newest branch that contains a message; the thread itself if no branch does."""
        newest = self._newest(self.from_on(message_id))
        return self.up_to(newest.id) if newest else self

    def _newest(self, messages: Iterable[Message]) -> Message | None:
        """Return the newest of *messages*; None if there are none.

        A whole reply that was stored late counts as old as the partial reply of its turn, because the user may have gone
        on from there.
        """
        first = {(one.turn_id, one.role): one.seq for one in reversed(self.messages)}

        def order(one: Message) -> tuple[int, int]:
            return first[one.turn_id, one.role] if one.turn_id else one.seq, one.seq

        return max(messages, key=order, default=None)

    def from_on(self, message_id: MessageId) -> tuple[Message, ...]:
        """Return a message and all its descendants on every branch, sorted by seq; empty if the thread lacks the message."""
        found: list[Message] = []
        ids = {message_id}
        for message in self.messages:
            if message.id == message_id or message.parent_id in ids:
                ids.add(message.id)
                found.append(message)
        return tuple(found)

    def count(self, messages: Iterable[Message]) -> int:
        """Return the number of *messages* as the page counts them: a reply and its continuations count as one."""
        replies = {message.id for message in self.messages if message.role is Role.ASSISTANT}
        return sum(
            message.role is not Role.ASSISTANT or message.parent_id not in replies
            for message in messages
        )

    def off_branch(self) -> tuple[Message, ...]:
        """Return the messages that are not on the current branch, sorted by seq."""
        kept = {part.id for message in self.branch() for part in message.stored}
        return tuple(message for message in self.messages if message.id not in kept)

    def versions(self, message: Message) -> tuple[Message, ...]:
        """Return all versions of *message*: the prompts or replies with the same parent, oldest first."""
        return tuple(
            one
            for one in self.messages
            if one.role is message.role and one.parent_id == message.parent_id
        )
