"""Functions that draw a streaming reply, the wait for its first words, and the model's thoughts."""

from collections.abc import Mapping

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages._parts import safe_md, words
from services.bootstrap import LiveTurn, RemoteTurn
from services.domain import Message, MessageId, Thoughts

Known = Mapping[MessageId, Thoughts]

_WAIT_SECONDS = 3.0  # the page says after this many seconds that the model is thinking
_AT_ONCE = '<p class="db-at-once">This endpoint sends its reply at once.</p>'
_UNVERIFIED = ":gray[:material/gpp_bad: These thoughts failed their integrity check and are hidden. Contact your admin.]"


def draw(message: Message, thoughts: Known) -> None:
    """Draw the thoughts that came before each part of *message*, each in a collapsed expander."""
    for part in message.stored:
        if part.id in thoughts:
            _fold(thoughts[part.id], part.parent_id)


def _fold(thoughts: Thoughts, prompt_id: MessageId | None) -> DeltaGenerator:
    """Draw *thoughts* in a folded expander, and return the container of their text.

    The expander's key stays the same when the stream ends, so an open expander stays open.
    """
    label = (
        f"Thought for {words.duration(thoughts.seconds)}" if thoughts.is_verified else "Thoughts"
    )
    with st.expander(label, key=f"thoughts-{prompt_id}", type="compact"):
        box = st.empty()
        if thoughts.is_verified:
            safe_md.draw(thoughts.text, box)
        else:
            box.markdown(_UNVERIFIED)
        if thoughts.is_shortened:
            st.caption("Shortened: only the first 100 KB are kept.")
    return box


class StreamedReply:
    """Draws the reply of *turn* into *box* as it streams, after the text *before*."""

    def __init__(self, turn: LiveTurn | RemoteTurn, box: DeltaGenerator, before: str = "") -> None:
        self._turn, self._box, self._before = turn, box, before
        self._words: DeltaGenerator | None = box
        self._thoughts: DeltaGenerator | None = None
        # flags: text has arrived, thoughts have arrived, neither has arrived for a while, the reply comes at once
        self._stage = (False, False, False, False)
        self._drawn = ""  # the thoughts as they were last drawn

    def draw(self, said: str) -> None:
        """Draw the text *said* so far and the thoughts so far; if neither has arrived for a while, draw the waiting time."""
        thoughts = self._turn.thoughts()
        is_late = not (said or thoughts) and self._turn.waited_seconds() >= _WAIT_SECONDS
        stage = bool(said), thoughts is not None, is_late, self._turn.is_at_once
        if stage != self._stage:
            self._stage, self._drawn = stage, ""
            self._words, self._thoughts = self._places(said, thoughts, is_late=is_late)
        if self._thoughts and thoughts and thoughts.text != self._drawn:
            self._drawn = thoughts.text
            safe_md.draw(thoughts.text, self._thoughts)
        if self._words:
            safe_md.draw(f"{self._before}{said} ▍", self._words)

    def _places(
        self, said: str, thoughts: Thoughts | None, *, is_late: bool
    ) -> tuple[DeltaGenerator | None, DeltaGenerator | None]:
        """Create and return the containers of the text and the thoughts; while there is no text, draw "Thinking…"."""
        if not (thoughts or is_late):
            return self._box, None
        with self._box.container(gap="xsmall"):
            if said and thoughts:
                box = _fold(thoughts, self._turn.prompt_id)
                return st.empty(), box
            if self._before:
                safe_md.draw(self._before)
            # the browser counts up from this value (assets/style.css)
            waited = f"--waited: -{int(self._turn.waited_seconds())}s"
            if thoughts is None:
                at_once = _AT_ONCE if self._turn.is_at_once else ""
                st.html(f'{at_once}<p class="db-thinking" style="{waited}">Thinking…</p>')
                return None, None
            key = f"thinking-{self._turn.prompt_id}"
            st.html(f"<style>.st-key-{key} {{ {waited} }}</style>")
            with st.expander("Thinking…", key=key, type="compact"):
                return None, st.empty()
