"""Turns on pages: functions that begin, retry and continue them, draw their streaming replies, and draw refusals."""

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from uuid import UUID

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages._parts import browser, new_conversation, temporary, words
from pages._parts.elements import quiet_button
from pages._parts.thoughts import StreamedReply
from pages._session import FOUND, address, find_user, keep_errors, tell
from pages._streamlit import follow_in_turn
from pages._tab import Refusal, tab
from services.bootstrap import Chat, ChatIsOver, LiveTurn, RemoteTurn, TemporaryChat, ThreadView
from services.domain import (
    ConversationId,
    MemoryPolicy,
    Message,
    MessageId,
    Purpose,
    Role,
    SpaceId,
    Thread,
)
from services.errors import NotFound, OverBudget

_GLANCE = 0.5  # seconds between two checks for turns that have ended
_PAINT = 0.03  # seconds in which the browser can show the first words before it gets more to draw
_PATIENCE = 2.0  # seconds that the rest of a page waits at most while other pages are drawn
_drawing = threading.Lock()
_VERSION = "m"  # the URL parameter that names the message whose branch is shown
_GONE = "This message no longer exists."
_OTHER_VERSION = "This message is in another version of the chat, which is shown now."

Turn = LiveTurn | RemoteTurn
# for each `Chat` and each purpose of turns: the conversations in which such a turn runs
ExpectedNews = tuple[frozenset[ConversationId], ...]


def send(
    thread: Thread | None,
    space_id: SpaceId | None,
    temporary_chat: TemporaryChat | None,
    model: str,
) -> None:
    """Send the composer's text in *thread*; if *thread* is None, begin a conversation (perhaps temporary or in a space).

    This is a callback, so it runs before anything is drawn. *model*: the model that the page showed.
    """
    prompt, new = str(st.session_state.composer), new_conversation.choices(space_id)
    tab().is_taken = True
    if switched_to := temporary.began_meanwhile(temporary_chat):
        sentence = "This is a temporary chat now. Please send again."
        tab().callbacks.keep(Refusal(sentence, prompt, switched_to))
        return
    place = temporary_chat.id if temporary_chat else thread.conversation.id if thread else None
    with keep_errors(prompt, place, is_unsent_kept=temporary_chat is None):
        user = find_user()
        # the services with which the page was drawn, because that page shows whether the chat is saved
        chat = (temporary_chat or user).chat
        if thread:
            conversation = thread.conversation
            tip_id = thread.tip.id if thread.tip else None
            turn = chat.begin(
                conversation.id, prompt, seen_rev=conversation.rev, tip_id=tip_id, seen_model=model
            )
        else:
            turn = chat.begin(None, prompt, new=new, seen_model=model)
            new_conversation.forget()
            if temporary_chat is None:
                new_conversation.note_begun(prompt)
        tab().begun = place, turn
        tab().followed = turn.conversation_id, None


def begun(temporary_chat: TemporaryChat | None) -> LiveTurn | None:
    """Return the turn that `send` has just begun in the page's conversation; None if there is none or the turn is over.

    The turn contains the thread, so the thread need not be read again.

    If the turn began a conversation, change the URL to the URL of the conversation. This also works if another run
    has replaced the run in which the prompt was sent.
    """
    if (begun := tab().begun) is None:
        return None
    place, turn = begun
    read = temporary_chat.id if temporary_chat else st.query_params.get("c")
    is_here = str(place) == str(read)
    if is_here and not temporary_chat:
        st.query_params.from_dict(address(turn.conversation_id))
    tab().begun = None
    return turn if turn.thread and is_here else None


class DeferredDrawing:
    """Draws elements immediately or, if *is_later*, after the first words of a new reply, so that the words appear sooner.

    Until then, the old elements stay on the page.
    """

    def __init__(self, *, is_later: bool) -> None:
        self._is_later = is_later
        self._kept: list[Callable[[], None]] = []

    def __call__(self, place: DeltaGenerator, draw: Callable[[], None]) -> None:
        """Call *draw* within *place*, now or in `catch_up`."""

        def fill() -> None:
            with place:
                draw()

        if self._is_later:
            self._kept.append(fill)
        else:
            fill()

    def catch_up(self) -> None:
        """Draw the deferred elements."""
        for fill in self._kept:
            fill()


