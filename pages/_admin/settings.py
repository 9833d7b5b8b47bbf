"""The settings tab: the limits of new users, the limit of all users together, and the retention."""

from collections.abc import Mapping
from functools import partial

from pages._admin import forms, outcomes
from pages._parts import words
from pages._session import find_user
from services.bootstrap import UserServices
from services.errors import Cap

_NO_CHATS = "No chats would be deleted."
_RETENTION = (
    "Chats are deleted this many days after their last message. Users see a warning above their chats 14 days before."
    " Pinned and archived chats are deleted, too. After a change, no chat is deleted for 14 days. Deleted chats cannot be"
    " restored."
)


def draw(admin: UserServices) -> None:
    """Draw the forms."""
    settings = admin.administration.deployment()
    title, caption = "Limits for new users", "Existing users keep theirs."
    forms.draw_limits("default", title, settings.defaults, _change, caption)
    spent = words.cents(settings.spent_this_month_micro)
    caption = f"{spent} used this month. Once it is reached, nobody can send messages. {words.resets(Cap.DEPLOYMENT)}."
    most, stored = 10**15, settings.monthly_cap_micro
    cap = forms.Number("monthly_cap_micro", words.MONTHLY_LIMIT, stored, most, "No limit")
    forms.draw("deployment", "Shared monthly budget", [cap], _set_deployment, caption)
    days = forms.Number("retention_days", "Days", settings.retention_days, 3650, "Never", least=15)
    title = "Deletion of unused chats"
    buttons = forms.draw("retention", title, [days], _change, _RETENTION)
    args = ["retention", partial(_preview, days)]
    buttons.form_submit_button("Preview", on_click=outcomes.act_at, args=args)


def _preview(days: forms.Number) -> str:
    entered = forms.entries("retention", [days])[days.name]
    if entered is None:
        return _NO_CHATS
    found = find_user().administration.preview_retention(entered)
    if not found.conversations:
        return _NO_CHATS
    chats, users = words.count(found.conversations, "chat"), words.count(found.users, "user")
    return f"{chats} of {users} ({words.size(found.bytes)}) would be deleted within 14 days."


def _change(changes: Mapping[str, int | None]) -> None:
    find_user().administration.change_settings(changes)


def _set_deployment(entered: Mapping[str, int | None]) -> None:
    find_user().administration.set_deployment_cap(**entered)
