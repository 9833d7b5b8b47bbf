"""A turn as the page sees it: begun before anything is drawn, followed to its end, tried again."""

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from uuid import UUID

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages._parts import browser, new_conversation, temporary, words
from pages._parts.elements import quiet_button
from pages._parts.thoughts import Coming
from pages._session import (
    Refusal,
    address,
    ask_for,
    callbacks,
    find_person,
    keep_errors,
)
from services.bootstrap import Chat, LiveTurn, RemoteTurn, TemporaryChat
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

_GLANCE = 0.5  # seconds
_PAINT = 0.03  # seconds in which a browser shows the first words, before it is given more to draw
_PATIENCE = 2.0  # seconds for which the rest of a page waits for those of others
_drawing = threading.Lock()
EDITED = "edited-message"  # in the session: the message that is a field (editing.py)
_VERSION = "m"  # in the address: which of several replies to the same prompt is read

Turn = LiveTurn | RemoteTurn
ExpectedNews = tuple[frozenset[ConversationId], ...]  # of replies, titles, summaries and facts


def send(thread: Thread | None, space_id: SpaceId | None, held: TemporaryChat | None) -> None:
    """Begin the turn that the composer holds, after what was read, or a conversation, in a space or one that is
    *held* by this tab alone. A callback: it runs before anything is drawn."""
    prompt, new = str(st.session_state.composer), new_conversation.choices(space_id)
    st.session_state.is_taken = True
    if switched_to := temporary.began_meanwhile(held):
        sentence = "This is a temporary chat now. Please send again."
        callbacks().keep(Refusal(sentence, prompt, switched_to))
        return
    place = held.id if held else thread.conversation.id if thread else None
    with keep_errors(prompt, place, is_unsent_kept=held is None):
        person = find_person()
        chat = (held or person).chat  # what was drawn, and no other: it says whether this is kept
        if thread:
            conversation = thread.conversation
            tip_id = thread.tip.id if thread.tip else None
            turn = chat.begin(conversation.id, prompt, seen_rev=conversation.rev, tip_id=tip_id)
        else:
            turn = chat.begin(None, prompt, new=new)
            new_conversation.forget()
        st.session_state.begun = place, turn
        st.session_state.followed = turn.conversation_id, None


def begun(held: TemporaryChat | None) -> tuple[Thread, LiveTurn] | None:
    """The turn that `send` began for this run, and its thread: the first words need not wait until the
    database has told it again. None once it is over.

    A fresh page becomes the conversation that was begun on it, also where another run took the place of the one
    that sent.
    """
    begun: tuple[ConversationId | None, LiveTurn] | None = st.session_state.get("begun")
    if begun is None:
        return None
    place, turn = begun
    read = held.id if held else st.query_params.get("c")
    is_here = str(place) == str(read)
    if is_here and not held:
        st.query_params.from_dict(address(turn.conversation_id))
    del st.session_state.begun
    thread = turn.thread
    return (thread, turn) if thread and is_here else None


def stop(turn: Turn) -> None:
    """End *turn* early; what was said is kept. A callback."""
    with keep_errors():
        turn.stop()


class DeferredDrawing:
    """Draws at once; or where a reply has just begun, after its first words, which so come sooner.

    Until then the page keeps what it showed there before.
    """

    def __init__(self, *, is_later: bool) -> None:
        self._is_later = is_later
        self._kept: list[Callable[[], None]] = []

    def __call__(self, place: DeltaGenerator, draw: Callable[[], None]) -> None:
        """Have *draw* fill *place*."""

        def fill() -> None:
            with place:
                draw()

        if self._is_later:
            self._kept.append(fill)
        else:
            fill()

    def catch_up(self) -> None:
        """Draw what was kept for later."""
        for fill in self._kept:
            fill()


def give_back_untaken(typed: str | None, place: ConversationId | None) -> None:
    """Put *typed* back into the composer if `send` never got it: a server that has just been started
    knows no callbacks of the tabs that come back to it."""
    is_taken = st.session_state.pop("is_taken", False)
    if typed and not is_taken:
        sentence = "Daybook was restarted. Please send again."
        callbacks().keep(Refusal(sentence, typed, place))
        st.rerun()


def retry(
    conversation_id: ConversationId,
    message_id: MessageId,
    model: str | None = None,
    policy: MemoryPolicy | None = None,
) -> None:
    """Have the prompt of this reply answered once more, by another model or under another policy if asked for.
    A callback."""
    with keep_errors():
        chat = temporary.services_of(conversation_id).chat
        chat.retry(conversation_id, message_id, model=model, policy=policy)
        show_newest()


def continue_reply(conversation_id: ConversationId, part_id: MessageId) -> None:
    """Have a reply that ended early go on after *part_id*, its last part. A callback."""
    with keep_errors():
        temporary.services_of(conversation_id).chat.continue_reply(conversation_id, part_id)
        show_newest()


def show_newest() -> None:
    """Read no chosen version: the newest comes."""
    st.query_params.pop(_VERSION, None)
    temporary.show(None)


def show(conversation_id: ConversationId, message_id: MessageId | None) -> None:
    """Have the branch of this message be read, or the newest."""
    if message_id is None:
        show_newest()
    elif temporary.is_held(conversation_id):
        temporary.show(message_id)
    else:
        st.query_params[_VERSION] = str(message_id)


