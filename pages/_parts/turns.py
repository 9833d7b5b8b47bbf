"""A turn as the page sees it: begun before anything is drawn, followed to its end, tried again."""

from collections.abc import Callable, Iterator
from typing import Protocol

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages._parts import safe_md
from pages._session import find_person, keep, keep_errors, kept_error
from services.chat import LiveTurn
from services.domain import ConversationId, Thread


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


def begun_thread(conversation_id: ConversationId | None) -> Thread | None:
    """The thread of the turn that `send` began for this run: the first words need not wait until the
    database has told it again."""
    turn: LiveTurn | None = st.session_state.pop("begun", None)
    return turn.thread if turn and turn.conversation_id == conversation_id else None


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


def draw_refusal() -> None:
    """Say what was refused. A prompt goes back into the composer, which is drawn after this."""
    if refusal := kept_error():
        st.warning(refusal.sentence)
        if refusal.prompt:
            st.session_state.composer = refusal.prompt


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


def _draw(said: str, box: DeltaGenerator) -> None:
    box.markdown(safe_md.body(f"{said} ▍"))
