"""The dialogs for a conversation's instructions and for the user's preferences."""

from dataclasses import dataclass, fields, replace
from functools import partial
from typing import get_args

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages._parts import editing, new_conversation, spaces, words
from pages._parts.elements import draw_refusal, draw_unread
from pages._parts.memory import LARGEST_WINDOW
from pages._parts.temporary import services_of
from pages._session import show_errors, user_services
from services.bootstrap import Setup, UserServices
from services.domain import Conversation, EnterSends, NewConversation, Preferences, Theme
from services.domain.limits import LONGEST_INSTRUCTIONS
from services.domain.models import InstructionsSource
from services.errors import Tampered

_LEAST_CONTEXT, _LEAST_REPLY = 1000, 64  # tokens
_RESETS = {
    InstructionsSource.SPACE: "Reset to the space's",
    InstructionsSource.PERSON: "Reset to mine",
}
_SAVED = "Saved."
_THEMES: tuple[Theme, ...] = get_args(Theme)
_ENTER: dict[EnterSends, str] = {"device": "By device", "always": "Always", "never": "Never"}


@st.dialog(words.INSTRUCTIONS, on_dismiss="rerun")
@show_errors()
def instructions_dialog(conversation: Conversation | None) -> None:
    """Edit the instructions of *conversation* or, if it is None, of the new conversation."""
    user = user_services()
    if conversation is None:
        key, space_id = "instructions-new", spaces.chosen(user)
        save, read = new_conversation.set_instructions, new_conversation.instructions
    else:
        key, space_id = f"instructions-{conversation.id}", conversation.space_id
        stored = services_of(conversation.id).conversations
        save = partial(stored.set_instructions, conversation.id)
        read = partial(stored.instructions, conversation.id)
    try:
        now = read()
    except Tampered:
        st.caption(f":material/gpp_bad: {Tampered.public}")
        now = ""
    seen = editing.seen_at_opening(key, now or "")
    default = user.choices.setup(None, NewConversation(space_id=space_id))
    st.caption(_source(default, has_own=bool(now)))
    with st.form("instructions", border=False):
        followed = _followed(default, default.space.name if default.space else "")
        text = _draw_text("Instructions for this chat", now, f"If empty: {followed}", key)
        is_saved = editing.is_submitted()
    label, icon = _RESETS.get(default.source, "Reset to default"), ":material/undo:"
    if now is not None and st.button(label, icon=icon, type="tertiary", key="use-my-own"):
        is_saved, text = True, ""
    if is_saved:
        editing.save(partial(save, text, seen), lambda: read() or "", _as_text, _SAVED)


@st.dialog(words.PREFERENCES, on_dismiss="rerun")
@show_errors()
def preferences_dialog() -> None:
    """Edit the user's preferences: the defaults for conversations in which nothing else was chosen."""
    user = user_services()
    now, key = user.profile.preferences(), "my-instructions"
    # the default model and policy are shown as selected, but are stored only when changed
    model, policy = user.choices.setup(None).offer.info, user.choices.usual_policy()
    seen = editing.seen_at_opening(key, replace(now, model=model.name, policy=policy))
    draw_unread(now)
    with st.form("preferences", border=False):
        chosen = _draw_model_and_memory(user, seen)
        entries = _draw_limits(user, now)
        chosen = _draw_looks_and_search(chosen)
        text = _draw_text(
            "Custom instructions (used in every chat without its own)",
            now.instructions,
            f"Default: “{user.choices.instructions}”",
            key,
            height=120,
        )
        is_saved = editing.is_submitted()
    refused = [entry for entry in entries.values() if not entry.is_fit()] if is_saved else []
    for entry in refused:
        entry.draw_bounds()
    if is_saved and not refused:
        sizes = {name: entry.value for name, entry in entries.items()}
        chosen = replace(chosen, instructions=text or None)
        reply = entries["reply_tokens"]
        # the field shows a longer stored length as this maximum; saving the dialog must not lower the stored length
        if reply.value and reply.value == reply.most:
            sizes["reply_tokens"] = max(reply.value, now.reply_tokens or 0)
        chosen = replace(chosen, **_even(sizes))
        editing.save(
            partial(_store, user, chosen, seen),
            lambda: replace(seen, instructions=user.profile.preferences().instructions),
            lambda now: _as_text(now.instructions),
            _SAVED,
        )


def _store(user: UserServices, chosen: Preferences, seen: Preferences) -> None:
    """Store only the choices that differ from *seen*, to keep changes that other tabs have made.

    Raise ChangedElsewhere if this tab and another tab have both changed the instructions.
    """
    changed = {
        each.name: value
        for each in fields(chosen)
        if (value := getattr(chosen, each.name)) != getattr(seen, each.name)
    }
    if changed:
        text = (seen.instructions or "") if "instructions" in changed else None
        user.profile.change(lambda now: replace(now, **changed), seen=text)
    if chosen.searches_titles_only:
        user.search_titles_only()


