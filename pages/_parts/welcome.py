"""The new-chat page: its heading, the newest chats, and things to try."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from html import escape
from operator import attrgetter
from typing import NamedTuple

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages._parts import (
    conversation_menu,
    models,
    new_conversation,
    space_dialogs,
    spaces,
    temporary,
    words,
)
from pages._parts.elements import empty_page
from pages._session import find_user
from services import bootstrap
from services.bootstrap import TemporaryChat, UserServices
from services.domain import Conversation, Retrieval, Space
from services.errors import StoreUnavailable

_NOTHING_KEPT = (
    "Not saved and not used for memory. Deleted when you reload this page, or 20 seconds after you leave it.  \n"
    "Still counts towards your limits."
)
_SHOWN = 3  # chats, and things to try
_RECALL = Retrieval()


class _Thing(NamedTuple):
    icon: str
    title: str
    sentence: str
    attributes: str  # the name and attributes of the HTML element


# `data-prompt`: assets/page/welcome.js puts the text into the composer. Pages are plain links, because `st.page_link` may
# not find them until the second run
_THINGS = {
    "sent": _Thing(
        "visibility",
        "See what is sent to the model",
        "Send this question, then press the eye below the reply (on a touch screen, ⋯ shows it).",
        'button data-prompt="Explain in five sentences how a boat can sail against the wind."',
    ),
    "memory": _Thing(
        "bookmarks",
        "Let Daybook remember",
        "What you say about yourself, between chats. You can edit or delete it.",
        'a href="/memory" target="_self"',
    ),
    "space": _Thing(
        "create_new_folder",
        "Make a space",
        "For chats that share instructions, notes and a context setting.",
        'button data-act="try" data-thing="space"',
    ),
    "recall": _Thing(
        "history",
        f"Try {words.policy_name(_RECALL)}",
        "This chat then sends recent messages and older ones related to your question.",
        'button data-act="try" data-thing="recall"',
    ),
    "data": _Thing(
        "stacks",
        "See what is stored where",
        "In this browser, on the server, at the model. Export or clear it.",
        'a href="/data" target="_self"',
    ),
}


def draw(
    place: DeltaGenerator,
    user: UserServices,
    temporary_chat: TemporaryChat | None,
    space: Space | None,
) -> DeltaGenerator | None:
    """Draw the top of the page: for *temporary_chat* if given, else for a chat in *space* if given.

    Return the container that `draw_start` fills; None for a temporary chat.
    """
    title = spaces.name(space) if space else words.NEW_CHAT
    purpose = "New chat in this space." if space else "Ask anything."
    how = "as plain text" if bootstrap.current_app().is_plain else "encrypted"
    sentence = f"{purpose} Chats are stored {how}."
    if temporary_chat:
        title, sentence = words.TEMPORARY_CHAT, _NOTHING_KEPT
    with place, empty_page("welcome", title, sentence, above=40):
        if not space:
            temporary.draw_switch(temporary_chat, user)
        if temporary_chat:
            return None
        models.draw_connect_card()
        return st.container(key="start")


def draw_start(
    place: DeltaGenerator,
    user: UserServices,
    space: Space | None,
    listed: Sequence[Conversation] | None,
) -> None:
    """Draw the newest chats and, outside of a space, things to try.

    *listed*: the chats at the top of the list in the sidebar; None if the list has other chats, such as archived ones.
    """
    with suppress(StoreUnavailable):
        if listed is None:
            listed = user.conversations.recent(_SHOWN, space_id=space.id if space else None)
        newest = sorted(listed, key=attrgetter("updated_at"), reverse=True)[:_SHOWN]
        sections = [_section("Recent chats", "db-recent", map(_chat, newest))] if newest else []
        if not space:
            things = [_THINGS[name] for name in things_to_try(user, is_new=not newest)]
            sections.append(_section("Things to try", "db-things", map(_thing, things)))
        place.html(f'<div class="db-start">{"".join(sections)}</div>')


def things_to_try(user: UserServices, *, is_new: bool) -> list[str]:
    """Return the names of three things, first those that the user has not tried yet; *is_new*: the user has no chats."""
    tried = {
        "memory": user.profile.preferences().keeps_facts is not None,
        "space": bool(spaces.every(user)),
        "recall": user.choices.usual_policy().name == _RECALL.name,
    }
    first = ["sent", "memory", "data"] if is_new else ["memory", "space", "recall", "data", "sent"]
    untried = [name for name in first if not tried.get(name)]
    return list(dict.fromkeys([*untried, "space"]))[:_SHOWN]


def _section(title: str, name: str, rows: Iterable[str]) -> str:
    return f'<section class="{name}"><h2>{title}</h2>{"".join(rows)}</section>'


def _chat(conversation: Conversation) -> str:
    title = escape(conversation_menu.plain_title(conversation))
    when = escape(words.moment(conversation.updated_at))
    return (
        f'<button data-act="continue" data-chat="{conversation.id}">'
        f'<span dir="auto">{title}</span><small>{when}</small></button>'
    )


def _thing(thing: _Thing) -> str:
    tag = thing.attributes.partition(" ")[0]
    return (
        f'<{thing.attributes} data-icon="{thing.icon}">'
        f"<span>{thing.title}<small>{thing.sentence}</small></span></{tag}>"
    )


def act(request: Mapping[str, str]) -> None:
    """Perform the action of a thing to try. The request comes from the browser, so it is checked."""
    match request:
        case {"act": "try", "thing": "space"}:
            space_dialogs.ask_for_new()
        case {"act": "try", "thing": "recall"}:
            offered = {policy.name: policy for policy in find_user().choices.policies()}
            new_conversation.choose_policy(offered[_RECALL.name])
        case _:
            pass
