"""Codes by mail, over a mail server of the tests: to sign in, to choose a new password, and to prove who is signed in."""

import pytest
from playwright.sync_api import expect

from tests.confirmed import confirm
from tests.journeys.conftest import STORES
from tests.journeys.people import DESK, PASSWORD, PHONE
from tests.journeys.seeds import age_proofs, second_process
from tests.journeys.test_access import Look
from tests.stack.apps import until
from tests.store.conftest import new_email

NEW_PASSWORD = "another horse, another battery"
pytestmark = pytest.mark.parametrize("store", STORES)


@pytest.fixture
def app(mail_app):
    return mail_app


@pytest.fixture
def email(app):
    """The confirmed address of a new user."""
    email = new_email()
    with second_process(app) as accounts:
        confirm(accounts, accounts.sign_up_with(email, PASSWORD)[1])
    return email


def coded(mails):
    """The mails with codes, without those that tell of a new device."""
    return [mail for mail in mails.received if mail.code]


def code_for(mails, address, number=0):
    """Return the code with this *number*, counted from 0, of those that were mailed to *address*."""

    def codes():
        return [one.code for one in coded(mails) if one.recipients == [address]][number:]

    return until(codes)[0]


def told(mails):
    """The mails without codes, but for those that tell of a new device."""
    return [
        one for one in mails.received if not one.code and one.message["Subject"] != "New sign-in"
    ]


def form(tab, path):
    return tab.page.locator(f'form[action="{path}"]:visible')


def asks_for_a_code(tab, link, email, before=""):
    """From the sign-in page, by the button *link*; *before*: the button that leads to it."""
    tab.visit("/")
    for name in filter(None, (before, link)):
        button = tab.page.get_by_role("button", name=name)
        button.click()
        expect(button).to_have_count(0)  # else the field may be that of the form before
    form(tab, "/code").get_by_label("Email").fill(email)
    form(tab, "/code").get_by_role("button", name="Send code").click()
    expect(form(tab, "/code/redeem")).to_be_visible()


def enters(tab, code, button):
    form(tab, "/code/redeem").get_by_label("Code", exact=True).fill(code)
    form(tab, "/code/redeem").get_by_role("button", name=button).click()


def test_user_signs_in_by_a_code_and_resets_the_password(app, mails, person, email):
    maya = person(url=app.url, viewport=DESK)
    maya.visit("/")
    form(maya, "/session").get_by_label("Email").fill(email)
    maya.page.get_by_role("button", name="Sign in with a code").click()
    field = form(maya, "/code").get_by_label("Email")
    expect(field).to_have_value(email)
    expect(field).to_be_focused()
    maya.page.keyboard.press("Enter")
    expect(form(maya, "/code/redeem").get_by_label("Code", exact=True)).to_be_focused()
    look = Look(maya)
    look.at("code")
    code = until(lambda: coded(mails))[0].code
    enters(maya, "0000 0000" if code != "00000000" else "1111 1111", "Sign in")
    maya.sees("Wrong code.")
    enters(maya, f"{code[:4]} {code[4:]}", "Sign in")
    maya.is_welcome()
    assert email not in maya.page.url
    assert "step" not in maya.page.url

    phone = person(url=app.url, viewport=PHONE, has_touch=True)
    asks_for_a_code(phone, "Forgot your password?", email)
    look_at_reset = Look(phone)
    look_at_reset.at("reset")
    expect(phone.page.locator(".db-sent-to")).to_have_text(f"Email: {email}")
    # for the password manager
    expect(form(phone, "/code/redeem").locator('[name="email"]')).to_have_value(email)
    code = until(lambda: coded(mails)[1:])[0].code
    form(phone, "/code/redeem").get_by_label("New password").fill(NEW_PASSWORD)
    enters(phone, code, "Reset password")
    phone.is_welcome()

    maya.is_asked_to_sign_in()  # its tab hears of it by itself
    maya.enters("/session", email, NEW_PASSWORD)
    maya.is_welcome()
    notice = until(lambda: told(mails))[0]
    assert (notice.recipients, notice.message["Subject"]) == ([email], "Password reset")
    assert look.found + look_at_reset.found == []
    assert code not in app.said()
    assert email not in app.said()


@pytest.mark.long_run
def test_code_takes_the_place_of_the_password_as_a_proof(app, mails, person, email):
    omar = person(url=app.url, viewport=PHONE, has_touch=True)
    omar.visit("/")
    omar.enters("/session", email)
    omar.is_welcome()
    age_proofs(app)

    omar.visit("/account")
    omar.page.get_by_role("button", name="Change password").click()
    omar.sees("Confirm that it is you")
    look = Look(omar)
    look.at("proof")
    form(omar, "/code").get_by_role("button", name="Send code").click()
    expect(form(omar, "/code/redeem")).to_be_visible()
    look.at("proof-code")
    enters(omar, until(lambda: coded(mails))[0].code, "Confirm")

    omar.sees("You can make changes for the next ten minutes.")
    expect(form(omar, "/account/password?then=password")).to_be_visible()
    assert look.found == []
