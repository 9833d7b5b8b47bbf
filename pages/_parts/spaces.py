"""Which space is chosen: it stands in the address. What leads into it, and where its name is shown."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid4

import streamlit as st

from pages._parts import safe_md, words
from pages._parts.elements import quiet_button, row
from pages._session import SPACE, ask_for, go_to_space
from services.bootstrap import PersonServices
from services.domain import Conversation, Space, SpaceId
from services.errors import StoreUnavailable

_ALL = "All chats"
_APART = "\u2060"  # shows nothing, and keeps one label from being another


def chosen(person: PersonServices) -> SpaceId | None:
    """The space that the address names, unless it is known that there is none of that name."""
    try:
        space_id = SpaceId(UUID(st.query_params.get(SPACE, "")))
    except ValueError:
        return None
    try:
        return space_id if person.store.spaces.find(space_id) else None
    except StoreUnavailable:
        return space_id


def every(person: PersonServices) -> tuple[Space, ...]:
    """The person's spaces, as far as anybody can say."""
    try:
        return person.store.spaces.all()
    except StoreUnavailable:
        return ()


def can_move(person: PersonServices, conversation: Conversation) -> bool:
    """Whether there is a space for *conversation* to be moved into, or out of."""
    return conversation.space_id is not None or bool(offered(every(person)))


def offered(spaces: Sequence[Space], *besides: SpaceId | None) -> list[Space]:
    """Those of *spaces* that are in use, and *besides* the ones of these names."""
    return [space for space in spaces if not space.is_archived or space.id in besides]


def name(space: Space) -> str:
    """The name as a label."""
    if not space.is_verified:
        return "Unverified space"
    return safe_md.label(space.name)


def by_label(first: str, spaces: Sequence[Space], *others: str) -> dict[str, SpaceId | None]:
    """*spaces* by the labels under which they are chosen, after *first*, which stands for none. Menus tell
    what was chosen by its label alone: two of the same name, or of one of the *others*, are kept apart."""
    found: dict[str, SpaceId | None] = {first: None}
    for space in spaces:
        label = name(space)
        while label in found or label in others:
            label += _APART
        found[label] = space.id
    return found


def draw_chooser(
    spaces: Sequence[Space], chosen: Space | None, opened: Conversation | None
) -> bool:
    """Whose conversations are listed, and the way to others'. Say whether it is there: not without spaces."""
    listed = offered(spaces, chosen.id if chosen else None)
    if not listed:
        return False
    labels = by_label(_ALL, listed, words.NEW_SPACE)
    with row("space-row", gap=None, wrap=False):
        st.menu_button(
            name(chosen) if chosen else _ALL,
            [*labels, words.NEW_SPACE],
            icon=":material/folder_open:" if chosen else ":material/folder:",
            key="space-chooser",
            type="tertiary",
            width="stretch",
            wrap=False,
            on_click=_choose_by_label,
            args=[labels, opened],
        )
        if chosen:
            quiet_button(words.EDIT_SPACE, "tune", "edit-space", ask_for, words.EDIT_SPACE, chosen)
    return True


def draw_sign(person: PersonServices, conversation: Conversation) -> None:
    """In which space *conversation* is, if it is in one."""
    space = person.chat.space(conversation.space_id)
    if space:
        st.button(
            name(space),
            icon=":material/folder:",
            type="tertiary",
            wrap=False,
            key="space-sign",
            on_click=choose,
            args=[space.id, conversation],
        )


def choose(space_id: SpaceId | None, opened: Conversation | None) -> None:
    """List the conversations of one space, or all. What is open stays if it is one of them. A callback."""
    st.session_state.pop("rows", None)
    st.session_state.is_archive = False
    is_staying = opened is not None and space_id in (None, opened.space_id)
    go_to_space(space_id, is_staying=is_staying)


def ask_for_new() -> None:
    """Have the page open a space that is to be made. A callback."""
    # its id is chosen once: asking again after a lost answer makes no second one
    ask_for(words.NEW_SPACE, Space(id=SpaceId(uuid4()), name="", created_at=datetime.now(UTC)))


def _choose_by_label(labels: dict[str, SpaceId | None], opened: Conversation | None) -> None:
    label = str(st.session_state["space-chooser"])
    if label == words.NEW_SPACE:
        ask_for_new()
    else:
        choose(labels.get(label), opened)
