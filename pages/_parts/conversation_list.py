"""The list of conversations (pinned ones first, then the others grouped by day), or of archived conversations."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from html import escape
from itertools import groupby
from uuid import UUID

import streamlit as st

from pages._parts import conversation_menu, space_dialogs, spaces, words
from pages._session import go_to_conversation
from pages._tab import ROWS, tab
from services.bootstrap import UserServices
from services.domain import Conversation, ConversationId, MessageId, Space, SpaceId
from services.domain.accounts import Expiring
from services.domain.limits import LONGEST_TITLE

Listed = Mapping[str, Conversation]  # conversations, keyed by their ids


def draw_filter() -> None:
    """Draw the button that opens the search dialog, and the field that filters the list by title."""
    st.html(f'<div class="db-list">{_button(words.SEARCH_CHATS, "search", find="")}</div>')
    st.text_input(
        "Search titles",
        max_chars=LONGEST_TITLE,
        type="search",
        live=True,
        label_visibility="collapsed",
        placeholder="Search titles",
        key="search",
        on_change=_draw_more,
        args=[0],
    )


def draw(
    user: UserServices,
    opened: Conversation | None,
    space: Space | None,
    running: Collection[str] = (),
) -> tuple[Listed, Sequence[Conversation] | None]:
    """Draw the list, the archive or the results of the filter; with an open *space*, draw only its conversations.

    Return the conversations that have rows, and those that were read for the list (None for filter results). *opened*
    always has a row, except in filter results; *running*: the conversations in which a reply streams.
    """
    every = spaces.every(user)
    space_dialogs.draw_chooser(every, space)
    rows = _Rows(opened, () if space else every, running, can_move=bool(spaces.offered(every)))
    space_id = space.id if space else None
    count = tab().rows
    wanted = str(st.session_state.search).strip()
    conversations = user.conversations
    _draw_expiring(user.account.expiring)
    with st.container(key="conversation-list", gap=None):
        if wanted:
            found = conversations.titled(wanted, count + 1, space_id=space_id)
            rows.add_page(found, count, "No titles match.")
            if not user.profile.preferences().searches_titles_only:
                rows.add_search()
        elif tab().is_archive:
            archived = [] if space else [one for one in every if one.is_archived]
            found = conversations.recent(count + 1, is_archived=True, space_id=space_id)
            rows.add_opened(found[:count])
            rows.add_spaces(archived)
            if found or not archived:
                rows.add_page(found, count, "No archived chats.")
        else:
            found = conversations.recent(count + 1, space_id=space_id)
            rows.add_opened(found[:count])
            rows.add_page(found, count, f"No chats {'in this space ' if space else ''}yet.")
        rows.end(wanted)
    return rows.drawn, None if wanted else found


def draw_foot(user: UserServices, space: Space | None) -> None:
    """Draw the buttons that stay in view below the list: the archive, or the way back, and the first space."""
    buttons = _button("Archived", "archive", act="archive")
    if tab().is_archive:
        buttons = _button("Back", "arrow_back", act="leave-archive")
    if not spaces.offered(spaces.every(user), space and space.id):
        buttons += _button(words.NEW_SPACE, "create_new_folder", act="new-space")
    st.html(f'<div class="db-list db-foot">{buttons}</div>')


def _draw_expiring(expiring: Expiring | None) -> None:
    """Draw a warning about unused chats that will soon be deleted (the deployment's retention)."""
    if expiring:
        chats = words.count(expiring.conversations, "unused chat")
        st.caption(
            f":material/auto_delete: {chats} will be deleted from {words.moment(expiring.from_time)} on, pinned and"
            " archived ones too. To keep a chat, send a message in it."
        )


def open_chat(conversation_id: ConversationId | None, message_id: MessageId | None = None) -> None:
    """Make the next run open a conversation, at a message if given, or, if None, the new-chat page, and empty the filter.

    For use in callbacks.
    """
    st.session_state.search = ""
    go_to_conversation(conversation_id, message_id)


def act(listed: Listed, opened: Conversation | None, request: Mapping[str, str]) -> None:
    """Perform the action of a button in the list. The request comes from the browser, so it is checked."""
    match request:
        case {"act": "open" | "continue", "chat": chat}:
            with suppress(ValueError):
                message = request.get("message")
                open_chat(ConversationId(UUID(chat)), MessageId(UUID(message)) if message else None)
        case {"act": "choose", "chat": chat, "choice": choice} if conversation := listed.get(chat):
            actions = conversation_menu.actions(conversation, _key(conversation), can_move=True)
            if choice in actions:
                actions[choice]()
        case {"act": "space", "space": space}:
            with suppress(ValueError):
                spaces.choose(SpaceId(UUID(space)), opened)
        case {"act": "all-chats"}:
            spaces.choose(None, opened)
        case {"act": "archive" | "leave-archive" as name}:
            st.session_state.search = ""
            tab().list_from_the_top(is_archive=name == "archive")
        case {"act": "older"}:
            _draw_more(tab().rows)
        case {"act": "new-space"}:
            space_dialogs.ask_for_new()
        case _:
            pass


class _Rows:
    """Draws the list as one HTML element, because widgets are slow. While a title is edited, the list is drawn as two
    elements, above and below the title's field.

    `assets/page/menu.js` opens the menus.
    """

    def __init__(
        self,
        opened: Conversation | None,
        named: Iterable[Space],
        running: Collection[str],
        *,
        can_move: bool,
    ) -> None:
        self._opened, self._running, self._can_move = opened, running, can_move
        self._spaces = {space.id: spaces.plain_name(space) for space in named}
        self._html: list[str] = []
        self.drawn: dict[str, Conversation] = {}

    def add_opened(self, others: Sequence[Conversation]) -> None:
        """Add a row for the open conversation unless it is among *others*."""
        opened = self._opened
        if opened and opened.id not in {conversation.id for conversation in others}:
            self._add_group("Current chat", [opened])

    def add_spaces(self, archived: Sequence[Space]) -> None:
        if archived:
            self._html.append("<p>Archived spaces</p>")
        for space in archived:
            name, space_id = spaces.plain_name(space), str(space.id)
            self._html.append(_button(name, "folder", act="space", space=space_id))

    def add_page(self, found: Sequence[Conversation], count: int, none_found: str) -> None:
        """Add rows for the first *count* conversations *found*, and a button that shows more."""
        now = datetime.now(UTC)
        for heading, group in groupby(found[:count], lambda each: _heading(each, now)):
            self._add_group(heading, group)
        if not found:
            self._html.append(f"<p>{none_found}</p>")
        if len(found) > count:
            self._html.append(_button(words.SHOW_MORE, "expand_more", act="older"))

    def add_search(self) -> None:
        """Add a button that opens the search dialog with the words of the filter (assets/page/find.js)."""
        self._html.append(_button(words.SEARCH_MESSAGES, "search", find=""))

    def end(self, wanted: str) -> None:
        """Draw the added rows, with a mark that tells the browser that they are the results of the filter *wanted*."""
        self._html.append(f"<i hidden data-found>{escape(wanted)}</i>")
        self._draw()

    def _add_group(self, heading: str, group: Iterable[Conversation]) -> None:
        self._html.append(f"<p>{heading}</p>")
        for conversation in group:
            if conversation_menu.is_editing_title(conversation, _key(conversation)):
                self._draw()
                conversation_menu.draw_title_field(conversation)
            else:
                self._html.append(self._row(conversation))
            self.drawn[str(conversation.id)] = conversation

    def _row(self, conversation: Conversation) -> str:
        is_opened = self._opened is not None and conversation.id == self._opened.id
        title = escape(conversation_menu.plain_title(conversation))
        actions = conversation_menu.actions(
            conversation, _key(conversation), can_move=self._can_move
        )
        state = ' aria-current="true"' if is_opened else ""
        if conversation.is_unread and not is_opened:
            state = ' class="db-unread"'
        if str(conversation.id) in self._running:
            state = ' class="db-running"'
        space = self._spaces.get(conversation.space_id) if conversation.space_id else None
        beside = f" <small>{escape(space)}</small>" if space else ""
        # titles are not put into attributes, because Streamlit's sanitizer removes attributes that
        # contain `]>` or `-->`
        return (
            f'<div class="db-row"><button data-act="open" data-chat="{conversation.id}"{state} dir="auto">'
            f'{title}{beside}</button><button class="db-act" data-chat="{conversation.id}"'
            f' data-options="{"|".join(actions)}" data-icon="more_horiz" aria-haspopup="menu">'
            f'<span class="db-name">{words.MORE}: {title}</span></button></div>'
        )

    def _draw(self) -> None:
        if self._html:
            st.html(f'<div class="db-list">{"".join(self._html)}</div>')
        self._html = []


def _button(label: str, icon: str, **data: str) -> str:
    told = "".join(f' data-{name}="{value}"' for name, value in data.items())
    return f'<button{told} data-icon="{icon}">{escape(label)}</button>'


def _heading(conversation: Conversation, now: datetime) -> str:
    if conversation.is_archived:
        return "Archived"
    return "Pinned" if conversation.pinned_at else words.day(conversation.updated_at, now)


def _key(conversation: Conversation) -> str:
    """Return the key of the menu in the row of *conversation*; the key also identifies the place where the title is edited."""
    return f"menu-{conversation.id}"


def _draw_more(count: int) -> None:
    tab().rows = count + ROWS
