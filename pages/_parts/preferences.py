"""The dialogs for the instructions of a conversation and for the preferences of a user.

A text that cannot be saved stays in its dialog. A text that was changed in another tab is shown before it is replaced.
"""

from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from typing import get_args

import streamlit as st

from pages._parts import new_conversation, spaces, words
from pages._parts.elements import draw_changed_elsewhere, right_row
from pages._parts.memory import LARGEST_WINDOW
from pages._parts.temporary import services_of
from pages._session import person_services, show_errors
from services.bootstrap import PersonServices, Setup
from services.domain import Conversation, NewConversation, Preferences, Theme, Window
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
    """Edit the instructions of *conversation*, or of the one that begins."""
    person = person_services()
    with show_errors():
        save: Callable[[str, str], None]
        if conversation is None:
            now, space_id = new_conversation.choices().instructions, spaces.chosen(person)
            key, save = "instructions-new", new_conversation.set_instructions
        else:
            stored, space_id = (
                services_of(conversation.id).store.conversations,
                conversation.space_id,
            )
            key = f"instructions-{conversation.id}"
            save = partial(stored.set_instructions, conversation.id)
            try:
                now = stored.instructions(conversation.id)
            except Tampered:
                st.caption(_UNVERIFIED)
                now = ""
        seen = _seen_at_opening(key, Preferences(instructions=now))
        default = person.chat.setup(None, NewConversation(space_id=space_id))
        st.caption(_source(default, has_own=bool(now)))
        with st.form("instructions", border=False):
            followed = _followed(default, default.space.name if default.space else "")
            text = _draw_text("Instructions for this chat", now, f"Default: {followed}", key)
            if _is_submitted() and _is_saved(save, text, seen):
                st.rerun()
        is_reset = now is not None and st.button(
            _RESETS.get(default.source, "Reset to default"),
            icon=":material/undo:",
            type="tertiary",
            key="use-my-own",
        )
        if is_reset and _is_saved(save, "", seen):
            st.rerun()


@st.dialog(words.PREFERENCES, on_dismiss="rerun")
def preferences_dialog() -> None:
    """Edit the choices for every conversation that has none of its own."""
    person = person_services()
    with show_errors():
        now, model = person.store.profile.preferences(), person.chat.setup(None).info.name
        usual = replace(now, model=model, policy=person.chat.usual_policy())
        seen = _seen_at_opening("my-instructions", usual)
        if not now.is_verified:
            st.caption(_UNVERIFIED)
        with st.form("preferences", border=False):
            chosen = _draw_model_and_memory(person, seen)
            chosen = _draw_limits(person, now, chosen)
            chosen = _draw_appearance(chosen)
            text = _draw_text(
                "Custom instructions (used in every chat without its own)",
                now.instructions,
                f"Default: “{person.chat.instructions}”",
                "my-instructions",
                height=120,
            )
            if _is_submitted() and _are_saved(person, chosen, text, seen):
                st.rerun()


def _draw_model_and_memory(person: PersonServices, seen: Preferences) -> Preferences:
    """Draw the default model, if there are several, and the default policy; return *seen* with what is chosen."""
    chosen, names = seen, [offer.info.name for offer in person.chat.models]
    if len(names) > 1:
        at = names.index(seen.model or names[0])
        model = st.selectbox("Default model", names, index=at, key="default-model")
        chosen = replace(chosen, model=model)
    policies = person.chat.policies()
    policy = st.selectbox(
        words.DEFAULT_MEMORY,
        policies,
        index=policies.index(person.chat.usual_policy()),
        format_func=words.policy_line,
        key="default-policy",
    )
    # the size of a window is chosen below
    return replace(chosen, policy=policy) if type(policy) is not type(seen.policy) else chosen


