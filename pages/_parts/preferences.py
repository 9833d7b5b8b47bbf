"""What a person tells the model to be, here or everywhere, and which model is their usual one.

What was typed stays in the dialog where it cannot be saved: nobody should type it twice. What was changed
elsewhere while the dialog was open is replaced by nobody who has not seen it.
"""

from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from typing import get_args

import streamlit as st

from pages._parts import beginning, spaces, words
from pages._parts.memory import LARGEST_WINDOW
from pages._parts.temporary import find_desk
from pages._session import person_services, show_errors
from services.bootstrap import Setup
from services.domain import Conversation, NewConversation, Preferences, Theme
from services.domain.limits import LONGEST_INSTRUCTIONS
from services.domain.models import InstructionsSource
from services.errors import ChangedElsewhere, Tampered

_LEAST_CONTEXT, _LEAST_REPLY = 1000, 64  # tokens
_RESETS = {
    InstructionsSource.SPACE: "Reset to the space's",
    InstructionsSource.PERSON: "Reset to mine",
}
_THEMES: tuple[Theme, ...] = get_args(Theme)
_UNVERIFIED = f":material/gpp_bad: {Tampered.public}"


@st.dialog(words.INSTRUCTIONS, on_dismiss="rerun")
def instructions_dialog(conversation: Conversation | None) -> None:
    """Edit the instructions of one conversation, or of the one that begins."""
    person = person_services()
    with show_errors():
        put: Callable[[str, str], None]
        if conversation is None:
            now, space_id = beginning.choices().instructions, spaces.chosen(person)
            key, put = "instructions-new", beginning.instruct
        else:
            kept, space_id = find_desk(conversation.id).store.conversations, conversation.space_id
            key = f"instructions-{conversation.id}"
            put = partial(kept.set_instructions, conversation.id)
            try:
                now = kept.instructions(conversation.id)
            except Tampered:
                st.caption(_UNVERIFIED)
                now = ""
        seen = _opened_with(key, Preferences(instructions=now))
        others = person.chat.setup(None, NewConversation(space_id=space_id))
        st.caption(_whose(others, has_own=bool(now)))
        with st.form("instructions", border=False):
            text = _text_area(
                "Instructions for this chat",
                now,
                f"Default: {_followed(others, others.space.name if others.space else '')}",
                key=key,
            )
            if _saved() and _is_put(put, text, seen):
                st.rerun()
        is_asked = now is not None and st.button(
            _RESETS.get(others.source, "Reset to default"),
            icon=":material/undo:",
            type="tertiary",
            key="use-my-own",
        )
        if is_asked and _is_put(put, "", seen):
            st.rerun()


