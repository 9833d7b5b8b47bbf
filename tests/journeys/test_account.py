"""The page Account: a new password, entered by keyboard, and the sessions that it ends."""

import pytest
from playwright.sync_api import expect

NEW_PASSWORD = "another horse, another battery"


def form(tab):
    return tab.page.locator('form[action^="/account/password"]')


def enters(tab, password):
    """Fill in the form and send it, by keyboard."""
    form(tab).get_by_label("New password").focus()
    tab.page.keyboard.type(password)
    tab.page.keyboard.press("Enter")


@pytest.mark.long_run
def test_new_password_signs_out_everywhere_else_and_replaces_the_old_one(person):
    maya, elsewhere = person(), person()
    maya.arrives()
    elsewhere.email = maya.email
    elsewhere.signs_in()
    maya.page.locator(".st-key-account-menu button").click()
    maya.page.get_by_role("menuitem", name="Account", exact=True).click()
    expect(maya.page.locator("main").get_by_text(maya.email)).to_be_visible()

    maya.page.get_by_role("button", name="Change password").click()
    enters(maya, "1qaz2wsx3edc")
    maya.sees("Nothing was changed. This is one of the most common passwords.")
    enters(maya, NEW_PASSWORD)
    maya.sees("Password changed. You are signed out everywhere else.")

    elsewhere.is_asked_to_sign_in()  # the other tab learns of it by itself
    elsewhere.enters("/session", maya.email)
    elsewhere.sees("Wrong email or password.")
    elsewhere.enters("/session", maya.email, NEW_PASSWORD)
    elsewhere.is_welcome()
    maya.visit()
    maya.is_welcome()
