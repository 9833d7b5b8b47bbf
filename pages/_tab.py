"""The state of a browser tab, without the state of widgets. Each field is assigned by one module only, or by `Tab`."""

import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import streamlit as st

from services.bootstrap import LiveTurn, TemporaryChat
from services.domain import ConversationId, Fact, MessageId, NewConversation, SpaceId, UserId
from services.domain.accounts import OpenInvitation, UserUsage
from services.domain.addresses import EmailAddress
from services.domain.limits import UNDO_SECONDS
from services.domain.memories import DeletedMemories
from services.errors import AppError

KEY = "tab-state"  # the key of the `Tab` in Streamlit's session state
# the list of conversations shows this many rows at first, and adds as many on demand, so that its
# cost does not grow with the number of conversations
ROWS = 30


@dataclass(frozen=True, slots=True)
class Refusal:
    """The reason why a callback failed, and the prompt that the callback should have sent."""

    sentence: str
    prompt: str = field(repr=False)
    place: ConversationId | None = None  # the conversation of the prompt; None: a new chat
    error: AppError | None = field(default=None, compare=False)
    # the browser scrolls to a refusal whose id it has not seen
    id: UUID = field(default_factory=uuid4, compare=False)


@dataclass(slots=True)
class Callbacks:
    """The state that callbacks pass to the page."""

    # refusals stay until `forget` is called, because another run may replace the run that draws them
    refusals: list[Refusal] = field(default_factory=list[Refusal])
    # the number of running callbacks and actions of dialogs; those that run while a page is drawn belong to runs that the
    # page's run replaced
    running: int = 0
    # the number of finished callbacks: if it grew during a run, the run may have drawn outdated state
    ended: int = 0
    ended_before: int = 0  # the value of `ended` at the start of the newest run of the page
    # temporary chats that cannot be opened again: their refusals are dropped
    left: set[ConversationId] = field(default_factory=set[ConversationId])

    def keep(self, refusal: Refusal) -> None:
        """Store *refusal*, replacing an equal one, until the page has drawn it and put its prompt back into the composer."""
        self.forget([refusal])
        if refusal.place not in self.left:
            self.refusals.append(refusal)

    def forget(self, drawn: Collection[Refusal]) -> None:
        self.refusals = [refusal for refusal in self.refusals if refusal not in drawn]

    def leave(self, place: ConversationId) -> None:
        """Drop current and future refusals of *place*, a conversation that cannot be opened again."""
        self.left.add(place)
        self.refusals = [refusal for refusal in self.refusals if refusal.place != place]


