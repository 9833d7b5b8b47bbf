"""The usage page: a message's cost is in the chart, in the tables and in the file."""

import csv
import io

import pytest
from playwright.sync_api import expect


@pytest.mark.long_run
def test_message_is_found_in_the_usage_and_its_file(person):
    maya = person()
    maya.arrives()
    maya.page.locator(".st-key-account-menu button").click()
    maya.page.get_by_role("menuitem", name="Usage").click()
    maya.sees("Nothing was used on these days.")
    maya.begins_a_new_chat()
    maya.asks("How do I prune a pear?")
    maya.hears_all_of("You said: How do I prune a pear?")

    maya.page.locator(".st-key-account-menu button").click()
    maya.page.get_by_role("menuitem", name="Usage").click()

    expect(maya.page.locator(".st-key-usage-chart").get_by_role("img")).to_be_visible()
    expect(maya.page.locator(".st-key-usage-table")).to_contain_text("How do I prune a pear?")
    with maya.page.expect_download() as download:
        maya.page.get_by_role("button", name="Download CSV").click()
    entries = list(csv.DictReader(io.StringIO(download.value.path().read_text("utf-8"))))
    assert "reply" in {entry["purpose"] for entry in entries}
    assert all(int(entry["tokens_in"]) > 0 for entry in entries)
    maya.page.locator(".st-key-usage-table").get_by_role("link").click()
    maya.hears_all_of("You said: How do I prune a pear?")
    assert maya.complaints() == []
