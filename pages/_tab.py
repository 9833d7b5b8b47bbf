"""The state of a browser tab, but for that of its widgets. Each field is assigned by one module, or by `Tab` itself."""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from uuid import UUID

import streamlit as st

from services.bootstrap import LiveTurn, TemporaryChat
from services.domain import ConversationId, Fact, MessageId, NewConversation, SpaceId, UserId
from services.domain.limits import UNDO_SECONDS
from services.domain.memories import DeletedMemories
from services.errors import AppError

KEY = "tab-state"  # in the session state
# of the list at first, and as many more on demand: its cost must not grow with the number of conversations
ROWS = 30


@dataclass(frozen=True, slots=True)
class Refusal:
    """The reason why a callback failed, and the prompt that it should have sent."""

    sentence: str
    prompt: str = field(repr=False)
    place: ConversationId | None = None  # the conversation of the prompt; None: a fresh page
    error: AppError | None = field(default=None, compare=False)


@dataclass(slots=True)
class Callbacks:
    """The state that callbacks leave for the page."""

    # until `forget`: another run may cut short the one that draws them
    refusals: list[Refusal] = field(default_factory=list[Refusal])
    running: int = 0  # of runs that were replaced
    ended: int = 0  # ever: a run that finds more than at its start may have drawn an old state
    left: set[ConversationId] = field(default_factory=set[ConversationId])  # for good

    def keep(self, refusal: Refusal) -> None:
        """Have the page draw *refusal* and put its prompt back."""
        if refusal not in self.refusals and refusal.place not in self.left:
            self.refusals.append(refusal)

    def forget(self, drawn: Collection[Refusal]) -> None:
        self.refusals = [refusal for refusal in self.refusals if refusal not in drawn]

    def leave(self, place: ConversationId) -> None:
        """Drop present and later refusals of *place*, a conversation that cannot be opened again."""
        self.left.add(place)
        self.refusals = [refusal for refusal in self.refusals if refusal.place != place]


@dataclass(frozen=True, slots=True)
class Undoable:
    """An act that can be undone until *until*."""

    id: UUID
    sentence: str = field(repr=False)
    restore: Callable[[], None] = field(repr=False)
    scope: tuple[ConversationId | None, SpaceId | None] | None = None  # of a fact
    count: int = 0  # of messages
    memories: tuple[DeletedMemories, ...] = field(default=(), repr=False)
    until: float = field(default_factory=lambda: time.monotonic() + UNDO_SECONDS)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a form or button of the admin page at *place*."""

    place: str = ""
    news: str = ""
    refusal: str = ""
    of_fields: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(slots=True, repr=False)
class Tab:
    """What the runs and callbacks of one tab leave for each other."""

    callbacks: Callbacks = field(default_factory=Callbacks)
    unsent: str = ""  # a prompt that a user who was signed out meanwhile sent
    destination: dict[str, str] | None = None  # the query of the chat page to go to
    dialog: tuple[Callable[..., None], tuple[object, ...]] | None = None  # to open
    news: str = ""  # to be told by the next run
    new: NewConversation = field(default_factory=NewConversation)  # chosen on the fresh page
    undoable: list[Undoable] = field(default_factory=list[Undoable])
    # turns
    begun: tuple[ConversationId | None, LiveTurn] | None = None  # where, and what, for the next run
    followed: tuple[ConversationId, MessageId | None] | None = None  # its last reply came here
    is_taken: bool = False  # the text of the composer was sent
    # the temporary chat
    temporary: TemporaryChat | None = None
    has_switched_off: bool = False  # by the last callback
    # what is edited
    edited_message: MessageId | None = None
    edited_title: tuple[str, ConversationId] | None = None  # beside the menu of this key
    edited_facts: dict[str, Fact] = field(default_factory=dict[str, Fact])  # by the noun of a list
    seen: tuple[str, object] = ("", None)  # a field, and the document that it was drawn from
    field_keys: dict[str, tuple[str, int]] = field(default_factory=dict[str, tuple[str, int]])
    # how much is drawn
    rows: int = ROWS  # of the list
    is_archive: bool = False  # the list is the archive
    facts_drawn: int = 0
    drawn: dict[ConversationId, tuple[int, int]] = field(
        default_factory=dict[ConversationId, tuple[int, int]]
    )  # from the first message, up to a number of messages
    opened_at: tuple[ConversationId, int] | None = None  # the seq of the last prompt then
    printed: ConversationId | None = None
    # facts, and other processes
    offered_in: ConversationId | None = None  # notes were
    noting_in: ConversationId | None = None  # the tab was last
    running_elsewhere: frozenset[str] = frozenset()  # another process makes replies in these
    # the admin page
    chosen_users: Mapping[UserId, str] = field(default_factory=dict[UserId, str])  # addresses
    opened_rows: int = 0  # of the table of users
    invitation: str = ""  # the code that is shown until it is dismissed
    outcome: Outcome = field(default_factory=Outcome)
    audit_before: str = ""

    def list_from_the_top(self, *, is_archive: bool = False) -> None:
        self.rows, self.is_archive = ROWS, is_archive

    def release_temporary(self) -> TemporaryChat | None:
        """Return the temporary chat, if there is one, which is this page's no longer, and drop what is left of its text."""
        held, self.temporary = self.temporary, None
        if held:
            self.seen, self.begun = ("", None), None
        return held


def tab() -> Tab:
    """Return the state of the tab of this run."""
    return st.session_state.setdefault(KEY, Tab())