def give_back_untaken(
    typed: str | None, place: ConversationId | None, *, is_new: bool, is_temporary: bool
) -> None:
    """Put *typed* back into the composer if `send` was not called for it, for example because the server was restarted.

    The tab has then lost the choices for a new chat (*is_new*), and a temporary chat (*is_temporary*).
    """
    is_taken, tab().is_taken = tab().is_taken, False
    if typed and not is_taken:
        sentence = "The connection was lost. Please send again."
        if is_temporary:
            sentence = (
                "The connection was lost, and this temporary chat was deleted. Please send again."
            )
        elif is_new:
            sentence = "The connection was lost. Choices for this chat were reset: check them, then send again."
        tab().callbacks.keep(Refusal(sentence, typed, place))
        st.rerun()


def retry(
    conversation_id: ConversationId,
    message_id: MessageId,
    seen_model: str,
    *,
    model: str | None = None,
    policy: MemoryPolicy | None = None,
) -> None:
    """Request another reply to the prompt of a message, with another *model* or *policy* if given.

    *seen_model*: the model that the page showed.
    """
    chat = temporary.services_of(conversation_id).chat
    chat.retry(conversation_id, message_id, model=model, policy=policy, seen_model=seen_model)
    _show_coming(conversation_id)


def continue_reply(conversation_id: ConversationId, part_id: MessageId, seen_model: str) -> None:
    """Continue a reply that ended early; *part_id*: its last part, *seen_model*: the model that the page showed."""
    chat = temporary.services_of(conversation_id).chat
    chat.continue_reply(conversation_id, part_id, seen_model=seen_model)
    _show_coming(conversation_id)


def _show_coming(conversation_id: ConversationId) -> None:
    """Make the next run show the reply that was just requested, and announce its end, even if it ends before that run."""
    tab().followed = conversation_id, None
    show(None)


def show(message_id: MessageId | None) -> None:
    """Make the next run show the branch of a message or, if None, the newest branch."""
    st.query_params.pop(FOUND, None)
    if message_id is None:
        st.query_params.pop(_VERSION, None)
    else:
        st.query_params[_VERSION] = str(message_id)


def chosen_version() -> MessageId | None:
    """Return the id of the message whose branch the URL asks for, if any."""
    return message_id(st.query_params.get(_VERSION, ""))


def open_at(message_id: MessageId) -> None:
    """Make the next run show a message of the conversation."""
    tab().checked_found = None
    st.query_params[FOUND] = str(message_id)


def found_message() -> MessageId | None:
    """Return the id of the message at which the URL asks to open the conversation, if any."""
    return message_id(st.query_params.get(FOUND, ""))


def check_found(view: ThreadView) -> None:
    """If the message at which the URL opens the conversation is gone, or on another branch, say so.

    The URL then names the other branch, which so stays on the page when the reader goes on. While a reply streams, its
    branch is shown.
    """
    found, thread = found_message(), view.thread
    if found is None or found == tab().checked_found:
        return
    tab().checked_found = found
    if all(message.id != found for message in thread.messages):
        del st.query_params[FOUND]
        tell(_GONE)
        st.rerun()
    here = {part.id for message in thread.branch() for part in message.stored}
    if found not in here and not view.turn:
        st.query_params[_VERSION] = str(found)
        tell(_OTHER_VERSION)
        st.rerun()


def message_id(name: str) -> MessageId | None:
    """Return the id that *name* contains, or None if it is not an id."""
    try:
        return MessageId(UUID(name))
    except ValueError:
        return None


def draw_refusals(
    place: ConversationId | None = None, *, has_composer: bool = True
) -> list[Refusal]:
    """Draw the refusals of callbacks; return the refusals that need not be drawn again.

    The first refused prompt of the conversation *place* goes back into the composer. The other prompts are drawn, so that
    they can be copied, until they are dismissed.
    """
    said: list[Refusal] = []
    is_free = has_composer
    # in one container, so that the positions of the elements below do not depend on the number of refusals
    with st.container(key="refusals"):
        for refusal in tab().callbacks.refusals:
            with st.container(key=f"refusal-{refusal.id}"):
                st.warning(_sentence(refusal))
                if not refusal.prompt:
                    said.append(refusal)
                elif is_free and refusal.place == place:
                    st.session_state.composer = refusal.prompt
                    said.append(refusal)
                    is_free = False
                else:
                    st.code(refusal.prompt, language=None, wrap_lines=True)
                    # these two errors mean that the chat is deleted
                    if not isinstance(refusal.error, NotFound | ChatIsOver):
                        st.caption("This draft is saved in the chat where you wrote it.")
                    key = f"dismiss-{refusal.id}"
                    quiet_button(words.DISMISS, "close", key, tab().callbacks.forget, [refusal])
        if stored := tab().stored_edit:
            browser.mark_stored_edit(stored)
    return said


