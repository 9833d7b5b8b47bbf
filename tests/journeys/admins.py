"""The actions of an admin on the page Admin, on any stack."""

import contextlib
import csv
import io

from playwright.sync_api import TimeoutError as PlaywrightTimeout
from playwright.sync_api import expect

from tests.stack.apps import until


def look_after(admin, maya):
    """Open each tab; then change a limit of *maya*, suspend her, restore her, and find all these changes in the audit."""
    for tab, content in (
        ("Models", "Price for"),
        ("Sign-ups", "Create invitation"),
        ("Settings", "Limits for new users"),
        ("Health", "Clock difference"),
    ):
        admin.page.get_by_role("tab", name=tab).click()
        admin.sees(content)
    admin.page.get_by_role("tab", name="Users").click()
    expect(admin.page.locator(".st-key-usage-table canvas").first).to_be_visible()
    admin.page.get_by_test_id("stDataFrame").hover()  # shows the toolbar
    expect(admin.page.get_by_role("button", name="Search: ")).to_be_visible()
    expect(admin.page.get_by_role("button", name="Download as CSV")).to_have_count(0)
    assert "Count me in" not in admin.page.content()
    # a low window, set before the search, so that the rows show that the table was drawn for this
    # size
    desk = admin.page.viewport_size
    admin.page.set_viewport_size({"width": desk["width"], "height": 420})
    admin.page.get_by_label("Search users").fill(maya.email)
    admin.page.keyboard.press("Enter")
    expect(admin.page.locator(".st-key-usage-table")).not_to_contain_text(admin.email)
    expect(admin.page.locator(".st-key-usage-table")).to_contain_text(maya.email)
    # cells are drawn on a canvas: the first column of the first row, below the headings
    table = admin.page.locator(".st-key-usage-table .dvn-scroller")
    heading = admin.page.get_by_role("heading", name=maya.email)

    def opened():
        """Click the row until the user's heading appears, because a click on a canvas that is being redrawn is lost."""
        table.click(position={"x": 30, "y": 57})
        with contextlib.suppress(PlaywrightTimeout):
            heading.wait_for(timeout=5_000)
        return heading.count()

    until(opened)
    expect(heading).to_be_in_viewport()
    admin.page.set_viewport_size(desk)
    admin.page.get_by_label("Search users").fill("nobody")
    admin.page.keyboard.press("Enter")
    admin.sees("No users found.")
    expect(admin.page.get_by_role("heading", name=maya.email)).to_be_visible()
    admin.page.get_by_label("Daily limit ($)").fill("-1")
    admin.page.get_by_role("button", name="Save").click()
    expect(admin.page.get_by_text("Enter 0 to 1,000,000.")).to_be_in_viewport()
    admin.page.get_by_label("Daily limit ($)").fill("3.5")
    admin.page.get_by_role("button", name="Save").click()
    admin.sees("Saved.")
    admin.page.get_by_role("button", name="Suspend").click()
    dialog = admin.page.get_by_role("dialog")
    expect(dialog).to_contain_text(maya.email)
    dialog.get_by_role("button", name="Suspend").click()
    admin.sees(f"{maya.email} suspended.")
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