def act(conversation_id: ConversationId) -> None:
    """Do what a button under a message asks for. A callback; what it gets comes from the browser."""
    asked: object = st.session_state[browser.ACTS].get("act")
    match asked:
        case {"name": "retry", "message": str(name)} if message_id := _message_id(name):
            retry(conversation_id, message_id)
        case {"name": "edit", "message": str(name)} if message_id := _message_id(name):
            st.session_state[EDITED] = message_id
        case {"name": "show", "message": str(name)} if message_id := _message_id(name):
            show(conversation_id, message_id)
        case {"name": "retry-with", "message": str(name)} if message_id := _message_id(name):
            ask_for(words.REGENERATE_WITH, (conversation_id, message_id))
        case {"name": "delete", "message": str(name)} if message_id := _message_id(name):
            ask_for(words.DELETE_MESSAGES, (conversation_id, message_id))
        case {"name": "seen", "message": str(name)} if message_id := _message_id(name):
            ask_for(words.CONTEXT_USED, (conversation_id, message_id))
        case _:
            pass


def chosen_version(conversation_id: ConversationId) -> MessageId | None:
    """The reply whose version the address names, or the tab, which alone knows of a temporary chat."""
    if temporary.is_held(conversation_id):
        return temporary.shown()
    return _message_id(st.query_params.get(_VERSION, ""))


def _message_id(name: str) -> MessageId | None:
    try:
        return MessageId(UUID(name))
    except ValueError:
        return None


def draw_refusals(
    place: ConversationId | None = None, *, has_composer: bool = True
) -> list[Refusal]:
    """Say what was refused, and return of it what need not be said again.

    A prompt goes back into the composer, which is drawn after this; but not over another, nor in another place
    than it was written for: there it can be read and copied until its writer goes back or dismisses it.
    """
    said: list[Refusal] = []
    is_free = has_composer
    for number, refusal in enumerate(callbacks().refusals):
        st.warning(refusal.sentence)
        if not refusal.prompt:
            said.append(refusal)
        elif is_free and refusal.place == place:
            st.session_state.composer = refusal.prompt
            said.append(refusal)
            is_free = False
        else:
            st.code(refusal.prompt, language=None, wrap_lines=True)
            st.caption("This draft is saved in the chat where you wrote it.")
            quiet_button(words.DISMISS, "close", f"dismiss-{number}", callbacks().forget, [refusal])
    return said


def continued(thread: Thread | None, turn: Turn | None) -> Message | None:
    """The reply at the end of *thread* with which *turn* goes on."""
    tip = thread.tip if thread else None
    if thread and turn and tip and tip.role is Role.ASSISTANT and tip.id == turn.prompt_id:
        return thread.branch()[-1]
    return None


def glance(turn: Turn, box: DeltaGenerator, before: str = "") -> None:
    """Draw what *turn* has said so far into *box*, after the text *before*."""
    Coming(turn, box, before).draw(next(turn.follow(), ""))


def follow(
    turn: Turn, box: DeltaGenerator, meanwhile: Callable[[], None], before: str = ""
) -> None:
    """Draw what *turn* says into *box*, after the text *before*, until it is stored; *meanwhile*, once, what the
    first words need not wait for."""
    st.session_state.followed = turn.conversation_id, None
    reply, is_whole, began_at = Coming(turn, box, before), False, 0.0
    for step, said in enumerate(turn.follow()):
        reply.draw(said)
        if is_whole or not (said or step):
            continue
        if not began_at:
            began_at = time.monotonic()
            time.sleep(_PAINT)
        with _turn_to_draw(is_patient=time.monotonic() - began_at < _PATIENCE) as is_whole:
            if is_whole:
                meanwhile()
    st.rerun()  # what was said comes from the database now


@contextmanager
def _turn_to_draw(*, is_patient: bool) -> Generator[bool]:
    """Whether the rest of a page may be drawn now, which is not while another is, unless patience has ended.

    Where many begin at once, all of them would else draw at once, and everybody's reply wait for it.
    """
    is_ours = _drawing.acquire(blocking=False)
    try:
        yield is_ours or not is_patient
    finally:
        if is_ours:
            _drawing.release()


def has_ended(thread: Thread) -> bool:
    """Whether what is said last in *thread* came while it was being read here.

    Until something else is read: of two runs in quick succession a browser may see the second alone.
    """
    followed: tuple[ConversationId, MessageId | None] | None = st.session_state.get("followed")
    tip = thread.branch()[-1]
    if followed not in ((thread.conversation.id, None), (thread.conversation.id, tip.id)):
        st.session_state.followed = None
        return False
    st.session_state.followed = thread.conversation.id, tip.id
    return True


def expected_news(*chats: Chat) -> ExpectedNews:
    """Where replies are coming, titles, summaries, and facts."""
    return tuple(chat.coming(purpose) for chat in chats for purpose in Purpose)


def await_news(ended: int, expected: ExpectedNews = (), *chats: Chat) -> None:
    """Draw the page anew once something of what was *expected* as its run began is there, or a callback is
    over whose run this one has replaced: *ended* had been as this one began."""
    is_drawn = False  # to the browser: what has only just been drawn would never get there

    def has_news() -> bool:
        is_done = callbacks().ended != ended and not callbacks().at_work
        return is_done or expected_news(*chats) != expected

    @st.fragment(run_every=_GLANCE)
    def glance() -> None:
        nonlocal is_drawn
        if is_drawn and has_news():
            st.rerun()
        is_drawn = True

    if callbacks().at_work or any(expected) or has_news():
        glance()
