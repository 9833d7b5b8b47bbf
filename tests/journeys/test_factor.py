"""The second factor of an account at sign-in and at a reset, by an authenticator app and by recovery codes."""

import pytest
from playwright.sync_api import expect

from tests.authenticator import Authenticator
from tests.confirmed import confirm
from tests.journeys.conftest import STORES
from tests.journeys.people import DESK, PASSWORD, PHONE
from tests.journeys.seeds import BY_AN_OPERATOR, operate, second_process
from tests.journeys.test_access import Look
from tests.journeys.test_codes import NEW_PASSWORD, asks_for_a_code, coded, form
from tests.journeys.test_codes import app as app  # a fixture: an app with mail
from tests.stack.apps import until
from tests.store.conftest import new_email

pytestmark = [pytest.mark.long_run, pytest.mark.parametrize("store", STORES)]


@pytest.fixture
def authenticator():
    return Authenticator()


@pytest.fixture
def email(app, authenticator):
    """The confirmed address of a new user with a second factor."""
    email = new_email()
    with second_process(app) as accounts:
        _, session = accounts.sign_up_with(email, PASSWORD)
        confirm(accounts, session)
        authenticator.enrol(accounts, session)
    return email


def gives(tab, label, text, button="Sign in"):
    """Enter *text* for the factor."""
    form(tab, "/factor").get_by_label(label, exact=True).fill(text)
    form(tab, "/factor").get_by_role("button", name=button).click()


def test_user_signs_in_with_the_factor_and_with_a_recovery_code(app, person, authenticator, email):
    """Until an operator resets the factor, after which the password alone opens the account."""
    maya = person(url=app.url, viewport=DESK)
    maya.visit("/")
    maya.enters("/session", email)
    expect(maya.page.get_by_role("heading", name="Enter the code of your")).to_be_visible()
    look = Look(maya)
    look.at("factor")
    gives(maya, "Code", authenticator.wrong)
    maya.sees("Wrong code.")
    code = authenticator.code()
    gives(maya, "Code", f"{code[:3]} {code[3:]}")
    maya.is_welcome()
    assert email not in maya.page.url
    assert "step" not in maya.page.url

    phone = person(url=app.url, viewport=PHONE, has_touch=True)
    phone.visit("/")
    phone.enters("/session", email)
    phone.page.get_by_role("button", name="Use a recovery code").click()
    expect(form(phone, "/factor").get_by_label("Recovery code")).to_be_visible()
    look_at_recovery = Look(phone)
    look_at_recovery.at("recovery")
    gives(phone, "Recovery code", authenticator.recovery[0].lower())
    phone.is_welcome()
    assert look.found + look_at_recovery.found == []

    operate(app, "reset-factors", email)
    maya.is_signed_out_before_long()
    maya.enters("/session", email)
    maya.is_welcome()
    maya.is_told(BY_AN_OPERATOR, "/account")
    expect(maya.page.get_by_role("button", name="Set up")).to_be_visible()
    for secret in (code, authenticator.recovery[0], email):
        assert secret not in app.said()


@pytest.mark.parametrize("is_kept", [True, False])
def test_reset_lists_the_factor_and_asks_for_it(app, mails, person, authenticator, email, is_kept):
    phone = person(url=app.url, viewport=PHONE, has_touch=True)
    asks_for_a_code(phone, "Forgot your password?", email)
    form(phone, "/code/redeem").get_by_label("New password").fill(NEW_PASSWORD)
    form(phone, "/code/redeem").get_by_label("Code", exact=True).fill(
        until(lambda: coded(mails))[0].code
    )
    form(phone, "/code/redeem").get_by_role("button", name="Reset password").click()
    kept = form(phone, "/factor").get_by_role("checkbox", name="Authenticator app, added on")
    expect(kept).to_be_checked()
    look = Look(phone)
    look.at("reset")
    kept.set_checked(is_kept)
    phone.page.get_by_role("button", name="Use a recovery code").click()
    expect(form(phone, "/factor").get_by_label("Recovery code")).to_be_visible()
    expect(kept).to_be_checked(checked=is_kept)
    gives(phone, "Recovery code", authenticator.wrong, "Reset password")
    phone.sees("Wrong code.")
    expect(kept).to_be_checked(checked=is_kept)
    phone.page.get_by_role("button", name="Use the app").click()
    gives(phone, "Code", authenticator.code(), "Reset password")
    phone.is_welcome()

    maya = person(url=app.url, viewport=DESK)
    maya.visit("/")
    maya.enters("/session", email, NEW_PASSWORD)
    if is_kept:
        expect(form(maya, "/factor")).to_be_visible()
        gives(maya, "Code", authenticator.code(1))
    maya.is_welcome()
    assert look.found == []
