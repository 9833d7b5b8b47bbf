"""A conversation's menu, and its title as a label or a field."""

from collections.abc import Callable
from functools import partial

from pages._parts import fact_list, preferences, safe_md, space_dialogs, undo, words
from pages._parts.elements import draw_field
from pages._session import ask_for, find_user
from pages._tab import tab
from services.domain import Conversation


def title(conversation: Conversation, limit: int = 60) -> str:
    """Return the title of *conversation* as a label (`safe_md.label`)."""
    return safe_md.label(plain_title(conversation), limit)


def plain_title(conversation: Conversation) -> str:
    """Return the title of *conversation* as plain text."""
    return conversation.title or words.UNTITLED if conversation.is_verified else "Unverified title"


def is_editing_title(conversation: Conversation, key: str) -> bool:
    """Return True if the title is being edited in the place whose menu has the key *key*."""
    return tab().edited_title == (key, conversation.id)


def draw_title_field(conversation: Conversation) -> None:
    key = f"title-{conversation.id}"
    rename, save_key = _rename, "save-title"
    draw_field("title", conversation.title, 120, key, rename, _leave_title, conversation, save_key)


def actions(
    conversation: Conversation,
    key: str,
    *,
    can_move: bool,
    is_above: bool = False,
    has_branches: bool = False,
) -> dict[str, Callable[[], None]]:
    """Return the actions of a conversation's menu, by label.

    *can_move*: True if there is a space to move to; *is_above*: True if the menu is above the messages, not in the
    list; *has_branches*: True if there are versions of messages that are not on the page.
    """
    found: dict[str, Callable[[], None]] = {}
    if not conversation.is_archived:
        found["Unpin" if conversation.pinned_at else "Pin"] = partial(_pin, conversation)
    found[words.RENAME] = partial(_edit_title, conversation, key)
    found[words.INSTRUCTIONS] = partial(ask_for, preferences.instructions_dialog, conversation)
    found[words.CHAT_NOTES] = partial(ask_for, fact_list.notes_dialog, conversation)
    if can_move or conversation.space_id:
        found[words.MOVE] = partial(ask_for, space_dialogs.move_dialog, conversation)
    if is_above:
        found["Print"] = partial(_print, conversation)
    if has_branches:
        found[words.KEEP_BRANCH] = partial(ask_for, undo.branches_dialog, conversation)
    shelf = words.UNARCHIVE if conversation.is_archived else words.ARCHIVE
    found[shelf] = partial(_archive, conversation)
    found[words.DELETE] = partial(undo.discard, conversation)
    return found


def is_printed(conversation: Conversation) -> bool:
    """Return True if the conversation is being printed; in that case, its whole branch is drawn."""
    return tab().printed == conversation.id


def end_printing() -> None:
    """Make the next run draw the page as it was before printing. For use in callbacks."""
    tab().printed = None


def _print(conversation: Conversation) -> None:
    tab().printed = conversation.id


def _edit_title(conversation: Conversation, key: str) -> None:
    tab().edited_title = key, conversation.id


def _leave_title() -> None:
    tab().edited_title = None


def _rename(conversation: Conversation, title: str) -> None:
    find_user().conversations.rename(conversation.id, title)
    _leave_title()  # without effect if Cancel was pressed meanwhile


def _pin(conversation: Conversation) -> None:
    find_user().conversations.pin(conversation.id, is_pinned=not conversation.pinned_at)


def _archive(conversation: Conversation) -> None:
    is_archived = not conversation.is_archived
    find_user().conversations.archive(conversation.id, is_archived=is_archived)

    def restore() -> None:
        conversations = find_user().conversations
        conversations.archive(conversation.id, is_archived=not is_archived)
        if conversation.pinned_at:  # archiving removed the pin, so it is set again
            conversations.pin(conversation.id)

    deed = words.ARCHIVE if is_archived else words.UNARCHIVE
    undo.offer(conversation.id, "archive", f"{deed}d “{plain_title(conversation)}”", restore)
