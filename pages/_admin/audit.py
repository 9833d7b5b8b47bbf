"""The audit tab: changes of accounts and settings, with their actors and times."""

from pages._parts import audit_table
from pages._parts.elements import draw_download, quiet_button, row
from pages._tab import tab
from services.bootstrap import UserServices

_PAGE = 100


def draw(admin: UserServices) -> None:
    """Draw one page of the audit, newest entries first."""
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
