"""Two-step verification: set up with a code of an app on the page Account, turned off again, and required of all."""

import re
from datetime import UTC, datetime

import pytest
from playwright.sync_api import expect
from pyotp import TOTP

from tests.journeys.conftest import STORES
from tests.journeys.people import FOR_EVER, PHONE, Person
from tests.journeys.seeds import reply_states
from tests.journeys.test_access import Look
from tests.journeys.test_codes import form
from tests.journeys.test_passkeys import Authenticator, adds
from tests.stack.apps import running


def button(tab, name):
    return tab.page.get_by_role("button", name=name, exact=True)


def begin(tab):
    """Open the page with the setup key; return the key."""
    tab.visit("/account")
    button(tab, "Set up").click()
    button(tab, "Show setup key").click()
    return setup_key(tab)


def setup_key(tab):
    """Return the setup key of the page."""
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
    maya, lost = person(reduced_motion="reduce", has_touch=True), person()
    maya.arrives()
    look = Look(maya, PHONE)
    lost.email = maya.email
    lost.signs_in()
    maya.visit("/account")
    expect(button(maya, "Set up")).to_be_visible()
    look.at("no factor")
    key = begin(maya)
    look.at("the setup key")
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
    look.at("a factor")
    for name, title in (
        ("Replace app", "Replace authenticator app"),
        ("New recovery codes", "New recovery codes"),
        ("Turn off", "Turn off two-step verification"),
    ):
        button(maya, name).click()
        expect(maya.dialog).to_contain_text(title)
        look.at(title)
        maya.page.keyboard.press("Escape")
        expect(maya.dialog).to_have_count(0)
        expect(button(maya, name)).to_be_focused()
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
    assert look.found == []
    assert maya.complaints() == []


@pytest.mark.long_run
def test_authenticator_app_is_replaced_by_another(person):
    maya = person()
    maya.arrives()
    old = begin(maya)
    confirm(maya, TOTP(old).now())
    before = codes(maya)
    maya.page.get_by_role("link", name="Continue").click()

    button(maya, "Replace app").click()
    maya.dialog.get_by_role("button", name="Set up new app").click()
    key = setup_key(maya)
    confirm(maya, TOTP(key).now())
    assert not {*before} & {*codes(maya)}
    maya.page.reload()
    expect(maya.page.get_by_role("heading")).to_have_text("Recovery codes already shown")
    maya.visit("/account")
    maya.sees("10 of 10 left")

    maya.signs_out()
    maya.visit()
    maya.enters("/session", maya.email)
    code = form(maya, "/factor").get_by_label("Code", exact=True)
    for one, app in ((old, "old"), (key, "new")):
        code.fill(TOTP(one).at(datetime.now(UTC), counter_offset=1))  # this step's was used
        form(maya, "/factor").get_by_role("button", name="Sign in").click()
        if app == "old":
            maya.sees("Wrong code.")
    maya.is_welcome()
    assert maya.complaints() == []


@pytest.mark.long_run
@pytest.mark.parametrize("store", STORES)
def test_admin_requires_two_step_verification_of_all(make_app, browser, store):
    """Who has not set it up is signed out, and sets it up on the way in, or uses a passkey; a reply that is under way is kept."""
    with running(make_app("required", store)) as app:
        app.until_ready()
        ruth, omar = (Person(browser, app.url, name) for name in ("ruth", "omar"))
        maya = Person(browser, app.url, "maya", viewport=PHONE, has_touch=True)
        noor = Person(browser, app.url.replace("127.0.0.1", "localhost"), "noor")
        try:
            for one in (ruth, maya, noor):
                one.arrives()
            Authenticator(noor)
            adds(noor)
            maya.asks(f"Peas {FOR_EVER}")
            maya.hears("word2")
            switch = ruth.page.get_by_role("switch", name="Require two-step verification")
            ruth.visit("/admin?tab=Settings")
            ruth.sees("Set up two-step verification for your own account first.")
            expect(switch).to_have_count(0)
            look = Look(ruth)
            look.at("an admin without a factor")
            sets_up_a_factor(ruth)
            ruth.visit("/admin?tab=Settings")
            switch.press("Space")
            expect(ruth.dialog).to_contain_text(
                "Devices that signed in without a second step are signed out"
            )
            look.at("the question")
            ruth.page.keyboard.press("Escape")
            expect(ruth.dialog).to_have_count(0)
            expect(switch).to_have_count(1)
            expect(switch).not_to_be_checked()
            switch.press("Space")
            ruth.dialog.get_by_role("button", name="Require it").click()
            ruth.sees("Nobody signs in without a second step")
            expect(switch).to_have_count(1)  # the one before is fading
            expect(switch).to_be_checked()
            maya.is_signed_out_before_long()
            assert reply_states(app) == ["interrupted"]

            maya.enters("/session", maya.email)
            look_at_phone = Look(maya)
            maya.sees("Two-step verification is required here.")
            look_at_phone.at("a factor to be set up")
            button(maya, "Show setup key").click()
            key = setup_key(maya)
            look_at_phone.at("its setup key")
            confirm(maya, "12345")
            expect(maya.page.get_by_role("alert")).to_contain_text("Wrong code")
            confirm(maya, TOTP(key).now())
            shown = codes(maya)
            maya.page.get_by_role("link", name="Continue").click()
            maya.is_welcome()
            assert look_at_phone.found == []
            assert not [one for one in (key, *shown) if one in app.said()]

            noor.is_signed_out_before_long()
            noor.enters("/session", noor.email)
            button(noor, "Use your passkey").click()
            assert len(codes(noor)) == 10
            noor.page.get_by_role("link", name="Continue").click()
            noor.sees("Asked for as your second step")

            omar.visit()
            omar.page.get_by_role("tab", name="Create account").click()
            omar.enters("/account", omar.email)
            omar.sees("Two-step verification is required here.")
            look_at_desk = Look(omar)
            look_at_desk.at("a factor of a new account")
            assert look_at_desk.found == []

            switch.press("Space")
            ruth.dialog.get_by_role("button", name="Stop requiring it").click()
            ruth.sees("Users choose if")
            expect(switch).to_have_count(1)
            expect(switch).not_to_be_checked()
            omar.arrives()
            assert look.found == []
            assert [
                complaint for one in (ruth, maya, noor, omar) for complaint in one.complaints()
            ] == []
        finally:
            for one in (ruth, maya, noor, omar):
                one.leaves()
