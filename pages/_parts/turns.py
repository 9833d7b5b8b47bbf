"""A turn as the page sees it: begun before anything is drawn, followed to its end, tried again."""

from collections.abc import Callable, Iterator
from typing import Protocol

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages._parts import safe_md
from pages._session import Refusal, find_person, keep, keep_errors, kept_error
from services.chat import Chat, LiveTurn
from services.domain import ConversationId, Thread

_TITLE_GLANCE = 0.5  # seconds


class Turn(Protocol):
    """A reply that is coming, here or in another process."""

    def follow(self) -> Iterator[str]: ...


def send(conversation_id: ConversationId | None, seen_rev: int | None) -> None:
    """Begin the turn that the composer holds. A callback: it runs before anything is drawn."""
    prompt = str(st.session_state.composer)
    st.session_state.is_taken = True
    with keep_errors(prompt):
        turn = find_person().chat.begin(conversation_id, prompt, seen_rev=seen_rev)
        st.query_params["c"] = str(turn.conversation_id)
        st.session_state.begun = turn


def begun_thread() -> Thread | None:
    """The thread of the turn that `send` began for this run: the first words need not wait until the
    database has told it again."""
    turn: LiveTurn | None = st.session_state.pop("begun", None)
    is_here = turn is not None and str(turn.conversation_id) == st.query_params.get("c")
    return turn.thread if turn and is_here else None


class Soon:
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


def give_back_untaken(typed: str | None) -> None:
    """Put *typed* back into the composer if `send` never got it: a server that has just been started
    knows no callbacks of the tabs that come back to it."""
    is_taken = st.session_state.pop("is_taken", False)
    if typed and not is_taken:
        keep("Daybook was started again meanwhile. Please send again.", typed)
        st.rerun()


def retry(conversation_id: ConversationId) -> None:
    """Have the last prompt answered once more. A callback."""
    with keep_errors():
        find_person().chat.retry(conversation_id)


def draw_refusal() -> Refusal | None:
    """Say what was refused. A prompt goes back into the composer, which is drawn after this."""
    refusal = kept_error()
    if refusal:
        st.warning(refusal.sentence)
        if refusal.prompt:
            st.session_state.composer = refusal.prompt
    return refusal


def glance(turn: Turn, box: DeltaGenerator) -> None:
    """Draw what *turn* has said so far into *box*."""
    _draw(next(turn.follow(), ""), box)


def follow(turn: Turn, box: DeltaGenerator, meanwhile: Callable[[], None]) -> None:
    """Draw what *turn* says into *box* until it is stored; *meanwhile*, once, what the first words need
    not wait for."""
    for step, said in enumerate(turn.follow()):
        _draw(said, box)
        if step == 1:
            meanwhile()
    st.rerun()  # what was said comes from the database now


def await_title(chat: Chat, conversation_id: ConversationId) -> None:
    """While the model is making a title, see when it is there, and draw the page anew then."""

    @st.fragment(run_every=_TITLE_GLANCE)
    def glance() -> None:
        if not chat.is_titling(conversation_id):
            st.rerun()

    if chat.is_titling(conversation_id):
        glance()


def _draw(said: str, box: DeltaGenerator) -> None:
    box.markdown(safe_md.body(f"{said} ▍"))
