"""The dialogs that create, edit, archive and delete a space and its notes, and that move a conversation to a space."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from html import escape
from uuid import uuid4

import streamlit as st

from pages._parts import editing, safe_md, spaces, undo, words
from pages._parts.elements import draw_unread, draw_wide_menu, quiet_button, row
from pages._parts.fact_list import FactList
from pages._session import ask_for, go_to_space, run_to_end, show_errors, tell, user_services
from services.bootstrap import UserServices
from services.domain import Conversation, Space, SpaceId
from services.domain.limits import LONGEST_INSTRUCTIONS, LONGEST_SPACE_NAME
from services.errors import SpaceGone

_USUAL, _NO_SPACE = "Your default", "No space"
_DELETE = "Delete space"


def draw_chooser(every: Sequence[Space], chosen: Space | None) -> None:
    """If there are spaces, draw the menu that opens or creates one."""
    listed = spaces.offered(every, chosen.id if chosen else None)
    if not listed:
        return
    named = "".join(
        f'<button data-act="space" data-space="{space.id}">{escape(spaces.plain_name(space))}</button>'
        for space in listed
    )
    items = (
        f'<button data-act="all-chats">{words.ALL_CHATS}</button>{named}'
        f'<button data-act="new-space" class="db-apart">{words.NEW_SPACE}</button>'
    )
    label = spaces.plain_name(chosen) if chosen else words.ALL_CHATS
    icon = "folder_open" if chosen else "folder"
    with row("space-row", gap=None, wrap=False):
        draw_wide_menu(label, icon, "space-chooser", items)
        if chosen:
            quiet_button(words.EDIT_SPACE, "tune", "edit-space", ask_for, space_dialog, chosen)


def ask_for_new() -> None:
    """Make the next run open the dialog for a new space. For use in callbacks."""
    # the id is chosen before saving, so that saving again after a lost response creates no second space
    space = Space(id=SpaceId(uuid4()), name="", created_at=datetime.now(UTC))
    ask_for(new_space_dialog, space)


@st.dialog(words.NEW_SPACE, on_dismiss="rerun")
@show_errors()
def new_space_dialog(space: Space) -> None:
    """Ask for the name and settings of *space*, and create it."""
    seen: Space | None = editing.seen_at_opening(_name_key(space), None)
    _draw_form(user_services(), space, seen)


@st.dialog(words.EDIT_SPACE, on_dismiss="rerun")
@show_errors()
def space_dialog(space: Space) -> None:
    """Edit, archive or delete *space*, and edit its notes."""
    user = user_services()
    seen = editing.seen_at_opening(_name_key(space), space)
    draw_unread(seen)
    if seen.is_archived:
        st.caption(":material/archive: Archived: not shown in the list of spaces.")
    _draw_form(user, seen, seen)
    st.subheader(words.SPACE_NOTES, anchor=False)
    notes, used = FactList(space_id=space.id), "Used in every chat in this space."
    are_all_used = user.profile.preferences().keeps_facts or all(
        one.is_placed for one in notes.facts(user)
    )
    st.caption(
        used if are_all_used else f"{used} While memory is off, only notes that you wrote are."
    )
    notes.draw_in_dialog(user)
    if st.button(_DELETE, icon=":material/delete:", type="tertiary", key="danger-delete-space"):
        ask_for(delete_dialog, seen)
        st.rerun()


@st.dialog(_DELETE, on_dismiss="rerun")
@show_errors()
def delete_dialog(space: Space) -> None:
    """Delete *space* and its notes after a confirmation."""
    name = spaces.name(space)
    st.markdown(f"Delete “{name}”? Its instructions and notes will be deleted; its chats are kept.")
    if editing.is_confirmed(_DELETE, "space-goes"):
        with run_to_end():
            user_services().spaces.forget(space.id)
            tell(f"Deleted “{name}”. Its chats are kept.")
            go_to_space(None, is_staying=True)
        st.rerun()


@st.dialog(words.MOVE, on_dismiss="rerun")
@show_errors()
def move_dialog(conversation: Conversation) -> None:
    """Move *conversation* into a space or out of one."""
    user = user_services()
    offered = spaces.offered(user.spaces.all(), conversation.space_id)
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
        if editing.is_submitted("Move"):
            to = labels[label]
            moved = f"“{conversation.title or words.UNTITLED}”"
            sentence = f"Moved {moved} to “{label}”" if to else f"Removed {moved} from its space"
            with run_to_end():
                user.conversations.move(conversation.id, to)
                undo.offer(
                    conversation.id,
                    "move",
                    sentence,
                    lambda: user_services().conversations.move(
                        conversation.id, conversation.space_id
                    ),
                )
            st.rerun()


def _draw_form(user: UserServices, space: Space, seen: Space | None) -> None:
    """Draw the fields of *space*; *seen*: its stored version, or None if it is new."""
    offered = user.choices.policies()
    offered = (*offered, space.policy) if space.policy else offered
    policies = {_USUAL: None} | {words.policy_name(policy): policy for policy in offered}
    with st.form("space", border=False):
        name = st.text_input("Name", space.name, max_chars=LONGEST_SPACE_NAME, key=_name_key(space))
        instructions = st.text_area(
            "Space instructions",
            space.instructions or "",
            height=150,
            max_chars=LONGEST_INSTRUCTIONS,
            placeholder="Default: your own instructions",
            key=f"space-instructions-{space.id}",
        )
        policy = st.selectbox(
            words.DEFAULT_CONTEXT,
            list(policies),
            index=list(policies).index(_policy_name(space)),
            format_func=lambda label: words.policy_line(one) if (one := policies[label]) else label,
            key=f"space-policy-{space.id}",
        )
        uses_personal_facts = st.toggle(
            "Use my personal memories",
            space.uses_personal_facts,
            help="Off: chats in this space use only space notes and chat notes.",
            key=f"space-memories-{space.id}",
        )
        is_saved, is_moved = editing.is_submitted(words.SAVE if seen else "Create"), False
        if seen:  # inside the form, so that pressing this button also saves the fields
            shelf, icon = words.ARCHIVE, ":material/archive:"
            if seen.is_archived:
                shelf, icon = words.UNARCHIVE, ":material/unarchive:"
            is_moved = st.form_submit_button(f"{shelf} space", icon=icon, type="tertiary")
        if is_saved or is_moved:
            wanted = replace(
                space,
                is_archived=(seen or space).is_archived != is_moved,
                name=" ".join(name.split()),
                instructions=instructions.strip() or None,
                policy=policies[policy],
                uses_personal_facts=uses_personal_facts,
                is_verified=True,
            )
            _save(user, wanted, seen)


def _save(user: UserServices, wanted: Space, seen: Space | None) -> None:
    """Replace the stored version *seen* with *wanted*, and close the dialog."""

    def act() -> None:
        if wanted != seen:
            user.spaces.keep(wanted, replaces=seen)
        if seen is None:
            go_to_space(wanted.id, is_staying=False)
        elif wanted.is_archived != seen.is_archived:
            _offer_undo(wanted)
            if wanted.is_archived:
                go_to_space(None, is_staying=True)

    editing.save(act, lambda: user.spaces.find(wanted.id) or wanted, _as_text)


def _offer_undo(moved: Space) -> None:
    """Offer to undo archiving or restoring the space *moved*; Undo also opens the space if the same chat is still open."""
    opened = st.query_params.get("c")

    def restore() -> None:
        store = user_services().spaces
        now = store.find(moved.id)
        if now is None:
            raise SpaceGone
        store.keep(replace(now, is_archived=not moved.is_archived), replaces=now)
        if st.query_params.get("c") == opened:
            go_to_space(moved.id, is_staying=True)

    deed = words.ARCHIVE if moved.is_archived else words.UNARCHIVE
    undo.offer(moved.id, "archive", f"{deed}d “{spaces.plain_name(moved)}”", restore)


def _as_text(space: Space) -> str:
    """Return the editable fields of *space* as text."""
    memories = f"Personal memories: {'on' if space.uses_personal_facts else 'off'}"
    instructions = space.instructions or words.NO_INSTRUCTIONS
    return "\n".join([space.name, instructions, _policy_name(space), memories])


def _policy_name(space: Space) -> str:
    return words.policy_name(space.policy) if space.policy else _USUAL


def _name_key(space: Space) -> str:
    return f"space-name-{space.id}"