@dataclass(frozen=True, slots=True)
class BarLine:
    """A line of the bar at the bottom left: what was done. It ends at the time *until* (`time.monotonic`)."""

    id: UUID
    sentence: str = field(repr=False)
    restore: Callable[[], None] | None = field(default=None, repr=False)  # None: there is no Undo
    # after the deletion of a fact: its conversation and its space; after any other action: None
    scope: tuple[ConversationId | None, SpaceId | None] | None = None
    count: int = 0  # the number of deleted messages
    memories: tuple[DeletedMemories, ...] = field(default=(), repr=False)
    document_id: UUID | None = None  # the id of the changed document; None: equal to *id*
    until: float = field(default_factory=lambda: time.monotonic() + UNDO_SECONDS)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of the last form or button that draws it beside itself; *place*: the key of that form or button."""

    place: str = ""
    news: str = ""
    refusal: str = ""
    of_fields: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class MadeInvitation:
    """An invitation that the admin of this tab has just made."""

    code: str = field(repr=False)
    email: EmailAddress | None = field(repr=False)  # None: for anyone who has the code
    is_mailed: bool


@dataclass(slots=True, repr=False)
class Tab:
    """The state that the runs and callbacks of one tab pass to each other."""

    callbacks: Callbacks = field(default_factory=Callbacks)
    unsent: str = ""  # the prompt of a user who was signed out while sending
    destination: dict[str, str] | None = None  # the URL query of the chat page to open next
    # the dialog that the next run opens, with its arguments
    dialog: tuple[Callable[..., None], tuple[object, ...]] | None = None
    new: NewConversation = field(default_factory=NewConversation)  # the choices made for a new chat
    bar: list[BarLine] = field(default_factory=list[BarLine])  # the newest line first

    drawn_at: float = -math.inf  # the start of the last run for a signed-in user (`time.monotonic`)
    unfolded_notices: frozenset[UUID] = frozenset()  # the notices that are shown beside the gravest
    # the widgets that the last run did not draw again: their metadata, and the time since when, by `pages._streamlit`
    stale_widgets: dict[str, tuple[object, float]] = field(
        default_factory=dict[str, tuple[object, float]]
    )
    # true: the last run opened a dialog, which another run would close
    is_dialog_open: bool = False

    # --- turns

    # the conversation of the last sent prompt (None: a new conversation), and the turn whose reply the next run draws
    begun: tuple[ConversationId | None, LiveTurn] | None = None
    # the conversation whose last reply streamed on this page, and the id of its last message once the reply is stored
    followed: tuple[ConversationId, MessageId | None] | None = None
    is_taken: bool = False  # true: `send` was called with the composer's text
    # the number of saved conversations that this tab has begun, and the first prompt of the newest ("" once it was left)
    begun_here: tuple[int, str] = (0, "")

    # --- the temporary chat

    temporary: TemporaryChat | None = None
    has_switched_off: bool = False  # true: the last callback switched the temporary chat off

    # --- texts that are edited

    edited_message: MessageId | None = None
    # the last edited message of which a new version was stored
    stored_edit: MessageId | None = None
    # the key of the menu beside the title that is being edited, and the conversation of that title
    edited_title: tuple[str, ConversationId] | None = None
    # edited facts, keyed by the noun of their list (`FactList.noun`), each with the reason why saving it was refused, if any
    edited_facts: dict[str, tuple[Fact, str]] = field(default_factory=dict[str, tuple[Fact, str]])
    # the key of a dialog's field, and the stored document with whose text the field was filled
    seen: tuple[str, object] = ("", None)
    field_keys: dict[str, tuple[str, int]] = field(default_factory=dict[str, tuple[str, int]])

    # --- the parts that are drawn

    rows: int = ROWS  # the number of rows that the list of conversations shows
    is_archive: bool = False  # true: the list shows archived conversations
    facts_drawn: int = 0
    # by conversation: the index of the first message on the page, and the branch's length up to which this index stays
    drawn: dict[ConversationId, tuple[int, int]] = field(
        default_factory=dict[ConversationId, tuple[int, int]]
    )
    # the open conversation, and the seq that its last prompt had when the conversation was opened
    opened_at: tuple[ConversationId, int] | None = None
    printed: ConversationId | None = None
    # the message that the URL named when `turns.check_found` last looked for it: Streamlit goes on sending a parameter that
    # the browser has removed
    checked_found: MessageId | None = None

    # --- facts, and other processes

    offered_in: ConversationId | None = None  # the conversation that showed the offer to note facts
    # the conversation that the tab shows; once the tab shows another page, facts are extracted from this conversation
    noting_in: ConversationId | None = None
    # conversations whose replies stream in another process
    running_elsewhere: frozenset[str] = frozenset()

    # --- the sign-in page

    # the code of the invitation that this tab has asked for, and the answer
    asked_invitation: tuple[str, OpenInvitation | None] = ("", None)

    # --- the admin page

    # the users that the admin has selected, with their figures at the time of the selection
    chosen_users: Mapping[UserId, UserUsage] = field(default_factory=dict[UserId, UserUsage])
    opened_rows: int = 0  # the number of times that a row of the users' table was opened
    invitation: MadeInvitation | None = None  # shown until it is dismissed
    outcome: Outcome = field(default_factory=Outcome)
    audit_before: str = ""

    def add_line(self, made: BarLine) -> None:
        """Add *made* to the bar; it replaces the line with the same id."""
        self.bar[:] = [made, *(line for line in self.bar if line.id != made.id)]

    def drop_ended_lines(self) -> None:
        """Drop the lines of the bar whose time is up, with their text."""
        now = time.monotonic()
        self.bar[:] = [line for line in self.bar if line.until > now]

    def list_from_the_top(self, *, is_archive: bool = False) -> None:
        self.rows, self.is_archive = ROWS, is_archive

    def note_opening(
        self, conversation_id: ConversationId | None, message_id: MessageId | None
    ) -> None:
        """Note that a conversation is opened: at a message, for which the page looks again, or at its end.

        At its end, the earlier messages that a search had drawn are not drawn again.
        """
        self.checked_found = None
        if conversation_id and not message_id:
            self.drawn.pop(conversation_id, None)

    def release_temporary(self) -> TemporaryChat | None:
        """Remove the temporary chat, if there is one, and other state that contains its text; return the chat."""
        temporary_chat, self.temporary = self.temporary, None
        if temporary_chat:
            self.seen, self.begun = ("", None), None
            self.bar[:] = [
                line for line in self.bar if temporary_chat.id not in (line.id, line.document_id)
            ]
        return temporary_chat


def tab() -> Tab:
    """Return the state of the tab in which this run draws."""
    return st.session_state.setdefault(KEY, Tab())
