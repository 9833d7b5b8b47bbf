"""Creating, editing, archiving and deleting a space with its notes, and moving a conversation.

Callbacks act, and the next run of the dialog draws the result. A text that cannot be saved stays in the dialog; a text
that was changed in another tab is shown before it is replaced.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from uuid import uuid4

import streamlit as st

from pages._parts import safe_md, scoped_facts, spaces, words
from pages._parts.elements import menu, quiet_button, right_row, row
from pages._parts.scoped_facts import act_in_dialog, submit_button
from pages._session import ask_for, find_person, go_to_space, person_services, show_errors
from services.domain import Conversation, MemoryPolicy, Space, SpaceId
from services.domain.limits import LONGEST_INSTRUCTIONS, LONGEST_SPACE_NAME
from services.errors import SpaceGone, Stale, Tampered

_ALL, _USUAL, _NO_SPACE = "All chats", "Your default", "None"


@dataclass(slots=True, kw_only=True)
class _DialogState(scoped_facts.DialogState):
    space: Space = field(repr=False)  # as it is on screen
    is_new: bool
    is_deleting: bool = False  # Delete has yet to be confirmed
    is_done: bool = False


def draw_chooser(every: Sequence[Space], chosen: Space | None, opened: Conversation | None) -> bool:
    """Draw the menu that opens a space or creates one, unless there are none; return whether it was drawn."""
    listed = spaces.offered(every, chosen.id if chosen else None)
    if not listed:
        return False
    labels = spaces.by_label(_ALL, listed, words.NEW_SPACE)

    def choose(label: str) -> None:
        if label == words.NEW_SPACE:
            ask_for_new()
        else:
            spaces.choose(labels.get(label), opened)

    with row("space-row", gap=None, wrap=False):
        menu(
            spaces.name(chosen) if chosen else _ALL,
            [*labels, words.NEW_SPACE],
            "folder_open" if chosen else "folder",
            "space-chooser",
            choose,
            is_wide=True,
        )
        if chosen:
            quiet_button(words.EDIT_SPACE, "tune", "edit-space", ask_for, space_dialog, chosen)
    return True


def ask_for_new() -> None:
    """Have the page open the dialog for a new space. For callbacks."""
    # the id is chosen here: saving again after a lost answer makes no second space
    space = Space(id=SpaceId(uuid4()), name="", created_at=datetime.now(UTC))
    ask_for(new_space_dialog, space)


@st.dialog(words.NEW_SPACE, on_dismiss="rerun")
def new_space_dialog(space: Space) -> None:
    """Create *space*."""
    _draw(space, is_new=True)


@st.dialog(words.EDIT_SPACE, on_dismiss="rerun")
def space_dialog(space: Space) -> None:
    """Edit *space*."""
    _draw(space, is_new=False)


@st.dialog(words.MOVE, on_dismiss="rerun")
def move_dialog(conversation: Conversation) -> None:
    """Move *conversation* into a space or out of one."""
    person = person_services()
    with show_errors():
        offered = spaces.offered(person.store.spaces.all(), conversation.space_id)
        labels = spaces.by_label(_NO_SPACE, offered)
        ids = list(labels.values())
        title = safe_md.label(conversation.title or words.UNTITLED)
        with st.form("move", border=False):
            label = st.selectbox(
                f"Move “{title}” to",
                list(labels),
                index=ids.index(conversation.space_id) if conversation.space_id in ids else 0,
                key="move-to",
            )
            if submit_button("Move"):
                person.store.conversations.move(conversation.id, labels[label])
                where = f"to “{label}”" if labels[label] else "out of its space"
                _leave_news(f"“{title}” is moved {where}.")
                st.rerun()


def _draw(space: Space, *, is_new: bool) -> None:
    person = person_services()
    key = f"space-name-{space.id}"
    state: _DialogState | None = st.session_state.get("opened_space")
    if state is None or state.space.id != space.id or key not in st.session_state:
        # just opened; a run that follows a reply keeps the widgets of the dialog before
        state = _DialogState(space=space, is_new=is_new, space_id=space.id, gone=SpaceGone.public)
        st.session_state.opened_space = state
    if state.is_done:
        del st.session_state.opened_space
        st.rerun()
    with show_errors():
        _draw_form(state, key)
        scoped_facts.draw_refusal(state)
        if not state.is_new:
            st.subheader(words.SPACE_NOTES, anchor=False)
            st.caption("Used in every chat in this space.")
            scoped_facts.draw(person, state)
            _draw_end(state)


def _draw_form(state: _DialogState, key: str) -> None:
    space = state.space
    if not space.is_verified:
        st.caption(f":material/gpp_bad: {Tampered.public}")
    if space.is_archived:
        st.caption(":material/archive: Archived: not shown in the list of spaces.")
    policies = _policies(space.policy)
    with st.form("space", border=False):
        st.text_input("Name", space.name, max_chars=LONGEST_SPACE_NAME, key=key)
        st.text_area(
            "Space instructions",
            space.instructions or "",
            height=150,
            max_chars=LONGEST_INSTRUCTIONS,
            placeholder="Default: your own instructions",
            key=f"space-instructions-{space.id}",
        )
        st.selectbox(
            words.DEFAULT_MEMORY,
            list(policies),
            index=list(policies).index(_policy_name(space)),
            format_func=lambda label: words.policy_line(one) if (one := policies[label]) else label,
            key=f"space-policy-{space.id}",
        )
        st.toggle(
            "Use my personal memories",
            space.uses_personal_facts,
            help="Off: chats in this space use only space notes and chat notes.",
            key=f"space-memories-{space.id}",
        )
        submit_button("Create" if state.is_new else words.SAVE, _save, state)


def _draw_end(state: _DialogState) -> None:
    """Draw the buttons that archive or delete the space."""
    if not state.is_deleting:
        with st.container(horizontal=True):
            shelf, icon = words.ARCHIVE, "archive"
            if state.space.is_archived:
                shelf, icon = words.UNARCHIVE, "unarchive"
            quiet_button(shelf, icon, f"{icon}-space", act_in_dialog, _archive, state)
            args = act_in_dialog, _set_deleting, state, True
            quiet_button(words.DELETE, "delete", "danger-delete-space", *args)
        return
    st.markdown(
        f"Delete “{spaces.name(state.space)}”? Its instructions and notes are deleted. "
        "Its chats are kept."
    )
    with right_row():
        args = act_in_dialog, _set_deleting, state, False
        quiet_button(words.CANCEL, None, "keep-space", *args)
        st.button(
            "Delete space",
            type="primary",
            key="danger-space-goes",
            on_click=act_in_dialog,
            args=[_delete, state],
        )


# --- actions ------------------------------------------------------------------------------------------


def _save(state: _DialogState) -> None:
    seen, fields = state.space, st.session_state
    wanted = replace(
        seen,
        name=" ".join(str(fields[f"space-name-{seen.id}"]).split()),
        instructions=str(fields[f"space-instructions-{seen.id}"]).strip() or None,
        policy=_policies(seen.policy)[fields[f"space-policy-{seen.id}"]],
        uses_personal_facts=bool(fields[f"space-memories-{seen.id}"]),
        is_verified=True,
    )
    is_new = state.is_new
    state.is_done = (wanted == seen and not is_new) or _is_stored(state, wanted)
    if state.is_done and is_new:
        go_to_space(wanted.id, is_staying=False)


def _is_stored(state: _DialogState, wanted: Space) -> bool:
    """Store *wanted* in the place of the space on screen, or have the dialog show what is stored instead by now."""
    store = find_person().store.spaces
    try:
        store.keep(wanted, replaces=None if state.is_new else state.space)
    except Stale:
        now = store.find(wanted.id)
        if now is None:
            raise SpaceGone from None
        if replace(now, created_at=wanted.created_at) != wanted:  # else only the answer was lost
            state.space, state.is_new = now, False
            state.now = _written(now)
            return False
    return True


def _archive(state: _DialogState) -> None:
    space, is_archived = state.space, not state.space.is_archived
    if _is_stored(state, replace(space, is_archived=is_archived)):
        state.is_done = True
        outcome = "archived" if is_archived else "back in the list"
        _leave_news(f"“{spaces.name(space)}” is {outcome}.")
        if is_archived:
            go_to_space(None, is_staying=True)


def _set_deleting(state: _DialogState, is_deleting: bool) -> None:
    state.is_deleting = is_deleting


def _delete(state: _DialogState) -> None:
    find_person().store.spaces.forget(state.space.id)
    state.is_done = True
    _leave_news(f"“{spaces.name(state.space)}” is deleted. Its chats are kept.")
    go_to_space(None, is_staying=True)


# --- words --------------------------------------------------------------------------------------------


def _policies(now: MemoryPolicy | None) -> dict[str, MemoryPolicy | None]:
    """Return the offered policies by name, and *now* as it is."""
    offered = find_person().chat.policies()
    every = (*offered, now) if now else offered
    return {_USUAL: None} | {words.policy_name(policy): policy for policy in every}


def _policy_name(space: Space) -> str:
    return words.policy_name(space.policy) if space.policy else _USUAL


def _written(space: Space) -> str:
    """Return all that can be edited, as text."""
    memories = f"Personal memories: {'on' if space.uses_personal_facts else 'off'}"
    instructions = space.instructions or words.NO_INSTRUCTIONS
    return "\n".join([space.name, instructions, _policy_name(space), memories])


def _leave_news(sentence: str) -> None:
    """Have the page draw *sentence*: a toast of a dialog would go with the dialog."""
    st.session_state.news = sentence
