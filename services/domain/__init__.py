"""The values of the app: frozen, typed, free of I/O."""

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
_NO_MESSAGE = MessageId(UUID(int=0))


class Role(StoredName):
    """The role of a message, as in the chat-completions API."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


class Outcome(StoredName):
    """The end of a reply."""

    COMPLETE = "complete"
    CUT = "cut"  # it reached its length limit
    STOPPED = "stopped"  # the reader pressed stop
    FAILED = "failed"  # the model or the network gave up
    INTERRUPTED = "interrupted"  # the process died; the text so far was kept
    EDITED = "edited"  # the user wrote it, in place of the model's text


class Purpose(StoredName):
    """The purpose of a model call; all are paid for alike."""

    REPLY = "reply"
    TITLE = "title"
    SUMMARY = "summary"
    FACTS = "facts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Thoughts:
    """The reasoning that an endpoint streamed before a reply: shown, and never sent to a model again."""

    text: str = field(default="", repr=False)  # empty where it could not be verified
    seconds: int = 0  # the time from the request to the first words
    is_shortened: bool = False
    is_verified: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of a conversation. Its body stays out of reprs, and so out of tracebacks."""

    id: MessageId
    seq: int
    parent_id: MessageId | None
    role: Role
    body: str = field(repr=False)  # empty where the message could not be verified
    created_at: datetime
    outcome: Outcome = Outcome.COMPLETE
    turn_id: TurnId | None = None
    is_verified: bool = True
    has_thoughts: bool = False  # true: it has thoughts, which are read apart, only for display
    attachments: tuple[Attachment, ...] = ()  # the attachments of a prompt
    # the stored parts of a `joined` reply
    parts: tuple["Message", ...] = field(default=(), repr=False)

    @property
    def stored(self) -> tuple["Message", ...]:
        """The stored messages of a joined one: a reply and its continuations, or itself."""
        return self.parts or (self,)

    @property
    def is_answer(self) -> bool:
        """Return True for a reply that is complete, edited, or cut at its length limit."""
        is_reply = self.role is Role.ASSISTANT and not self.is_thoughts_only
        return is_reply and self.outcome in (Outcome.COMPLETE, Outcome.CUT, Outcome.EDITED)

    @property
    def is_unfinished(self) -> bool:
        """Return True for a reply that can be continued."""
        is_early = self.outcome not in (Outcome.COMPLETE, Outcome.EDITED)
        return self.role is Role.ASSISTANT and is_early and not self.is_thoughts_only

    @property
    def is_newer(self) -> bool:
        """Return True if a newer version stored it with a value that this version does not know."""
        return self.is_verified and not (self.role.is_known and self.outcome.is_known)

    @property
    def is_thoughts_only(self) -> bool:
        """Return True for a reply that has thoughts but no text."""
        return self.has_thoughts and self.is_verified and not self.body.strip()


