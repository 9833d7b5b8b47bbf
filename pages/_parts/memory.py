"""What the model sees of a conversation: the policy, the meter, and where its view begins."""

from collections.abc import Sequence
from html import escape
from typing import assert_never

import streamlit as st

from pages._parts import safe_md, words
from pages._session import find_person, keep_errors
from services.chat import Chat, Setup
from services.domain import (
    Conversation,
    Full,
    MemoryPolicy,
    Message,
    MessageId,
    Retrieval,
    Role,
    Summary,
    Thread,
    Window,
)
from services.errors import InstructionsTooLong, PromptTooLong
from services.llm import ModelInfo
from services.memory import ContextPlan

_OFFERED: tuple[MemoryPolicy, ...] = (Full(), Window())
_METER_ICONS = (10, 20, 40, 60, 80, 90)  # per cent; there are no others


def plan_of(chat: Chat, thread: Thread, setup: Setup) -> ContextPlan | None:
    """What the next turn would see, or None: what is asked for does not fit."""
    try:
        return chat.view(thread, setup)
    except (PromptTooLong, InstructionsTooLong):
        return None


def draw_policy(thread: Thread) -> None:
    """Choose how the past is chosen, or start the context anew."""
    conversation = thread.conversation
    policies = {_name(policy): policy for policy in (*_OFFERED, conversation.policy)}
    now = _name(conversation.policy)
    key = f"policy-{conversation.id}"
    st.session_state[key] = now  # it may have been chosen in another tab
    panel = st.popover(now, icon=":material/history:", type="tertiary", key="memory-policy")
    with panel.container(width=340):
        st.radio(
            "What the model remembers here",
            list(policies),
            captions=[_caption(policy) for policy in policies.values()],
            key=key,
            on_change=_choose,
            args=[conversation, policies],
        )
        if conversation.reset_seq and conversation.reset_seq == thread.messages[-1].seq:
            _undo_button(thread, key="undo-start")
        else:
            st.button(
                "Start the context anew",
                icon=":material/restart_alt:",
                type="tertiary",
                help="The model forgets what was said so far. You keep all of it.",
                key="start-anew",
                on_click=_start_anew,
                args=[thread],
            )


def draw_meter(plan: ContextPlan | None, info: ModelInfo) -> None:
    """How full the model's context is; opened: what the next turn sends."""
    room = info.context_tokens - info.reply_tokens
    percent = 100 if plan is None else round(100 * plan.prompt_tokens / room)
    nearest = min(_METER_ICONS, key=lambda icon: abs(icon - percent))
    panel = st.popover(
        f"{percent} % of context",
        icon=f":material/clock_loader_{nearest}:",
        type="tertiary",
        key="context-meter",
    )
    with panel.container(width=340, gap="small", key="context-inspector"):
        st.markdown("**What the model sees next**")
        if plan is None:
            st.caption(
                "What is to be sent no longer fits: choose another memory policy or a model with a "
                "larger context, or shorten the instructions."
            )
        else:
            st.html(_table(plan, info))
            st.caption(_leftovers(plan, info))


def draw_banner(thread: Thread, plan: ContextPlan) -> None:
    """How many earlier messages the model no longer sees, and what to do about it."""
    unseen = len(out_of_view(thread.branch(), plan))
    if not unseen:
        return
    with st.container(
        horizontal=True, vertical_alignment="center", gap="xxsmall", key="truncation-banner"
    ):
        verb = "is" if unseen == 1 else "are"
        st.caption(
            f":material/ink_eraser: **{words.count(unseen, 'earlier message')}** {verb} in pencil: "
            "kept, but not sent to the model.",
            width="stretch",
        )
        if thread.conversation.reset_seq:
            _undo_button(thread, key="undo-reset")


def draw_beginning() -> None:
    """The line from which the model reads."""
    st.html('<div class="db-rule" role="separator">The model reads from here</div>')


def out_of_view(branch: Sequence[Message], plan: ContextPlan | None) -> set[MessageId]:
    """What of *branch* the model does not see. A prompt whose reply may still come is none of it."""
    if plan is None:
        return set()
    asked = {branch[-1].id} if branch and branch[-1].role is Role.USER else set[MessageId]()
    return {message.id for message in branch} - set(plan.shown) - asked


def _choose(conversation: Conversation, policies: dict[str, MemoryPolicy]) -> None:
    with keep_errors():
        chosen = policies[st.session_state[f"policy-{conversation.id}"]]
        find_person().conversations.set_policy(conversation.id, chosen)


def _start_anew(thread: Thread) -> None:
    with keep_errors():
        find_person().conversations.start_anew(thread)


def _undo_button(thread: Thread, key: str) -> None:
    st.button(
        "Undo the new start",
        icon=":material/undo:",
        type="tertiary",
        key=key,
        on_click=_undo,
        args=[thread],
    )


def _undo(thread: Thread) -> None:
    with keep_errors():
        find_person().conversations.take_back_reset(thread)


def _name(policy: MemoryPolicy) -> str:
    return type(policy).__name__


def _caption(policy: MemoryPolicy) -> str:
    match policy:
        case Full():
            return "Everything, and a clear word before it no longer fits"
        case Window(messages):
            return f"The last {messages} messages, word for word"
        case Summary():
            return "Recent messages, and a running summary of the rest"
        case Retrieval():
            return "Recent messages, and older ones that match the prompt"
        case _:
            assert_never(policy)


def _table(plan: ContextPlan, info: ModelInfo) -> str:
    """A bar of the context window and what fills it. Nothing in it was written by anybody."""
    used = plan.prompt_tokens + plan.reply_tokens
    parts = (
        (f"Instructions and {words.count(len(plan.shown), 'message')}", plan.prompt_tokens, "c1"),
        ("Kept for the reply", plan.reply_tokens, "c4"),
    )
    bar = "".join(
        f'<i class="{colour}" style="width:{100 * tokens / info.context_tokens:.1f}%"></i>'
        for _, tokens, colour in parts
    )
    rows = "".join(
        f'<tr><td><i class="{colour}"></i>{escape(name)}</td><td>{words.number(tokens)}</td></tr>'
        for name, tokens, colour in parts
    )
    total, sum_of_both = words.number(info.context_tokens), words.number(used)
    return (
        f'<div class="db-bar" role="img" aria-label="{sum_of_both} of {total} tokens">{bar}</div>'
        f'<table class="db-parts">{rows}'
        f'<tr class="sum"><td>Of {total} tokens</td><td>{sum_of_both}</td></tr></table>'
    )


def _leftovers(plan: ContextPlan, info: ModelInfo) -> str:
    left_out = (
        f"{words.count(len(plan.omitted), 'older message')} left out. " if plan.omitted else ""
    )
    return f"{left_out}Counted for {safe_md.label(info.name)}, before your next words."
