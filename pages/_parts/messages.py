"""Messages: a prompt on its tinted block, a reply on the bare page, and how a reply ended."""

from base64 import b64encode
from collections.abc import Iterable, Mapping
from html import escape
from typing import NamedTuple

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages._parts import safe_md, turns, words
from services.bootstrap import PersonServices
from services.domain import Message, Outcome, Role, Thread, TurnCost, TurnId
from services.errors import StoreUnavailable

Costs = Mapping[TurnId, TurnCost]

_UNVERIFIED = ":gray[:material/gpp_bad: This message could not be verified and is not shown. Please tell an operator.]"


class _Ending(NamedTuple):
    """How a reply ended that is not whole, in words and as a picture."""

    name: str
    icon: str
    sentence: str


_ENDINGS = {
    Outcome.STOPPED: _Ending("Stopped", ":material/stop_circle:", "You stopped this reply."),
    Outcome.FAILED: _Ending(
        "Broken off", ":material/cloud_off:", "The model broke off. What had come is kept."
    ),
    Outcome.INTERRUPTED: _Ending(
        "Interrupted",
        ":material/bolt:",
        "The server stopped in the middle of this reply. What had come is kept.",
    ),
}


def costs_of(person: PersonServices, messages: Iterable[Message]) -> Costs:
    """What the replies among *messages* cost; nothing, rather than no page, while nobody can say."""
    try:
        return person.conversations.costs(one for one in messages if one.role is Role.ASSISTANT)
    except StoreUnavailable:
        return {}


def draw(message: Message, costs: Costs, *, is_last: bool = False) -> None:
    """One message, whoever wrote it: text from elsewhere is made safe."""
    is_prompt = message.role is Role.USER
    with st.chat_message(message.role, width="content" if is_prompt else "stretch"):
        st.markdown(safe_md.body(message.body) if message.is_verified else _UNVERIFIED)
        ending = _ENDINGS.get(message.outcome)
        if ending and not is_last:  # below the last there is more to say: `draw_end`
            st.badge(ending.name, icon=ending.icon, color="orange", help=ending.sentence)
    if not is_prompt and not is_last and message.is_verified:
        st.html(f'<div class="db-acts">{_copy(message)}{_facts(message, costs)}</div>')


def draw_coming() -> DeltaGenerator:
    """The place of a reply that is coming, with room below for what will stand there."""
    with st.chat_message(Role.ASSISTANT):
        box = st.empty()
    st.space(32)
    return box


def draw_end(person: PersonServices, thread: Thread) -> None:
    """What can be done after the last message: copy it or ask again; and why a reply is missing."""
    last = thread.branch()[-1]
    failure = person.chat.failure(thread.conversation.id)
    is_answered = last.role is Role.ASSISTANT and last.outcome is Outcome.COMPLETE
    with st.container(
        horizontal=True,
        vertical_alignment="center",
        gap=2 if is_answered else "small",
        key="acts-last" if is_answered else "missing-reply",
    ):
        if is_answered:
            st.html(_copy(last), width="content")
        elif failure:
            st.error(failure.public, icon=":material/cloud_off:")
        elif ending := _ENDINGS.get(last.outcome):
            st.badge(ending.name, icon=ending.icon, color="orange")
            st.caption(ending.sentence, width="stretch")
        else:
            st.caption("No reply has come.", width="stretch")
        st.button(
            "Write again" if is_answered else "Retry",
            icon=":material/refresh:",
            type="tertiary" if is_answered else "secondary",
            key="retry",
            on_click=turns.retry,
            args=[thread.conversation.id],
        )
        if is_answered:
            st.html(f'<div class="db-acts">{_facts(last, costs_of(person, [last]))}</div>')


def _copy(message: Message) -> str:
    """A button that copies the message as it was written, when `browser.copy_on_click` has been drawn.

    In base64, for Streamlit's sanitizer takes away an attribute with `]>` or `-->` in it.
    """
    text = b64encode(message.body.encode()).decode()
    return (
        f'<button type="button" class="db-copy" data-copy="{text}" '
        'aria-label="Copy reply" title="Copy"><span class="db-icon" aria-hidden="true"></span></button>'
    )


def _facts(message: Message, costs: Costs) -> str:
    """Which model wrote it, what it read and wrote, what that cost, and when."""
    cost = costs.get(message.turn_id) if message.turn_id else None
    moment = words.moment(message.created_at)
    if cost is None:
        return f"<small>{moment}</small>"
    tokens = cost.tokens
    cached = f" ({tokens.cached:,} of them cached)" if tokens.cached else ""
    spelt = f"{tokens.prompt:,} tokens read{cached}, {tokens.reply:,} written"
    facts = (
        escape(cost.model),
        f"{tokens.prompt:,} + {tokens.reply:,} tokens",
        words.dollars(cost.cost_micro),
        moment,
    )
    return f'<small title="{spelt}">{" · ".join(facts)}</small>'
