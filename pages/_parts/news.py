"""Detection of changes that other processes make to replies, the list of conversations, preferences, models and the
user's role.
"""

from collections.abc import Mapping, Sequence
from typing import cast

from pages._parts import browser
from pages._session import attempt, find_user
from pages._tab import tab
from services.bootstrap import UserServices
from services.domain import AccountRole, Conversation, Space
from services.domain.revisions import list_digest


def running(user: UserServices, opened: Conversation | None) -> frozenset[str]:
    """Return the ids of the conversations in which a reply streams, except *opened*."""
    found = {str(chat_id) for chat_id in user.chat.coming()} | tab().running_elsewhere
    return frozenset(found - {str(opened.id) if opened else ""})


def watch(
    user: UserServices,
    opened: Conversation | None,
    space: Space | None,
    listed: Sequence[Conversation] | None,
) -> None:
    """Rerun the page when another process changes data that the page shows.

    *listed*: the conversations at the top of the drawn list, or None for search results, which are not watched.
    """
    is_archive = tab().is_archive
    place = {"c": str(opened.id)} if opened else {}
    place |= {"s": str(space.id)} if space else {}
    place |= {"archive": "1"} if is_archive else {}
    seen: dict[str, object] = {
        "running": sorted(running(user, opened)),
        "preferences": user.profile.revision(),
        "settings": user.models.settings().revision,
        "is_admin": user.account.role is AccountRole.ADMIN,
    }
    if opened:
        seen |= {"chat": opened.rev, "choices": opened.choices}
    if listed is not None:
        seen["list"] = list_digest(listed, opened.id if opened else None)
    browser.watch_news(place, seen, lambda found: attempt(_hear, found))


def _hear(found: Mapping[str, object]) -> None:
    """Note the revisions *found*, so that changed data is read again. The browser sends them, so their types are checked."""
    user = find_user()
    here = {str(chat_id) for chat_id in user.chat.coming()}
    match found:
        case {"preferences": int(preferences), "settings": str(settings), "running": running} if (
            isinstance(running, list)
        ):
            user.note_revisions(preferences, settings)
            tab().running_elsewhere = frozenset(map(str, cast(list[object], running))) - here
        case _:
            pass
