"""The audit tab: changes to accounts and settings, with the time of each and the user who made it."""

from pages._parts import audit_table
from pages._parts.elements import draw_download, quiet_button, row
from pages._tab import tab
from services.bootstrap import UserServices

_PAGE = 100


def draw(admin: UserServices) -> None:
    """Draw one page of audit entries, newest first."""
    before = tab().audit_before
    entries = admin.administration.audit(before, at_most=_PAGE)
    with row("audit-pages"):
        draw_download("/export/audit.csv")
        if before:
            quiet_button("Newest", "first_page", "newest-entries", _turn_to, "")
        if len(entries) == _PAGE:
            quiet_button("Older", "chevron_right", "older-entries", _turn_to, entries[-1].id)
    audit_table.draw(entries, names_users=True)


def _turn_to(before: str) -> None:
    tab().audit_before = before
