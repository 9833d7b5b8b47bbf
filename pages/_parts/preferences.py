"""What a person tells the model to be, here or everywhere, and which model is their usual one.

What was typed stays in the dialog where it cannot be saved: nobody should type it twice. What was changed
elsewhere while the dialog was open is replaced by nobody who has not seen it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import streamlit as st

from pages._parts import spaces
from pages._parts.memory import POLICIES, caption, policy_name
from pages._session import person_services, show_errors
from services.chat import Setup, Source
from services.domain import Conversation, MemoryPolicy
from services.errors import Tampered
from services.store.profile import LONGEST_INSTRUCTIONS, ChangedElsewhere

_LEAST_CONTEXT = 1000  # tokens
_UNVERIFIED = (
    ":material/gpp_bad: What was stored here could not be verified. Please tell an operator."
)


@dataclass(slots=True)
class _Seen:
    """What its person saw in the dialog, of what may change elsewhere while it is open."""

    text: str = field(repr=False)
    model: str = ""


@st.dialog("Instructions", on_dismiss="rerun")
def instructions_dialog(conversation: Conversation) -> None:
    """What the model is told in one conversation."""
    person = person_services()
    with show_errors():
        try:
            now = person.conversations.instructions(conversation.id)
        except Tampered:
            st.caption(_UNVERIFIED)
            now = ""
        key = f"instructions-{conversation.id}"
        seen = _opened_with(key, _Seen(now or ""))
        put = partial(person.conversations.set_instructions, conversation.id)
        others = person.chat.setup(None, space_id=conversation.space_id)
        st.caption(_whose(others, has_own=bool(now)))
        with st.form("instructions", border=False):
            text = _text_area(
                "What the model is told here, before anything is said",
                now,
                f"Empty: {_others(others, others.space.name if others.space else '')}",
                key=key,
            )
            if _saved() and _is_put(put, text, seen):
                st.rerun()
        is_of_space = others.source is Source.SPACE
        is_asked = now is not None and st.button(
            "Use the space's instead" if is_of_space else "Use my own instead",
            icon=":material/undo:",
            type="tertiary",
            key="use-my-own",
        )
        if is_asked and _is_put(put, "", seen):
            st.rerun()


@st.dialog("Preferences", on_dismiss="rerun")
def preferences_dialog() -> None:
    """What holds for all conversations that have no choice of their own."""
    person = person_services()
    with show_errors():
        now, usual = person.profile.preferences(), person.chat.setup(None).info.name
        seen = _opened_with("my-instructions", _Seen(now.instructions or "", usual))
        names = [offer.info.name for offer in person.chat.models]
        if not now.is_verified:
            st.caption(_UNVERIFIED)
        with st.form("preferences", border=False):
            name = seen.model
            if len(names) > 1:
                name = st.selectbox(
                    "Your default model",
                    names,
                    index=names.index(seen.model),
                    key="default-model",
                )
            policy = st.selectbox(
                "What the model remembers of a new conversation",
                POLICIES,
                index=_index_of(now.policy or person.chat.first_policy),
                format_func=lambda policy: f"{policy_name(policy)}: {caption(policy)}",
                key="default-policy",
            )
            tokens = st.number_input(
                "Tokens of context that one message may use",
                min_value=_LEAST_CONTEXT,
                value=now.context_tokens,
                step=1000,
                placeholder="All that the model has",
                help="Less costs less. It is never more than the model has.",
                key="context-tokens",
            )
            text = _text_area(
                "What the model is told, where a conversation says nothing else",
                now.instructions,
                "Empty: what this Daybook tells it",
                key="my-instructions",
            )
            if _saved():
                if name != seen.model:
                    person.profile.set_model(name)
                    seen.model = name
                if policy != (now.policy or person.chat.first_policy):
                    person.profile.set_policy(policy)
                if tokens != now.context_tokens:
                    person.profile.set_context_tokens(int(tokens) if tokens else None)
                if text == seen.text or _is_put(person.profile.set_instructions, text, seen):
                    st.rerun()


def _whose(others: Setup, *, has_own: bool) -> str:
    """By which instructions a conversation goes; *others*: those that hold where it has none."""
    followed = _others(others, spaces.name(others.space) if others.space else "")
    if has_own:
        return f"It has its own. Without them it would follow {followed}."
    return f"It has none of its own, and follows {followed}."


def _others(setup: Setup, space: str) -> str:
    if setup.source is Source.SPACE:
        return f"those of its space “{space}”"
    return "yours, from Preferences" if setup.source is Source.PERSON else "those of this Daybook"


def _index_of(policy: MemoryPolicy) -> int:
    """Which of the policies is of the kind of *policy*."""
    return [type(each) for each in POLICIES].index(type(policy))


def _opened_with(key: str, now: _Seen) -> _Seen:
    """What was there when the dialog with the field *key* was opened; that is *now*, before it is drawn."""
    if key not in st.session_state:
        st.session_state.seen = now
    return st.session_state.seen


def _is_put(put: Callable[[str, str], None], text: str, seen: _Seen) -> bool:
    """Put *text* in the place of what was *seen*, or show what else is there now."""
    try:
        put(text, seen.text)
    except ChangedElsewhere as changed:
        seen.text = changed.now
        st.warning(f"{changed.public} Press again to replace what it says now:")
        st.code(changed.now or "Nothing", language=None, wrap_lines=True)
        return False
    return True


def _text_area(label: str, now: str | None, placeholder: str, key: str) -> str:
    return st.text_area(
        label,
        now or "",
        height=220,
        max_chars=LONGEST_INSTRUCTIONS,
        placeholder=placeholder,
        key=key,
    )


def _saved() -> bool:
    with st.container(horizontal=True, horizontal_alignment="right"):
        return st.form_submit_button("Save", type="primary")