def joined(path: Iterable[Message]) -> tuple[Message, ...]:
    """The messages of *path*, each reply and its continuations as one.

    It has the id, seq and turn of its first part, which stay when the reply continues, and the outcome of its last. A
    part that could not be verified stands by itself.
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
    """A titled thread of messages of one user."""

    id: ConversationId
    title: str = field(repr=False)  # empty: not titled yet
    policy: MemoryPolicy
    # the number of changes of the thread; a write names the revision that it was made from
    rev: int = 0
    reset_seq: int = 0  # the user restarted the context here: no message up to it is ever planned
    start_seq: int = 0  # the model's view begins after this message; at least reset_seq
    facts_seq: int = 0  # facts were noted of the prompts up to this message
    pinned_at: datetime | None = None
    created_at: datetime
    updated_at: datetime
    last_seq: int = 0  # the last seq that was given out: its message may be deleted
    undo_until: datetime | None = None  # messages were deleted, and can be brought back until then
    # true: the model or the user gave the title; false: it is the first words
    is_titled: bool = False
    is_archived: bool = False
    is_unread: bool = False  # a reply has come that its user has not opened on any device
    is_verified: bool = True  # False: the title did not open
    # a hash of the sealed title, which changes with the title
    title_hash: str = field(default="", repr=False)
    model: str | None = None  # the model chosen for it; None: the user's
    space_id: SpaceId | None = None

    @property
    def cuts(self) -> int:
        """Count of deletions and restorations of messages: only these change the revision without a new seq."""
        return self.rev - self.last_seq


@dataclass(frozen=True, slots=True, kw_only=True)
class NewConversation:
    """The choices for a conversation that is not stored yet; None: the default applies."""

    policy: MemoryPolicy | None = None
    model: str | None = None
    instructions: str | None = field(default=None, repr=False)
    space_id: SpaceId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """The position of a conversation, for searches over all of them."""

    id: ConversationId
    rev: int
    last_seq: int
    space_id: SpaceId | None = None

    @property
    def cuts(self) -> int:
        """Count of deletions and restorations, as of a `Conversation`."""
        return self.rev - self.last_seq


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """A named folder of conversations, with the settings and notes that apply to all of them."""

    id: SpaceId
    name: str = field(repr=False)  # empty where it did not open
    instructions: str | None = field(default=None, repr=False)  # None: the user's
    policy: MemoryPolicy | None = None  # the policy of new conversations; None: the user's
    uses_personal_facts: bool = True  # facts about the user apply beside its own
    created_at: datetime
    is_archived: bool = False
    is_verified: bool = True
    is_newer: bool = False  # only a newer version can read it: a change is refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A fact about the user, for one conversation, one space, or (with neither) all conversations."""

    id: FactId
    text: str = field(repr=False)
    since: datetime
    # the message that it was noted from; None: its user wrote it
    source_id: MessageId | None = None
    source_conversation_id: ConversationId | None = None
    conversation_id: ConversationId | None = None
    space_id: SpaceId | None = None

    @property
    def is_placed(self) -> bool:
        """Return True if its user wrote it for one conversation or space."""
        return bool(self.conversation_id or self.space_id) and self.source_id is None

    def rewritten(self, text: str, at: datetime) -> "Fact":
        """Return the fact as its user edited it, without the message that it was noted from."""
        return replace(self, text=text, since=at, source_id=None, source_conversation_id=None)

    def holds_in(self, conversation: Conversation, space: Space | None) -> bool:
        """Return True if it is a fact of *conversation*, of its *space*, or of the user where the space uses those.

        A space that cannot be read uses none.
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
    """A summary of the messages from *from_seq* to *up_to_seq* of a branch, both included."""

    text: str = field(repr=False)
    from_seq: int
    up_to_seq: int
    made_at: datetime  # the time at which it was noted or edited
    is_edited: bool = False  # the user edited it


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchText:
    """The text by which a conversation is searched, made from one of its revisions."""

    text: str = field(repr=False)  # empty where it did not open
    conversation_rev: int  # 0 where it did not open
    rev: int  # the revision of its row


@dataclass(frozen=True, slots=True, kw_only=True)
class Preferences:
    """A user's choices for all conversations without their own."""

    model: str | None = None  # None: the deployment's first
    instructions: str | None = field(default=None, repr=False)  # None: the deployment's
    policy: MemoryPolicy | None = None  # None: the deployment's
    context_tokens: int | None = None  # None: all that the model and the deployment allow
    reply_tokens: int | None = None  # None: all that the model and the deployment allow
    window_messages: int | None = None  # the default window; None: the deployment's
    keeps_facts: bool | None = None  # None: the user was not asked yet
    keeps_facts_since: datetime | None = None  # no facts are noted of earlier prompts
    recalls_elsewhere: bool = False  # recall also finds messages of other conversations
    theme: Theme = "system"
    # the browser's tab, and so its history, shows the title of the open chat
    has_title_in_tab: bool = False
    is_verified: bool = True  # False: the stored text did not open
    is_newer: bool = False  # only a newer version can read it: a change is refused

    def with_memory(self, is_on: bool, now: datetime) -> "Preferences":
        """Return the preferences with memory switched on or off; earlier prompts are not searched for facts."""
        since = now if is_on and not self.keeps_facts else self.keeps_facts_since
        return replace(self, keeps_facts=is_on, keeps_facts_since=since)