def _sentence(refusal: Refusal) -> str:
    """Return the sentence of *refusal*. For a limit of 0 it names no reset, because a reset would not help."""
    if isinstance(refusal.error, OverBudget):
        account = find_user().account
        for limit in (*account.limits, account.shared_limit):
            if limit and limit.cap is refusal.error.cap and not limit.most:
                return f"{words.LIMITS[limit.cap]} is 0."
    return refusal.sentence


def continued(view: ThreadView) -> Message | None:
    """Return the last reply of the thread if the current turn continues it, else None."""
    tip, turn = view.thread.tip, view.turn
    if turn and tip and tip.role is Role.ASSISTANT and tip.id == turn.prompt_id:
        return view.thread.branch()[-1]
    return None


def glance(turn: Turn, box: DeltaGenerator, before: str = "") -> None:
    """Draw the reply of *turn*, as far as it has arrived, in *box*, after the text *before*."""
    StreamedReply(turn, box, before).draw(next(turn.follow(), ""))


def follow(
    turn: Turn, box: DeltaGenerator, meanwhile: Callable[[], None], before: str = ""
) -> None:
    """Draw the reply of *turn* into *box*, after the text *before*, as it streams, until it is stored.

    Call *meanwhile*, which draws the rest of the page, once, after the first words.
    """
    tab().followed = turn.conversation_id, None
    reply, is_whole, began_at = StreamedReply(turn, box, before), False, 0.0
    for step, said in enumerate(follow_in_turn(turn.follow())):
        reply.draw(said)
        if is_whole or not (said or step):
            continue
        if not began_at:
            began_at = time.monotonic()
            time.sleep(_PAINT)
        with _turn_to_draw(is_patient=time.monotonic() - began_at < _PATIENCE) as is_whole:
            if is_whole:
                meanwhile()
    st.rerun()  # the next run reads the stored reply from the database


@contextmanager
def _turn_to_draw(*, is_patient: bool) -> Generator[bool]:
    """Yield True if the rest of the page may be drawn now: if no other page is being drawn, or *is_patient* is False.

    If pages were drawn at the same time, all of their replies would be delayed until all of these pages are drawn.
    """
    is_ours = _drawing.acquire(blocking=False)
    try:
        yield is_ours or not is_patient
    finally:
        if is_ours:
            _drawing.release()


def has_ended(thread: Thread) -> bool:
    """Return True if the last reply of *thread* has streamed on this page.

    The result stays True until another thread is opened, because the browser may show only the second of two quick runs.
    """
    tip = thread.branch()[-1]
    if tab().followed not in ((thread.conversation.id, None), (thread.conversation.id, tip.id)):
        tab().followed = None
        return False
    tab().followed = thread.conversation.id, tip.id
    return True


def expected_news(*chats: Chat) -> ExpectedNews:
    """Return the conversations in which turns are running: one set for each of *chats* and each purpose of turns."""
    return tuple(chat.coming(purpose) for chat in chats for purpose in Purpose)


def await_news(expected: ExpectedNews = (), *chats: Chat) -> None:
    """Rerun the page when the running turns differ from *expected*, or when the callback of a replaced run has ended.

    *expected* was read at the start of the run.
    """
    ended = tab().callbacks.ended_before
    is_drawn = False  # a rerun right away would keep the page from being shown

    def has_news() -> bool:
        is_done = tab().callbacks.ended != ended and not tab().callbacks.running
        return is_done or expected_news(*chats) != expected

    @st.fragment(run_every=_GLANCE)
    def glance() -> None:
        nonlocal is_drawn
        if is_drawn and has_news():
            st.rerun()
        is_drawn = True

    if tab().callbacks.running or any(expected) or has_news():
        glance()
