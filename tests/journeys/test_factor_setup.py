"""Two-step verification: set up with a code of an app on the page Account, and turned off again."""

import re

import pytest
from playwright.sync_api import expect
from pyotp import TOTP

from tests.journeys.people import DESK, PHONE
from tests.journeys.test_access import Look

SIZES = {"desk": {"viewport": DESK}, "phone": {"viewport": PHONE, "has_touch": True}}


def button(tab, name):
    return tab.page.get_by_role("button", name=name, exact=True)


def begin(tab):
    """Open the page with the setup key; return the key."""
    tab.visit("/account")
    button(tab, "Set up").click()
    key = tab.page.locator(".db-once code").inner_text()
    return re.sub(r"\s", "", key)


def confirm(tab, digits):
    tab.page.get_by_role("textbox", name="6-digit code").fill(digits)
    button(tab, "Confirm").click()


def codes(tab):
    """Return the recovery codes of the page."""
    expect(tab.page.get_by_role("listitem")).to_have_count(10)
    return tab.page.get_by_role("listitem").all_inner_texts()


def sets_up_a_factor(tab):
    """Set up a factor, and go back to the page Account."""
    confirm(tab, TOTP(begin(tab)).now())
    codes(tab)
    tab.page.get_by_role("link", name="Continue").click()
    tab.sees("10 of 10 left")


def test_two_step_verification_is_set_up_and_turned_off(person):
    maya, lost = person(), person()
    maya.arrives()
    lost.email = maya.email
    lost.signs_in()
    key = begin(maya)
    assert key not in maya.page.url
    confirm(maya, "12345")
    expect(maya.page.get_by_role("alert")).to_contain_text("Wrong code")

    maya.page.get_by_role("checkbox", name="Sign out my other devices").check()
    confirm(maya, TOTP(key).now())
    shown = codes(maya)
    with maya.page.expect_download() as download:
        button(maya, "Download").click()
    assert all(code in download.value.path().read_text() for code in shown)
    lost.is_asked_to_sign_in()

    maya.page.reload()
    expect(maya.page.get_by_role("heading")).to_have_text("Recovery codes already shown")
    maya.page.get_by_role("link", name="Open Account").click()
    maya.sees("10 of 10 left")
    button(maya, "New recovery codes").click()
    maya.dialog.get_by_role("button", name="Make new codes").click()
    assert not {*shown} & {*codes(maya)}
    maya.page.get_by_role("link", name="Continue").click()

    button(maya, "Turn off").click()
    maya.dialog.get_by_role("button", name="Turn off").click()
    maya.sees("Two-step verification is off.")
    maya.signs_out()
    maya.visit()
    maya.signs_in()
    maya.is_welcome()
    assert maya.complaints() == []


@pytest.mark.parametrize("size", SIZES)
def test_two_step_verification_has_no_barrier(person, size):
    maya = person(reduced_motion="reduce", **SIZES[size])
    maya.arrives()
    look = Look(maya)

    maya.visit("/account")
    expect(button(maya, "Set up")).to_be_visible()
    look.at("no factor")
    begin(maya)
    look.at("the setup key")
    sets_up_a_factor(maya)
    look.at("a factor")
    for name, title in (
        ("New recovery codes", "New recovery codes"),
        ("Turn off", "Turn off two-step verification"),
    ):
        button(maya, name).click()
        expect(maya.dialog).to_contain_text(title)
        look.at(title)
        maya.page.keyboard.press("Escape")
        expect(maya.dialog).to_have_count(0)

    assert look.found == []
    assert maya.complaints() == []