@st.dialog(words.PREFERENCES, on_dismiss="rerun")
def preferences_dialog() -> None:
    """What holds for all conversations that have no choice of their own."""
    person = person_services()
    with show_errors():
        now, info = person.store.profile.preferences(), person.chat.setup(None).info
        usual, longest_reply = info.name, max(info.reply_tokens, _LEAST_REPLY)
        policies, usual_policy = person.chat.policies(), person.chat.usual_policy()
        seen = _opened_with("my-instructions", replace(now, model=usual, policy=usual_policy))
        names = [offer.info.name for offer in person.chat.models]
        if not now.is_verified:
            st.caption(_UNVERIFIED)
        with st.form("preferences", border=False):
            chosen = seen
            if len(names) > 1:
                model = st.selectbox(
                    "Default model",
                    names,
                    index=names.index(seen.model or usual),
                    key="default-model",
                )
                chosen = replace(chosen, model=model)
            policy = st.selectbox(
                words.DEFAULT_MEMORY,
                policies,
                index=policies.index(usual_policy),
                format_func=words.policy_line,
                key="default-policy",
            )
            if type(policy) is not type(seen.policy):  # a window's size is chosen below
                chosen = replace(chosen, policy=policy)
            window = _size(
                words.RECENT_MESSAGES,
                now.window_messages,
                2,
                step=2,
                most=LARGEST_WINDOW,
                otherwise=words.number(person.chat.window_messages),
                explained=f"Used by “{words.POLICY_NAMES['window']}”.",
                key="window-messages",
            )
            chosen = replace(
                chosen,
                window_messages=window and window + window % 2,
                context_tokens=_size(
                    "Context limit (tokens)",
                    now.context_tokens,
                    _LEAST_CONTEXT,
                    step=1000,
                    otherwise="Model maximum",
                    explained="A lower limit costs less. It never exceeds the model's maximum.",
                    key="context-tokens",
                ),
                reply_tokens=_size(
                    "Max reply length (tokens)",
                    now.reply_tokens and min(now.reply_tokens, longest_reply),
                    _LEAST_REPLY,
                    step=100,
                    most=longest_reply,
                    otherwise=words.number(longest_reply),
                    explained=f"Longer replies are cut off. {usual}: at most {words.number(longest_reply)}.",
                    key="reply-tokens",
                ),
            )
            theme = st.radio(
                "Theme",
                _THEMES,
                index=_THEMES.index(seen.theme),
                format_func=str.capitalize,
                horizontal=True,
                key="theme",
            )
            has_title = st.toggle(
                "Show the chat's title in the browser tab",
                seen.has_title_in_tab,
                help="It then also appears in your browser's history.",
                key="title-in-tab",
            )
            chosen = replace(chosen, theme=theme, has_title_in_tab=has_title)
            text = _text_area(
                "Custom instructions (used in every chat without its own)",
                now.instructions,
                f"Default: “{person.chat.instructions}”",
                key="my-instructions",
                height=120,
            )
            if _saved():
                changed = {
                    each.name: value
                    for each in fields(chosen)
                    if (value := getattr(chosen, each.name)) != getattr(seen, each.name)
                }
                if changed:
                    person.store.profile.change(lambda now: replace(now, **changed))
                    st.session_state.seen = seen = chosen

                def put(text: str, seen: str) -> None:
                    person.store.profile.change(
                        lambda now: replace(now, instructions=text), seen=seen
                    )

                if text == (seen.instructions or "") or _is_put(put, text, seen):
                    st.rerun()


def _whose(others: Setup, *, has_own: bool) -> str:
    """By which instructions a conversation goes; *others*: those that hold where it has none."""
    followed = _followed(others, spaces.name(others.space) if others.space else "")
    if has_own:
        return f"This chat has its own instructions. Without them it would use {followed}."
    return f"Using {followed}."


def _followed(setup: Setup, space: str) -> str:
    match setup.source:
        case InstructionsSource.SPACE:
            return f"the instructions of the space “{space}”"
        case InstructionsSource.PERSON:
            return "your instructions from Preferences"
        case _:
            return "the default instructions"


def _size(
    label: str,
    now: int | None,
    least: int,
    *,
    step: int,
    most: int | None = None,
    otherwise: str,
    explained: str,
    key: str,
) -> int | None:
    """A number, or none where the field is left empty: then what it says *otherwise* holds."""
    st.session_state.setdefault(key, now)  # a field that begins with a value cannot be emptied
    return st.number_input(
        label,
        min_value=least,
        max_value=most,
        value=None,
        step=step,
        placeholder=otherwise,
        help=explained,
        key=key,
    )


def _opened_with(key: str, now: Preferences) -> Preferences:
    """What was there when the dialog with the field *key* was opened; that is *now*, before it is drawn."""
    if key not in st.session_state:
        st.session_state.seen = now
    return st.session_state.seen


def _is_put(put: Callable[[str, str], None], text: str, seen: Preferences) -> bool:
    """Put *text* in the place of what was *seen*, or show what else is there now."""
    try:
        put(text, seen.instructions or "")
    except ChangedElsewhere as changed:
        st.session_state.seen = replace(seen, instructions=changed.now)
        st.warning(words.CHANGED_ELSEWHERE)
        st.code(changed.now or words.NO_INSTRUCTIONS, language=None, wrap_lines=True)
        return False
    return True


def _text_area(label: str, now: str | None, placeholder: str, key: str, height: int = 220) -> str:
    return st.text_area(
        label,
        now or "",
        height=height,
        max_chars=LONGEST_INSTRUCTIONS,
        placeholder=placeholder,
        key=key,
    )


def _saved() -> bool:
    with st.container(horizontal=True, horizontal_alignment="right"):
        return st.form_submit_button(words.SAVE, type="primary")
