"""A conversation's head, its messages and its export."""

from collections.abc import Callable
from contextlib import nullcontext
from uuid import UUID

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages._parts import dialogs, memory, messages
from services import portable
from services.bootstrap import PersonServices
from services.domain import ConversationId, Message, Thread
from services.errors import NotFound
from services.memory import ContextPlan

_EXPORTS = (
    ("Markdown", ".md", "text/markdown", portable.to_markdown),
    ("JSON", ".json", "application/json", portable.to_json),
)
_DRAWN = 20  # messages at once: a browser takes seconds for hundreds


def asked_for() -> ConversationId | None:
    """The conversation that the address names. Raise NotFound if no conversation can have that name."""
    name = st.query_params.get("c")
    if name is None:
        return None
    try:
        return ConversationId(UUID(name))
    except ValueError:
        raise NotFound from None


def draw_welcome(place: DeltaGenerator) -> None:
    """A fresh page."""
    with place.container(key="welcome", horizontal_alignment="center", gap="xsmall"):
        st.space(120)
        st.title("A fresh page", anchor=False, text_alignment="center")
        st.markdown(
            ":gray[Write below to begin. What you write is sealed before it is stored.]",
            text_alignment="center",
        )


def draw_title(thread: Thread) -> DeltaGenerator:
    """The title, and beside it the place for `draw_menus`."""
    head = st.container(
        horizontal=True, vertical_alignment="center", gap=2, wrap=False, key="chat-head"
    )
    title = dialogs.title(thread.conversation, limit=120)
    head.title(title, anchor=False, width="stretch")
    return head


def draw_menus(person: PersonServices, thread: Thread) -> None:
    """What can be done with the whole conversation."""
    files = st.popover("Export", icon=":material/download:", type="tertiary", key="export")
    with files.container(gap=None, width=200, key="export-panel"):
        for name, suffix, kind, write in _EXPORTS:
            _export_button(name, suffix, kind, write, person, thread)
    dialogs.draw_menu("This conversation", thread.conversation, key="conversation-menu")


def draw_messages(
    person: PersonServices, thread: Thread, plan: ContextPlan | None, *, has_last: bool
) -> None:
    """The last messages, in pencil what the model does not see. *has_last*: the very last stands already."""
    branch = thread.branch()
    first = _first_drawn(thread, len(branch))
    if not thread.is_whole:
        st.error(
            "Messages of this conversation were removed or changed behind Daybook's back. "
            "What could be verified is shown. Please tell an operator.",
            icon=":material/gpp_bad:",
        )
    if first:
        st.button(
            "Earlier messages",
            icon=":material/expand_less:",
            type="tertiary",
            key="earlier",
            on_click=_draw_from,
            args=[thread, len(branch), first - _DRAWN],
        )
    if plan:
        memory.draw_banner(thread, plan)
    start_seq = plan.start_seq if plan else 0
    unseen = memory.out_of_view(branch, plan)
    costs = messages.costs_of(person, branch[first:])
    beginning = sum(message.seq <= start_seq for message in branch)

    def draw(message: Message) -> None:
        is_unseen, is_last = message.id in unseen, message is thread.messages[-1]
        with st.container(key=f"out-of-view-{message.seq}") if is_unseen else nullcontext():
            messages.draw(message, costs, is_last=is_last)

    for message in branch[first:beginning]:
        draw(message)
    if beginning and beginning >= first:  # with the first that is drawn, it stands above it
        memory.draw_beginning()
    for message in branch[max(first, beginning) : len(branch) - has_last]:
        draw(message)


def _first_drawn(thread: Thread, count: int) -> int:
    """Where in the branch of *count* messages the page begins.

    It stays there for a while: whatever keeps its place in the page need not be drawn anew.
    """
    key = _drawn_key(thread)
    if count > st.session_state.get(key, (0, -1))[1]:
        _draw_from(thread, count, count - _DRAWN)
    return st.session_state[key][0]


def _draw_from(thread: Thread, count: int, first: int) -> None:
    """Begin the page there until as many messages have been added as are drawn at once."""
    st.session_state[_drawn_key(thread)] = max(0, first), count + _DRAWN


def _drawn_key(thread: Thread) -> str:
    return f"drawn-{thread.conversation.id}"


def _export_button(
    name: str,
    suffix: str,
    kind: str,
    write: Callable[[Thread], str],
    person: PersonServices,
    thread: Thread,
) -> None:
    """Its file is written when it is asked for, from what is stored then."""
    conversation = thread.conversation
    st.download_button(
        f"As {name}",
        data=lambda: write(person.conversations.thread(conversation.id)),
        file_name=portable.file_name(conversation.title, suffix),
        mime=kind,
        icon=":material/download:",
        type="tertiary",
        width="stretch",
        key=f"export-{suffix[1:]}",
        on_click="ignore",
    )