def total_cost(message: Message, costs: Mapping[TurnId, TurnCost]) -> TurnCost | None:
    """Return the sum of usage and cost of all parts of *message*; None if *costs* has none of them."""
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
    """The end of a conversation's newest turn, which stored no reply."""

    prompt_id: MessageId
    outcome: Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Thread:
    """A conversation with its instructions and all its messages, by seq."""

    conversation: Conversation
    messages: tuple[Message, ...]
    is_whole: bool = True  # False: rows were removed, added, swapped or changed outside the app
    # the conversation's own; None: the user's
    instructions: str | None = field(default=None, repr=False)
    are_instructions_verified: bool = True  # False: it has some, and they did not open
    summary: RunningSummary | None = None
    is_summary_verified: bool = True  # False: there is one, and it did not open
    has_newer_parts: bool = (
        False  # only a newer version can read its summary or the state of its newest turn
    )
    tip_id: MessageId | None = None  # the end of the branch that is read; None: the newest message
    # None, too, in a thread that was not read with its newest turn
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
        """Return the thread of a conversation that begins with the choices of *new*, and with *policy*."""
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
        """Return True if a newer version stored some of it with a value that this version does not know.

        Such a conversation can be read, exported, renamed and deleted; nothing is sent in it.
        """
        is_known = self.conversation.policy.is_known and not self.has_newer_parts
        return not is_known or any(message.is_newer for message in self.messages)

    @property
    def tip(self) -> Message | None:
        """The stored message at the end of the branch that is read: the next prompt follows it."""
        if self.tip_id is None:
            return self.messages[-1] if self.messages else None
        return next((message for message in self.messages if message.id == self.tip_id), None)

    def branch(self) -> tuple[Message, ...]:
        """The messages from the first to the tip, following parents: the branch on the page, with each reply and its
        continuations as one."""
        by_id = {message.id: message for message in self.messages}
        path: list[Message] = []
        here = self.tip
        while here is not None and len(path) < len(self.messages):
            path.append(here)
            here = by_id.get(here.parent_id) if here.parent_id else None
        return joined(reversed(path))

    def up_to(self, message_id: MessageId) -> "Thread":
        """Return this thread with the branch that ends at a message; unchanged if it has no such message."""
        is_here = any(message.id == message_id for message in self.messages)
        return replace(self, tip_id=message_id) if is_here else self

    def before(self, message: Message) -> "Thread":
        """Return this thread with the branch that ends before *message*; an empty branch before the first message."""
        return replace(self, tip_id=message.parent_id or _NO_MESSAGE)

    def through(self, message_id: MessageId) -> "Thread":
        """Return this thread with the newest branch through a message; unchanged if it has no such message."""
        found = self.from_on(message_id)
        return self.up_to(found[-1].id) if found else self

    def from_on(self, message_id: MessageId) -> tuple[Message, ...]:
        """Return a message and all that follow it, on every branch, by seq; nothing if it is not in the thread."""
        found: list[Message] = []
        ids = {message_id}
        for message in self.messages:
            if message.id == message_id or message.parent_id in ids:
                ids.add(message.id)
                found.append(message)
        return tuple(found)

    def count(self, messages: Iterable[Message]) -> int:
        """Count messages as the page shows them: a reply and its continuations are one."""
        replies = {message.id for message in self.messages if message.role is Role.ASSISTANT}
        return sum(
            message.role is not Role.ASSISTANT or message.parent_id not in replies
            for message in messages
        )

    def off_branch(self) -> tuple[Message, ...]:
        """The messages that are not on the branch that is read, by seq."""
        kept = {part.id for message in self.branch() for part in message.stored}
        return tuple(message for message in self.messages if message.id not in kept)

    def versions(self, message: Message) -> tuple[Message, ...]:
        """Return the prompts or replies with the same parent as *message*, oldest first, *message* included."""
        return tuple(
            one
            for one in self.messages
            if one.role is message.role and one.parent_id == message.parent_id
        )
