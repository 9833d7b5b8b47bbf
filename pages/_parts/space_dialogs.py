"""A space made, changed, put away and destroyed, with its facts; and a conversation moved.

What is done in a dialog is done by callbacks, and what came of it is said by the dialog that is drawn next. What was
typed stays in it where it cannot be saved; what was changed elsewhere is replaced by nobody who has not seen it.
"""

from dataclasses import dataclass, field, replace

import streamlit as st

from pages._parts import safe_md, scoped_facts, spaces, words
from pages._parts.elements import quiet_button
from pages._parts.scoped_facts import attempt, submitted
from pages._session import find_person, go_to_space, person_services, show_errors
from services.domain import Conversation, MemoryPolicy, Space
from services.domain.limits import LONGEST_INSTRUCTIONS, LONGEST_SPACE_NAME
from services.errors import SpaceGone, Stale, Tampered

_USUAL, _NO_SPACE = "Your default", "None"


@dataclass(slots=True, kw_only=True)
class _Opened(scoped_facts.Opened):
    """The same, of a space."""

    space: Space = field(repr=False)  # as they saw it
    is_new: bool
    is_going: bool = False  # they asked to delete it
    is_over: bool = False


@st.dialog(words.NEW_SPACE, on_dismiss="rerun")
def new_space_dialog(space: Space) -> None:
    """A space that is to be made."""
    _draw(space, is_new=True)


@st.dialog(words.EDIT_SPACE, on_dismiss="rerun")
def space_dialog(space: Space) -> None:
    """What holds in a space."""
    _draw(space, is_new=False)


@st.dialog(words.MOVE, on_dismiss="rerun")
def move_dialog(conversation: Conversation) -> None:
    """Where a conversation is kept."""
    person = person_services()
    with show_errors():
        kept = spaces.offered(person.store.spaces.all(), conversation.space_id)
        labels = spaces.by_label(_NO_SPACE, kept)
        title = safe_md.label(conversation.title or words.UNTITLED)
        with st.form("move", border=False):
            label = st.selectbox(
                f"Move “{title}” to",
                list(labels),
                index=list(labels.values()).index(conversation.space_id)
                if conversation.space_id in labels.values()
                else 0,
                key="move-to",
            )
            if submitted("Move"):
                person.store.conversations.move(conversation.id, labels[label])
                where = f"to “{label}”" if labels[label] else "out of its space"
                _leave_news(f"“{title}” is moved {where}.")
                st.rerun()


def _draw(space: Space, *, is_new: bool) -> None:
    person = person_services()
    key = f"space-name-{space.id}"
    opened: _Opened | None = st.session_state.get("opened_space")
    if opened is None or opened.space.id != space.id or key not in st.session_state:
        # it has just been opened; a run that follows a reply lets what the dialog before it held stay
        opened = _Opened(space=space, is_new=is_new, space_id=space.id, gone=SpaceGone.public)
        st.session_state.opened_space = opened
    if opened.is_over:
        del st.session_state.opened_space
        st.rerun()
    with show_errors():
        _draw_form(opened, key)
        scoped_facts.draw_refusal(opened)
        if not opened.is_new:
            st.subheader(words.SPACE_NOTES, anchor=False)
            st.caption("Used in every chat in this space.")
            scoped_facts.draw(person, opened)
            _draw_end(opened)


def _draw_form(opened: _Opened, key: str) -> None:
    space = opened.space
    if not space.is_verified:
        st.caption(f":material/gpp_bad: {Tampered.public}")
    if space.is_archived:
        st.caption(":material/archive: Archived: not shown in the list of spaces.")
    policies = _policies(space.policy)
    now = _USUAL if space.policy is None else words.policy_name(space.policy)
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
            index=list(policies).index(now),
            format_func=lambda label: _explained(label, policies[label]),
            key=f"space-policy-{space.id}",
        )
        st.toggle(
            "Use my personal memories",
            space.uses_personal_facts,
            help="Off: chats in this space use only space notes and chat notes.",
            key=f"space-memories-{space.id}",
        )
        submitted("Create" if opened.is_new else words.SAVE, _save, opened)


