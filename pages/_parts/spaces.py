"""The open space (the one that the URL names), and the names and labels of all spaces."""

from collections.abc import Sequence
from uuid import UUID

import streamlit as st

from pages._parts import safe_md
from pages._parts.elements import distinct
from pages._session import SPACE, go_to_space
from pages._tab import tab
from services.bootstrap import UserServices
from services.domain import Conversation, Space, SpaceId
from services.errors import StoreUnavailable


def chosen(user: UserServices) -> SpaceId | None:
    """Return the id of the space that the URL names; None if it names none, or if that space certainly does not exist."""
    try:
        space_id = SpaceId(UUID(st.query_params.get(SPACE, "")))
    except ValueError:
        return None
    try:
        return space_id if user.spaces.find(space_id) else None
    except StoreUnavailable:
        return space_id


def every(user: UserServices) -> tuple[Space, ...]:
    """Return the user's spaces, or an empty tuple while they cannot be read."""
    try:
        return user.spaces.all()
    except StoreUnavailable:
        return ()


def offered(spaces: Sequence[Space], *besides: SpaceId | None) -> list[Space]:
    """Return those of *spaces* that are not archived or whose ids are in *besides*."""
    return [space for space in spaces if not space.is_archived or space.id in besides]


def name(space: Space) -> str:
    """Return the name of *space* as a label (`safe_md.label`)."""
    return safe_md.label(plain_name(space))


def plain_name(space: Space) -> str:
    """Return the name of *space* as plain text."""
    if space.is_newer:
        return "Space of a newer version"
    return space.name if space.is_verified else "Unverified space"


def by_label(first: str, spaces: Sequence[Space]) -> dict[str, SpaceId | None]:
    """Return the ids of *spaces*, keyed by their names; the first value is None, with the label *first*.

    Names that equal an earlier label are made distinct.
    """
    labels: dict[SpaceId | None, str] = {None: first} | {
        space.id: plain_name(space) for space in spaces
    }
    return {label: space_id for space_id, label in distinct(labels).items()}


def draw_sign(user: UserServices, conversation: Conversation) -> None:
    """Draw a button that opens the space of *conversation*, if it is in one."""
    space = user.choices.space(conversation.space_id)
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
    """List the conversations of one space or, if None, all; *opened* stays open if it is listed. For use in callbacks."""
    tab().list_from_the_top()
    is_staying = opened is not None and space_id in (None, opened.space_id)
    go_to_space(space_id, is_staying=is_staying)