def _draw_looks_and_search(chosen: Preferences) -> Preferences:
    """Draw the fields for the theme, the Enter key, the tab's title and the search; return *chosen* with the new choices."""
    theme = st.radio(
        "Theme",
        _THEMES,
        index=_THEMES.index(chosen.theme),
        format_func=str.capitalize,
        horizontal=True,
        key="theme",
    )
    enter = st.radio(
        "Enter sends",
        list(_ENTER),
        index=list(_ENTER).index(chosen.enter_sends),
        format_func=_ENTER.__getitem__,
        horizontal=True,
        help="By device: not on touch screens and not in edited messages, where Enter starts a new line. "
        "Ctrl+Enter always sends.",
        key="enter-sends",
    )
    has_title = st.toggle(
        "Show the chat's title in the browser tab",
        chosen.has_title_in_tab,
        help="It then also appears in your browser's history.",
        key="title-in-tab",
    )
    titles_only = st.toggle(
        "Search titles only",
        chosen.searches_titles_only,
        help="Search then finds no messages, and the server keeps no index of your messages in its memory, and no copy of"
        " them to make one from.",
        key="titles-only",
    )
    chosen = replace(chosen, theme=theme, enter_sends=enter, has_title_in_tab=has_title)
    return replace(chosen, searches_titles_only=titles_only)


def _draw_model_and_memory(user: UserServices, seen: Preferences) -> Preferences:
    """Draw the fields for the default model (if there are several) and policy; return *seen* with the new choices."""
    chosen, names = seen, [offer.info.name for offer in user.choices.models]
    if len(names) > 1:
        # the model may have been hidden since the dialog was opened
        at = names.index(seen.model) if seen.model in names else 0
        model = st.selectbox("Default model", names, index=at, key="default-model")
        chosen = replace(chosen, model=model)
    policies = user.choices.policies()
    policy = st.selectbox(
        words.DEFAULT_CONTEXT,
        policies,
        index=policies.index(user.choices.usual_policy()),
        format_func=words.policy_line,
        key="default-policy",
    )
    # policies are compared by name only, because the size of a window is entered in another field
    return (
        replace(chosen, policy=policy)
        if policy.name != (seen.policy and seen.policy.name)
        else chosen
    )


@dataclass(frozen=True, slots=True)
class _Number:
    """A number field: its entry, its bounds, and the container below it."""

    value: int | None
    least: int
    most: int | None
    place: DeltaGenerator

    def is_fit(self) -> bool:
        """Return True if the field is empty or its number is within the bounds."""
        return self.value is None or self.least <= self.value <= (self.most or self.value)

    def draw_bounds(self) -> None:
        """Draw the accepted range below the field."""
        least = words.number(self.least)
        bounds = f"{least} to {words.number(self.most)}" if self.most else f"{least} or more"
        with self.place:
            draw_refusal(f"Enter {bounds}.")


def _even(sizes: dict[str, int | None]) -> dict[str, int | None]:
    """Return *sizes* with the window rounded up to an even number, because an exchange is two messages."""
    window = sizes["window_messages"]
    return sizes | {"window_messages": window and window + window % 2}


def _draw_limits(user: UserServices, now: Preferences) -> dict[str, _Number]:
    """Draw fields for the sizes of the window, the context and a reply; return them, keyed by the names in `Preferences`."""
    model = user.choices.setup(None).offer.info
    longest_reply = max(model.reply_tokens, _LEAST_REPLY)
    longest = words.number(longest_reply)
    sizes = " ".join(
        f"“{words.policy_name(policy)}” sends so many, and up to half as many more."
        for policy in user.choices.policies()
        if policy.messages
    )
    window = _draw_number(
        "window-messages",
        words.RECENT_MESSAGES,
        now.window_messages,
        (2, LARGEST_WINDOW, 2),
        words.number(user.choices.window_messages),
        sizes,
    )
    context_tokens = _draw_number(
        "context-tokens",
        "Context limit (tokens)",
        now.context_tokens,
        (_LEAST_CONTEXT, None, 1000),
        "Model maximum",
        "A lower limit costs less. It never exceeds the model's maximum.",
    )
    reply_tokens = _draw_number(
        "reply-tokens",
        "Max reply length (tokens)",
        now.reply_tokens and min(now.reply_tokens, longest_reply),
        (_LEAST_REPLY, longest_reply, 100),
        longest,
        f"Longer replies are cut off. {model.name}: at most {longest}.",
    )
    return {
        "window_messages": window,
        "context_tokens": context_tokens,
        "reply_tokens": reply_tokens,
    }


def _draw_number(
    key: str,
    label: str,
    now: int | None,
    bounds: tuple[int, int | None, int],
    placeholder: str,
    tip: str,
) -> _Number:
    """Draw a number field, which shows *placeholder* while empty. *bounds*: minimum, maximum (None: none) and step."""
    least, most, step = bounds
    st.session_state.setdefault(key, now)  # a field with a `value` cannot be emptied
    with st.container(gap="xxsmall"):
        # bounds are not passed, because the browser would show them only in a tooltip
        value = st.number_input(
            label, value=None, step=step, placeholder=placeholder, help=tip, key=key
        )
        return _Number(value, least, most, st.container())


def _draw_text(label: str, now: str | None, placeholder: str, key: str, height: int = 220) -> str:
    return st.text_area(
        label,
        now or "",
        height=height,
        max_chars=LONGEST_INSTRUCTIONS,
        placeholder=placeholder,
        key=key,
    )


def _as_text(instructions: str | None) -> str:
    return instructions or words.NO_INSTRUCTIONS


def _source(default: Setup, *, has_own: bool) -> str:
    """Return a sentence that says which instructions apply.

    *default*: the setup that would apply without the conversation's own instructions.
    """
    followed = _followed(default, spaces.name(default.space) if default.space else "")
    if has_own:
        return f"This chat uses its own instructions instead of {followed}."
    return f"Using {followed}."


def _followed(setup: Setup, space: str) -> str:
    match setup.source:
        case InstructionsSource.SPACE:
            return f"the instructions of the space “{space}”"
        case InstructionsSource.PERSON:
            return "your instructions from Preferences"
        case _:
            return "the default instructions"