def _draw_limits(person: PersonServices, now: Preferences, chosen: Preferences) -> Preferences:
    """Draw the sizes of the window, the context and a reply; return *chosen* with them."""
    model = person.chat.setup(None).info
    longest_reply = max(model.reply_tokens, _LEAST_REPLY)
    window = _draw_number(
        words.RECENT_MESSAGES,
        now.window_messages,
        2,
        step=2,
        most=LARGEST_WINDOW,
        placeholder=words.number(person.chat.window_messages),
        tip=f"Used by “{words.policy_name(Window())}”.",
        key="window-messages",
    )
    context_tokens = _draw_number(
        "Context limit (tokens)",
        now.context_tokens,
        _LEAST_CONTEXT,
        step=1000,
        placeholder="Model maximum",
        tip="A lower limit costs less. It never exceeds the model's maximum.",
        key="context-tokens",
    )
    reply_tokens = _draw_number(
        "Max reply length (tokens)",
        now.reply_tokens and min(now.reply_tokens, longest_reply),
        _LEAST_REPLY,
        step=100,
        most=longest_reply,
        placeholder=words.number(longest_reply),
        tip=f"Longer replies are cut off. {model.name}: at most {words.number(longest_reply)}.",
        key="reply-tokens",
    )
    return replace(
        chosen,
        window_messages=window and window + window % 2,
        context_tokens=context_tokens,
        reply_tokens=reply_tokens,
    )


def _draw_appearance(chosen: Preferences) -> Preferences:
    """Draw the theme and the title in the tab; return *chosen* with them."""
    theme = st.radio(
        "Theme",
        _THEMES,
        index=_THEMES.index(chosen.theme),
        format_func=str.capitalize,
        horizontal=True,
        key="theme",
    )
    has_title = st.toggle(
        "Show the chat's title in the browser tab",
        chosen.has_title_in_tab,
        help="It then also appears in your browser's history.",
        key="title-in-tab",
    )
    return replace(chosen, theme=theme, has_title_in_tab=has_title)


def _draw_number(
    label: str,
    now: int | None,
    least: int,
    *,
    step: int,
    most: int | None = None,
    placeholder: str,
    tip: str,
    key: str,
) -> int | None:
    """Draw a number that may be left empty; then the *placeholder* holds."""
    st.session_state.setdefault(key, now)  # a field that begins with a value cannot be emptied
    return st.number_input(
        label,
        min_value=least,
        max_value=most,
        value=None,
        step=step,
        placeholder=placeholder,
        help=tip,
        key=key,
    )


def _draw_text(label: str, now: str | None, placeholder: str, key: str, height: int = 220) -> str:
    return st.text_area(
        label,
        now or "",
        height=height,
        max_chars=LONGEST_INSTRUCTIONS,
        placeholder=placeholder,
        key=key,
    )


def _is_submitted() -> bool:
    with right_row():
        return st.form_submit_button(words.SAVE, type="primary")


def _source(default: Setup, *, has_own: bool) -> str:
    """Say whose instructions a conversation follows; *default*: its setup without its own."""
    followed = _followed(default, spaces.name(default.space) if default.space else "")
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


def _seen_at_opening(key: str, now: Preferences) -> Preferences:
    """Return what was stored when the dialog with the field *key* was opened: *now*, before the field is drawn."""
    if key not in st.session_state:
        st.session_state.seen = now
    return st.session_state.seen


def _are_saved(person: PersonServices, chosen: Preferences, text: str, seen: Preferences) -> bool:
    """Save what differs from *seen* alone, so that choices of another tab stay."""
    profile = person.store.profile
    changed = {
        each.name: value
        for each in fields(chosen)
        if (value := getattr(chosen, each.name)) != getattr(seen, each.name)
    }
    if changed:
        profile.change(lambda now: replace(now, **changed))
        st.session_state.seen = seen = chosen

    def save(text: str, seen: str) -> None:
        profile.change(lambda now: replace(now, instructions=text), seen=seen)

    return text == (seen.instructions or "") or _is_saved(save, text, seen)


def _is_saved(save: Callable[[str, str], None], text: str, seen: Preferences) -> bool:
    """Save *text* in the place of what was *seen*, or draw what is stored instead by now."""
    try:
        save(text, seen.instructions or "")
    except ChangedElsewhere as changed:
        st.session_state.seen = replace(seen, instructions=changed.now)
        draw_changed_elsewhere(changed.now or words.NO_INSTRUCTIONS)
        return False
    return True
