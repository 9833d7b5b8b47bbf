"""What an admin does on the page Admin, on any stack."""

import csv
import io

from playwright.sync_api import expect


def look_after(admin, maya):
    """Look at each tab; then change a limit of *maya*, suspend her, restore her, and find all that in the audit."""
    for tab, content in (
        ("Models", "Price for"),
        ("Sign-ups", "Create invitation"),
        ("Settings", "Limits for new users"),
        ("Health", "API and network"),
    ):
        admin.page.get_by_role("tab", name=tab).click()
        admin.sees(content)
    admin.page.get_by_role("tab", name="Users").click()
    expect(admin.page.locator(".st-key-usage-table")).to_contain_text(maya.email)
    admin.page.get_by_test_id("stDataFrame").hover()  # for its toolbar
    expect(admin.page.get_by_role("button", name="Search: ")).to_be_visible()
    expect(admin.page.get_by_role("button", name="Download as CSV")).to_have_count(0)
    assert "Count me in" not in admin.page.content()
    admin.page.get_by_label("Search users").fill(maya.email)
    admin.page.keyboard.press("Enter")
    admin.page.locator(".st-key-chosen-users input").fill(maya.email)
    admin.page.get_by_role("option", name=maya.email).click()
    admin.page.keyboard.press("Escape")
    admin.page.get_by_label("Daily limit ($)").fill("3.5")
    admin.page.get_by_role("button", name="Save").click()
    admin.sees("saved.")
    admin.page.get_by_role("button", name="Suspend").click()
    expect(admin.page.get_by_role("button", name="Restore access")).to_be_visible()
    maya.page.reload()
    maya.is_asked_to_sign_in()
    admin.page.get_by_role("button", name="Restore access").click()
    expect(admin.page.get_by_role("button", name="Suspend")).to_be_visible()
    admin.page.get_by_role("tab", name="Audit").click()
    table = admin.page.locator(".st-key-audit-table")
    for text in (maya.email, "Suspended: no", "Daily limit: $1.00 → $3.50"):
        expect(table).to_contain_text(text)
    with admin.page.expect_download() as download:
        admin.page.get_by_role("button", name="Download CSV").click()
    entries = csv.DictReader(io.StringIO(download.value.path().read_text("utf-8")))
    assert maya.email in {entry["target"] for entry in entries}
