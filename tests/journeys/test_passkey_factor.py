"""A passkey as second factor: switched on on the page Account, asked for as second step, and a recovery code in its place."""

import pytest
from playwright.sync_api import expect

from tests.journeys.conftest import STORES
from tests.journeys.people import PHONE
from tests.journeys.test_access import Look
from tests.journeys.test_factor import gives
from tests.journeys.test_factor_setup import button, codes
from tests.journeys.test_passkeys import (
    Authenticator,
    adds,
    press,
    signs_out,
)
from tests.journeys.test_passkeys import app as app  # a fixture
from tests.journeys.test_passkeys import local as local

SWITCH = "Ask for a passkey as my second step"
USE = "Use your passkey"


def switch(tab):
    """Press the switch, by its label: the control itself lies behind it."""
    control = tab.page.get_by_role("switch", name=SWITCH, include_hidden=True)
    is_on = control.is_checked()
    tab.page.get_by_text(SWITCH, exact=True).click()
    expect(tab.dialog).to_be_visible()
    expect(control).to_be_checked(checked=is_on)
    # a dialog that is closed before the page has set the control back opens again
    tab.sees_no_reply_coming()


def enters_password(tab):
    tab.visit()
    tab.enters("/session", tab.email)


@pytest.mark.parametrize("store", STORES)
def test_passkey_is_asked_for_after_the_password(person, local):
    maya = person(url=local, reduced_motion="reduce", has_touch=True)
    look, list_ = Look(maya, PHONE), maya.page.locator(".st-key-second-factor")
    maya.arrives()
    Authenticator(maya)
    adds(maya)
    look.at("the switch")

    switch(maya)
    maya.page.keyboard.press("Escape")
    expect(maya.dialog).to_have_count(0)
    switch(maya)
    look.at("the question")
    maya.dialog.get_by_role("button", name="Turn on").click()
    shown = codes(maya)
    look.at("the recovery codes")
    maya.page.get_by_role("link", name="Continue").click()
    expect(list_).to_contain_text("Asked for as your second step")
    look.at("a proof")
    assert not {*shown} & {*maya.page.content().split()}

    signs_out(maya)
    enters_password(maya)
    expect(button(maya, USE)).to_be_visible()
    look.at("the passkey")
    press(maya, USE)
    maya.is_welcome()
    assert "step" not in maya.page.url

    signs_out(maya)
    enters_password(maya)
    press(maya, "Use a recovery code")
    look.at("the recovery code")
    gives(maya, "Recovery code", shown[0])
    maya.is_welcome()

    maya.visit("/account")
    expect(list_).to_contain_text("9 of 10 left")
    look.at("asked for")
    switch(maya)
    look.at("the question to turn it off")
    maya.dialog.get_by_role("button", name="Turn off").click()
    maya.sees("Signing in no longer asks for a passkey as your second step.")
    signs_out(maya)
    maya.signs_in()
    maya.is_welcome()

    assert look.found == []


@pytest.mark.long_run
def test_passkey_that_is_not_there_is_told_and_another_will_do(person, local):
    maya = person(url=local)
    maya.arrives()
    key = Authenticator(maya)
    adds(maya)
    switch(maya)
    maya.dialog.get_by_role("button", name="Turn on").click()
    shown = codes(maya)
    signs_out(maya)
    key.plug_in()
    enters_password(maya)

    press(maya, USE)

    expect(maya.page.locator(".db-told")).to_be_visible()
    press(maya, "Use a recovery code")
    gives(maya, "Recovery code", shown[1])
    maya.is_welcome()