def _draw_end(opened: _Opened) -> None:
    """What puts the space away."""
    if not opened.is_going:
        with st.container(horizontal=True):
            if opened.space.is_archived:
                quiet_button(
                    words.UNARCHIVE, "unarchive", "unarchive-space", attempt, _archive, opened
                )
            else:
                quiet_button(words.ARCHIVE, "archive", "archive-space", attempt, _archive, opened)
            quiet_button(
                words.DELETE, "delete", "danger-delete-space", attempt, _set_going, opened, True
            )
        return
    st.markdown(
        f"Delete “{spaces.name(opened.space)}”? Its instructions and notes are deleted. "
        "Its chats are kept."
    )
    with st.container(horizontal=True, horizontal_alignment="right"):
        quiet_button(words.CANCEL, None, "keep-space", attempt, _set_going, opened, False)
        st.button(
            "Delete space",
            type="primary",
            key="danger-space-goes",
            on_click=attempt,
            args=[_delete, opened],
        )


# --- what is done -------------------------------------------------------------------------------------


def _save(opened: _Opened) -> None:
    seen, asked = opened.space, st.session_state
    wanted = replace(
        seen,
        name=" ".join(str(asked[f"space-name-{seen.id}"]).split()),
        instructions=str(asked[f"space-instructions-{seen.id}"]).strip() or None,
        policy=_policies(seen.policy)[asked[f"space-policy-{seen.id}"]],
        uses_personal_facts=bool(asked[f"space-memories-{seen.id}"]),
        is_verified=True,
    )
    is_new = opened.is_new
    if wanted == seen and not is_new:
        opened.is_over = True
    elif _is_kept(opened, wanted):
        opened.is_over = True
        if is_new:
            go_to_space(wanted.id, is_staying=False)


def _is_kept(opened: _Opened, wanted: Space) -> bool:
    """Put *wanted* in the place of what was seen, or have the dialog show what else is there now."""
    kept = find_person().store.spaces
    try:
        kept.keep(wanted, replaces=None if opened.is_new else opened.space)
    except Stale:
        now = kept.find(wanted.id)
        if now is None:
            raise SpaceGone from None
        if replace(now, created_at=wanted.created_at) != wanted:  # else only the answer was lost
            opened.space, opened.is_new = now, False
            opened.refusal, opened.now = words.CHANGED_ELSEWHERE, _written(now)
            return False
    return True


def _archive(opened: _Opened) -> None:
    space, is_archived = opened.space, not opened.space.is_archived
    if _is_kept(opened, replace(space, is_archived=is_archived)):
        opened.is_over = True
        _leave_news(
            f"“{spaces.name(space)}” is {'archived' if is_archived else 'back in the list'}."
        )
        if is_archived:
            go_to_space(None, is_staying=True)


def _set_going(opened: _Opened, is_going: bool) -> None:
    opened.is_going = is_going


def _delete(opened: _Opened) -> None:
    person = find_person()
    person.store.spaces.forget(opened.space.id)
    opened.is_over = True
    _leave_news(f"“{spaces.name(opened.space)}” is deleted. Its chats are kept.")
    go_to_space(None, is_staying=True)


# --- words --------------------------------------------------------------------------------------------


def _policies(now: MemoryPolicy | None) -> dict[str, MemoryPolicy | None]:
    """By the names that are offered, the one that holds *now* as it is."""
    offered = find_person().chat.policies()
    every = (*offered, now) if now else offered
    return {_USUAL: None} | {words.policy_name(policy): policy for policy in every}


def _explained(label: str, policy: MemoryPolicy | None) -> str:
    return words.policy_line(policy) if policy else label


def _written(space: Space) -> str:
    """All that can be changed of it."""
    policy = _USUAL if space.policy is None else words.policy_name(space.policy)
    memories = f"Personal memories: {'on' if space.uses_personal_facts else 'off'}"
    return "\n".join([space.name, space.instructions or words.NO_INSTRUCTIONS, policy, memories])


def _leave_news(sentence: str) -> None:
    """Have the page say it: a toast of a dialog goes with the dialog."""
    st.session_state.news = sentence
