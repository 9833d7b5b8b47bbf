"""Notices about the ways into an account: they are told on other devices, until they are dismissed."""

from playwright.sync_api import expect

from tests.journeys.people import PHONE

NEW_SIGN_IN = "New sign-in to your account"


def notices(tab):
    return tab.page.locator('[class*="st-key-notice-"]')


def test_sign_in_of_a_second_browser_is_told_until_it_is_dismissed(app, person):
    maya, phone = person(), person()
    maya.arrives()
    expect(notices(maya)).to_have_count(0)

    phone.email = maya.email
    phone.signs_in()

    maya.is_told(NEW_SIGN_IN, "/usage")
    expect(notices(maya)).to_contain_text(["Chrome on Linux"])
    phone.visit("/account")
    expect(phone.page.get_by_role("heading", name="Devices")).to_be_visible()
    expect(notices(phone)).to_have_count(0)
    notices(maya).get_by_role("link", name="Account").click()
    expect(maya.page.get_by_role("heading", name="Devices")).to_be_visible()
    dismiss = notices(maya).get_by_role("button", name="Dismiss")
    dismiss.focus()
    maya.page.keyboard.press("Enter")
    expect(notices(maya)).to_have_count(0)

    maya.visit("/account")
    expect(maya.page.get_by_role("heading", name="Devices")).to_be_visible()
    expect(notices(maya)).to_have_count(0)
    maya.page.get_by_text("Show changes and failed attempts").click()
    maya.sees("Account created")
    maya.page.set_viewport_size(PHONE)
    table = maya.page.locator(".st-key-audit-table .db-grid")
    assert table.evaluate("table => table.scrollWidth <= table.clientWidth")
    assert maya.complaints() == []
    assert phone.complaints() == []
